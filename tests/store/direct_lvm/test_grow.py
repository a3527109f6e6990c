# SPDX-License-Identifier: Apache-2.0
"""A pool extended by commands, by a larger disk and by policy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.store import Store
from tests.store.direct_lvm.groups import MIB, disk, lvm
from tests.support.stores import KERNEL, assert_sound, assert_sound_for_real_tools, disks_of, set_up, state_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.direct_lvm
def test_growing_while_it_holds_data(root: Path, tmp_path: Path) -> None:
    os.environ["LAMELLA_ROOT"] = str(root)
    before = state_of(root)
    more = disk(tmp_path / "third", 320 * MIB)
    if KERNEL:
        with Store.open(root) as store:
            store.activate()
    lvm("vgextend", "docker", more)
    lvm("lvextend", "-L", "+200M", "docker/thinpool")
    lvm("lvextend", "--poolmetadatasize", "+8M", "docker/thinpool")
    with Store.open(root, read_only=True) as store:
        info = store.info()
        if KERNEL:
            assert (info.data_total, info.metadata_total) == (456 * MIB, 12 * MIB)
        else:
            assert any("has been grown" in warning for warning in info.warnings)
    assert state_of(root) == before
    Store.setup(root, storage_options=["dm.min_free_space=10%"]).close()
    with Store.open(root) as store:
        info = store.info()
        assert info.data_total == 456 * MIB
        assert info.metadata_total == 12 * MIB
        assert info.min_free == 456 * MIB * 10 // 100 // 65536 * 65536
        store.create("sample", name="after")
        with store.devices.volume(store.inspect("after")["Id"], read_only=False) as volume:
            volume.write(0 + volume.size - MIB, b"x" * MIB)
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)
    with Store.open(root) as store:
        assert store.teardown(force=True) == []
    assert b"LABELONE" in more.open("rb").read(4096)  # pvcreate by hand, so pvremove by hand


@pytest.mark.direct_lvm
def test_a_larger_disk(root: Path) -> None:
    """A file that has grown, while the kernel has the pool on it, in its engine."""
    os.environ["LAMELLA_ROOT"] = str(root)
    with Store.open(root) as store:
        before = store.info().data_total
    file = disks_of(root)[1]
    os.truncate(file, 320 * MIB)
    lvm("pvresize", file)
    assert main(["grow", "--root", str(root), "--data", "+100M"]) == 0
    with Store.open(root) as store:
        assert store.info().data_total == before + 100 * MIB
        assert store.create("sample")
    assert_sound(root)


def test_growing_by_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    with set_up(root, "direct-lvm", "dm.basesize=256M") as store:
        total = store.info().data_total
        with store.devices.volume("base", read_only=False) as volume:
            for offset in range(8 * MIB, 250 * MIB, MIB):
                volume.write(offset, b"\xa5" * MIB)
    monkeypatch.setenv("LAMELLA_ROOT", str(root))
    lvm("lvextend", "--use-policies", "docker/thinpool")
    with Store.open(root) as store:
        store.devices.check_free_space()
        assert store.info().data_total == -(-total * 120 // 100 // (4 * MIB)) * 4 * MIB
    with Store.open(root) as store:
        again = store.info().data_total
    lvm("lvextend", "--use-policies", "docker/thinpool")
    with Store.open(root) as store:
        assert store.info().data_total == again
