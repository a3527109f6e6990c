# SPDX-License-Identifier: Apache-2.0
"""Containers created with their devices, and removed without waiting for the kernel to free these."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.nodes import QUIET_COOKIE
from lamella.devicemapper.table import Error, Thin, Zero, parse_target
from lamella.driver.device_names import device_name, pool_name
from lamella.driver.kernel_devices import of_store
from lamella.errors import BusyError, LamellaError
from lamella.store import Store
from lamella.thin.kernel import quick_removal
from tests.guest.stores_in_kernel import kernel_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with kernel_store(tmp_path_factory.mktemp("quick")) as made:
        yield made


@pytest.fixture(autouse=True, params=[1, 2], ids=["one processor", "several"])
def _processors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test both ways to remove a device, which work on any kernel and differ in speed."""
    monkeypatch.setattr(quick_removal, "has_grace_periods", lambda: request.param > 1)


@pytest.fixture
def dm() -> Iterator[DeviceMapper]:
    with DeviceMapper() as client:
        yield client


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root, engine="kernel") as opened:
        yield opened


def devices(dm: DeviceMapper, root: Path) -> list[str]:
    """The devices other than the pool, once udev has processed its events."""
    end = time.monotonic() + 30
    while True:
        found = [info for info in of_store(dm, root) if info.name != pool_name(root)]
        if not found or time.monotonic() > end:
            return [f"{info} {dm.table(info.name)}" for info in found]
        time.sleep(0.02)


def thin_ids(store: Store) -> set[int]:
    return set(store.devices.pool.devices())


def test_made_with_its_device_and_gone_when_removed(root: Path, store: Store, dm: DeviceMapper) -> None:
    before = thin_ids(store)
    made = store.create("sample", name="quick", activate=True)
    node = store.node("quick")
    device = store.devices.get(made.id)
    target = parse_target(dm.table(node.name)[0].line)
    assert isinstance(target, Thin)
    assert target.device_id == device.device_id
    assert os.stat(node).st_rdev == os.makedev(*map(int, dm.info(node.name).number.split(":")))
    assert thin_ids(store) == before | {device.device_id}
    assert store.remove_container("quick") == []
    assert devices(dm, root) == []
    assert not os.path.lexists(node)
    assert thin_ids(store) == before
    assert store.devices.state.note() is None


def test_a_device_that_cannot_come_leaves_no_container(
    root: Path, store: Store, dm: DeviceMapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = thin_ids(store)
    identity = "ab" * 32
    monkeypatch.setattr("lamella.store.names.new_id", lambda: identity)
    name = device_name(root, identity)
    # udev must not name it: it may come so late that the next device already has the number.
    dm.create_with_table(name, [Zero(0, 8)], cookie=QUIET_COOKIE)
    try:
        with pytest.raises(BusyError, match="is active, but is not thin device"):
            store.create("sample", name="taken", activate=True)
    finally:
        dm.remove(name, retry=5.0, cookie=QUIET_COOKIE)
    assert store.containers() == []
    assert thin_ids(store) == before
    assert store.devices.state.note() is None


def test_who_has_it_open_keeps_it_whole(root: Path, store: Store, dm: DeviceMapper) -> None:
    made = store.create("sample", name="kept", activate=True)
    node = store.node("kept")
    content = node.read_bytes()[:65536]
    with node.open("rb", buffering=0) as file:
        with pytest.raises(BusyError, match="in use"):
            quick_removal.quick_remove(dm, dm.info(node.name))
        assert dm.table(node.name)[0].kind == "thin"
        assert store.remove_container("kept")
        assert os.pread(file.fileno(), 65536, 0) == content
        assert store.devices.state.device(made.id) is not None
    store.devices.retry_deletions()
    assert store.devices.state.device(made.id) is None
    assert devices(dm, root) == []


def test_a_removal_that_is_not_decided_changes_nothing(
    root: Path, store: Store, dm: DeviceMapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("sample", name="stays", activate=True)
    node = store.node("stays")
    content = node.read_bytes()[:65536]

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store.devices.state, "set_note", fail)
        with pytest.raises(LamellaError):
            store.remove_container("stays")
    assert [each.name for each in store.containers()] == ["stays"]
    assert dm.table(node.name)[0].kind == "thin"
    assert node.read_bytes()[:65536] == content
    store.remove_container("stays")
    assert devices(dm, root) == []


@pytest.mark.parametrize("again", ["opened", "activated"])
def test_a_removal_that_was_killed_half_way(root: Path, dm: DeviceMapper, again: str) -> None:
    with Store.open(root, engine="kernel") as store:
        store.create("sample", name="half", activate=True)
        node = store.node("half")
        content = node.read_bytes()[:65536]
        sectors = dm.table(node.name)[0].length
        dm.load(node.name, [Error(0, sectors)])
        dm.resume(node.name, flush=False, freeze=False, cookie=QUIET_COOKIE)
        if again == "activated":
            store.activate(["half"])
    with Store.open(root, engine="kernel") as store:
        if again == "opened":
            assert store.devices.warnings == []  # this opens the pool
            assert devices(dm, root) == []
        store.activate(["half"])
        assert node.read_bytes()[:65536] == content
        store.remove_container("half")
    assert devices(dm, root) == []
