# SPDX-License-Identifier: Apache-2.0
"""Containers mounted, changed, extended and unmounted; and processes that keep them busy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lamella.block import loop
from lamella.cli.main import main
from lamella.devicemapper.client import DeviceMapper
from lamella.driver.device_names import device_name
from lamella.errors import BusyError, NotFoundError
from lamella.fs.mounted.mount import mounted_at
from lamella.store import Store
from tests.guest.machine import run
from tests.guest.stores_in_kernel import (
    helper,
    kernel_store,
    mount_points,
    names_in_kernel,
    wait_until_gone,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with kernel_store(tmp_path_factory.mktemp("mounting")) as path:
        yield path


def create(root: Path, name: str) -> str:
    with Store.open(root, engine="kernel") as store:
        return store.create("sample", name=name).id


def test_mounted_changed_and_unmounted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = create(root, "web")
    assert main(["--root", str(root), "mount", "web"]) == 0
    point = root / "mnt" / identity
    assert capsys.readouterr().out == f"{point}\n"
    assert (point / "etc" / "hostname").read_bytes() == b"changed\n"
    write(point / "etc" / "new", b"by the kernel")
    private = mounted_at(root / "mnt")
    assert private is not None
    assert not private.shared
    with Store.open(root, engine="kernel") as store:
        assert store.mount("web") == point  # it is there already
        with pytest.raises(BusyError, match="is mounted writable"):
            store.mount("web", read_only=True)
        [summary] = store.containers()
        assert summary.mounted == [str(point)]
        state = store.inspect("web")["GraphDriver"]["State"]
        assert state == {"Active": True, "Suspended": False, "Mounted": [str(point)]}
        assert store.info().mounted == 1
        with store.tree("web") as tree:  # read while it is mounted, with what was written
            assert b"".join(tree.read(b"/etc/new")) == b"by the kernel"
    assert main(["--root", str(root), "ps"]) == 0
    assert str(point) in capsys.readouterr().out
    assert Store.unmount("web", root=root) == []
    assert mount_points(root) == []
    assert not point.exists()
    assert identity not in names_in_kernel(root)
    assert not os.path.lexists(f"/dev/mapper/{device_name(root, identity)}")
    with Store.open(root, engine="kernel") as store:
        assert [str(change) for change in store.diff("web")] == ["C /etc", "A /etc/new"]
    with pytest.raises(NotFoundError, match="not mounted"):
        Store.unmount("web", root=root)


def test_an_image_is_read_only_and_a_place_of_ones_own(root: Path, tmp_path: Path) -> None:
    with Store.open(root, engine="kernel") as store:
        point = store.mount("alone", tmp_path, options=["noatime"])
    line = mounted_at(point)
    assert line is not None
    assert line.read_only
    assert "noatime" in line.options
    with pytest.raises(OSError):
        (point / "new").touch()
    with Store.open(root, engine="kernel") as store, pytest.raises(BusyError, match=f"mounted at {tmp_path}"):
        store.remove_image("alone")
    assert Store.unmount(str(tmp_path), root=root) == []
    with pytest.raises(NotFoundError):
        Store.unmount(str(tmp_path), root=root)


def test_a_copy_in_another_namespace_goes_with_the_mount_point(root: Path) -> None:
    identity = create(root, "leaked")
    with Store.open(root, engine="kernel") as store:
        store.mount("leaked")
    with helper("pass", namespace=True):
        assert Store.unmount("leaked", root=root) == []
        assert identity not in names_in_kernel(root)


def test_deferred_removal_and_taking_it_back(root: Path, tmp_path: Path) -> None:
    identity = create(root, "held")
    name = device_name(root, identity)
    with Store.open(root, engine="kernel") as store:
        store.mount("held", tmp_path)
    with helper("pass", namespace=True) as process:
        [warning] = Store.unmount("held", root=root)
        assert f"mounted at {tmp_path} by process {process}" in warning
        assert "in another mount namespace" in warning
        with DeviceMapper() as dm:
            assert dm.info(name).deferred_remove
        with Store.open(root, engine="kernel") as store:
            store.mount("held")  # wanted again
        with DeviceMapper() as dm:
            assert not dm.info(name).deferred_remove
        [warning] = Store.unmount("held", root=root)
        assert f"process {process}" in warning
        with pytest.raises(BusyError, match=f"process {process}"):
            Store.deactivate(root=root)
        with Store.open(root, engine="kernel") as store:
            store.remove_container("held")  # deleted later
            assert store.info().deferred_deleted == 1
    wait_until_gone(root, identity)
    with Store.open(root, engine="kernel") as store:
        assert store.info().deferred_deleted == 0
        assert store.check().problems == []


def test_removing_what_is_mounted(root: Path) -> None:
    identity = create(root, "doomed")
    with Store.open(root, engine="kernel") as store:
        point = store.mount("doomed")
        with pytest.raises(BusyError, match=f"container doomed is mounted at {point}"):
            store.remove_container("doomed")
    with pytest.raises(BusyError, match=r"in use.*mounted at"):
        Store.deactivate(["doomed"], root=root)
    with Store.open(root, engine="kernel") as store:
        store.remove_container("doomed", force=True)
        assert store.info().deferred_deleted == 0
    assert identity not in names_in_kernel(root)
    assert mount_points(root) == []


def test_growing(root: Path) -> None:
    create(root, "small")
    with Store.open(root, engine="kernel") as store:
        point = store.mount("small")
        before = os.statvfs(point).f_blocks
        write(point / "kept", b"kept")
        assert store.resize("small", 96 << 20) == 96 << 20
        assert os.statvfs(point).f_blocks > before * 1.4
        assert (point / "kept").read_bytes() == b"kept"
    Store.unmount("small", root=root)
    with Store.open(root, engine="kernel") as store:
        assert store.resize("small", 32 << 20, more=True) == 128 << 20
        node = store.activate(["small"])[1]
        run("e2fsck", "-fn", str(node))
        point = store.mount("small")
        assert os.statvfs(point).f_blocks > before * 1.9
        assert (point / "kept").read_bytes() == b"kept"
    Store.unmount("small", root=root)


def test_all_down_and_all_up_again(root: Path) -> None:
    """The state after a boot, with the user engine used in between."""
    create(root, "kept")
    with Store.open(root, engine="kernel") as store:
        point = store.mount("kept")
        write(point / "file", b"kept")
    with pytest.raises(BusyError, match=f"mounted at {point}"):
        Store.deactivate(root=root)
    done = Store.deactivate(root=root, unmount=True)
    assert done[0] == f"Unmounted {point}."
    assert names_in_kernel(root) == set()
    assert loop.find(root / "pool" / "data") == []
    assert Store.deactivate(root=root) == ["Nothing was active."]
    with Store.open(root, engine="user") as store:
        with store.tree("kept") as tree:
            assert b"".join(tree.read(b"/file")) == b"kept"
        assert store.check().problems == []
    assert main(["--root", str(root), "activate", "kept"]) == 0
    assert {"pool"} < names_in_kernel(root)
    assert len(loop.find(root / "pool" / "data")) == 1
    with Store.open(root, engine="kernel") as store:
        point = store.mount("kept")
        assert (point / "file").read_bytes() == b"kept"
    Store.unmount("kept", root=root)
