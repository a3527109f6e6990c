# SPDX-License-Identifier: Apache-2.0
"""What is put right before and after a pool is opened, against a device-mapper in memory."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from lamella.devicemapper.table import Thin, Zero
from lamella.driver import reconcile
from lamella.driver.device_names import device_name, pool_name
from lamella.driver.reconcile import remove_stale, resume_suspended
from lamella.driver.state import Device, State
from lamella.errors import BusyError
from lamella.thin.kernel import active_pool
from lamella.thin.kernel.guard import INTERNAL
from tests.support.fake_kernel import MAJOR, FakeKernel, fake_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lamella.driver.kernel_devices import KernelDevices

KNOWN, UNKNOWN = "1" * 64, "2" * 64


def put(kernel: FakeKernel, name: str, *, thin: int = 0, uuid: str = "") -> None:
    """Activate a thin volume."""
    kernel.client.create_with_table(name, [Thin(0, 8, pool=f"{MAJOR}:0", device_id=thin)], uuid)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mapper"
    folder.mkdir()
    monkeypatch.setattr(reconcile, "DEV_MAPPER", folder)
    monkeypatch.setattr(reconcile, "make_name", lambda name, *_: (folder / name).touch())
    monkeypatch.setattr(reconcile, "drop_name", lambda name: (folder / name).unlink(missing_ok=True))
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with contextlib.closing(State.create(tmp_path / "state.db")) as made:
        with made.transaction():
            made.put_device(Device("base", 1, 4096, 0, initialized=True))
            made.put_device(Device(KNOWN, 2, 4096, 1))
        yield made


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[FakeKernel]:
    """With the store's pool, and a device of somebody else's."""
    with fake_kernel() as made:
        made.client.create_with_table(pool_name(tmp_path), [Zero(0, 8)])
        made.client.create_with_table("vg-lv", [Zero(0, 8)])
        yield made


def devices(kernel: FakeKernel, root: Path) -> KernelDevices:
    pool = SimpleNamespace(
        dm_name=pool_name(root), target=SimpleNamespace(data="7:0", metadata="7:1"), info=None
    )
    return cast("KernelDevices", SimpleNamespace(dm=kernel.client, root=root, pool=pool))


def woken(kernel: FakeKernel, root: Path, *, alone: bool = True) -> list[str]:
    kernel.calls.clear()
    resume_suspended(kernel.client, root, pool_name(root), alone=alone)
    return [
        call.replace(str(device_name(root, KNOWN)), "X").replace(pool_name(root), "P")
        for call in kernel.calls
    ]


def test_resume_suspended(kernel: FakeKernel, tmp_path: Path) -> None:
    name = device_name(tmp_path, KNOWN)
    table = [Thin(0, 16, pool=f"{MAJOR}:0", device_id=2)]
    put(kernel, name, thin=2)
    assert woken(kernel, tmp_path) == []
    kernel.client.load(name, table)
    assert woken(kernel, tmp_path) == ["clear X"]
    kernel.client.load(name, table)
    kernel.client.suspend(name)
    kernel.client.suspend(pool_name(tmp_path))
    kernel.client.suspend("vg-lv")
    assert woken(kernel, tmp_path, alone=False) == ["resume P"]
    assert woken(kernel, tmp_path) == ["resume X"]
    assert kernel.device(name).live[0].length == 16
    assert woken(kernel, tmp_path) == []
    assert kernel.device("vg-lv").suspended  # not ours
    kernel.client.remove(name)
    kernel.client.create(name)
    assert woken(kernel, tmp_path) == ["remove X"]
    kernel.client.create(name)
    kernel.client.load(name, table)
    assert woken(kernel, tmp_path) == ["remove X"]


def test_a_suspended_pool_of_lvms_is_not_ours_to_resume(
    kernel: FakeKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_pool, "SUSPEND_TIMEOUT", 0)
    kernel.client.suspend("vg-lv")
    with pytest.raises(BusyError, match="vg-lv is suspended") as caught:
        resume_suspended(kernel.client, tmp_path, "vg-lv", alone=True)
    assert "dmsetup resume vg-lv" in str(caught.value.hint)
    assert kernel.device("vg-lv").suspended


def test_a_command_of_lvms_is_waited_for(
    kernel: FakeKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.client.suspend("vg-lv")
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            kernel.client.resume("vg-lv")

    monkeypatch.setattr("time.sleep", sleep)
    resume_suspended(kernel.client, tmp_path, "vg-lv", alone=True)
    assert len(waited) == 3


def test_remove_stale(
    kernel: FakeKernel, tmp_path: Path, state: State, names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unknown, base = (device_name(tmp_path, each) for each in (KNOWN, UNKNOWN, "base"))
    other = device_name(tmp_path, "device-9")
    put(kernel, known, thin=2)
    put(kernel, unknown, thin=3)
    put(kernel, base, thin=7)  # another device than the base
    put(kernel, other, thin=9, uuid=f"{INTERNAL}x")
    for name in (unknown, base, device_name(tmp_path, "3" * 64), "vg-lv", "vg-gone"):
        (names / name).touch()
    assert remove_stale(devices(kernel, tmp_path), state) == []
    assert {device.name for device in kernel.devices.values()} == {pool_name(tmp_path), "vg-lv", known, other}
    assert {path.name for path in names.iterdir()} == {known, "vg-lv", "vg-gone"}
    put(kernel, unknown, thin=3)
    kernel.device(unknown).opened = 1
    monkeypatch.setattr(reconcile.holders, "holders", lambda *_: [])
    [warning] = remove_stale(devices(kernel, tmp_path), state)
    assert warning.startswith(f"device {unknown} is active though state.db has no such device, and in use: ")
    assert kernel.client.find(unknown) is not None


def test_a_pool_file_on_a_second_loop_device(
    kernel: FakeKernel, tmp_path: Path, state: State, names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "data").touch()
    found = [SimpleNamespace(path="/dev/null"), SimpleNamespace(path="/dev/zero")]
    monkeypatch.setattr("lamella.block.loop.find", lambda path: found)
    pool = devices(kernel, tmp_path)
    pool.pool.target.data = "7:3"  # the minor number of /dev/null
    [warning] = remove_stale(pool, state)
    assert f"{tmp_path}/pool/data is attached to /dev/zero as well" in warning
    assert "losetup -d /dev/zero" in warning
