# SPDX-License-Identifier: Apache-2.0
"""A pool extended by commands, by a larger disk and by policy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.driver.direct_lvm.group import Disks
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


@pytest.mark.direct_lvm
@pytest.mark.user_engine  # LVM2's udev rules look at disks of the kernel's, and update them
def test_a_disk_with_the_groups_earlier_text(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a power cut between the commits to two disks leaves it. LVM2 writes the newest text to both with its
    next change of the group (vgck(8), --updatemetadata); so does the next command that writes."""
    disk = disks_of(root)[1]
    before = area_of(disk)
    Store.grow(root, data="+4M")
    assert area_of(disk) != before
    put_area(disk, before)
    assert main(["check", "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert f"interrupted: a change of volume group docker, whose earlier state is still on {disk}" in said
    with Store.open(root) as store:
        store.create("sample")
    assert main(["check", "--root", str(root)]) == 0
    assert "interrupted" not in capsys.readouterr().out
    disks = Disks(root)
    session, found = disks.find("docker", disks_of(root))
    with session:
        assert found.notices == found.stale == []


@pytest.mark.direct_lvm
@pytest.mark.user_engine
def test_two_texts_of_one_age_are_left_to_the_administrator(root: Path) -> None:
    os.environ["LAMELLA_ROOT"] = str(root)
    disks = disks_of(root)
    before = [area_of(disk) for disk in disks]
    Store.grow(root, data="+4M")
    grown = area_of(disks[0])
    for each, area in zip(disks, before, strict=True):
        put_area(each, area)
    lvm("vgchange", "--addtag", "x", "docker")
    tagged = area_of(disks[1])
    put_area(disks[0], grown)
    with Store.open(root) as store:
        store.create("sample")
        assert any("mismatch" in problem for problem in store.check().problems)
    assert (area_of(disks[0]), area_of(disks[1])) == (grown, tagged)


def area_of(disk: Path) -> bytes:
    """The label and the metadata area in front of the first extent."""
    with disk.open("rb") as file:
        return file.read(MIB)


def put_area(disk: Path, area: bytes) -> None:
    with disk.open("r+b") as file:
        file.write(area)
