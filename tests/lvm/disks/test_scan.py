# SPDX-License-Identifier: Apache-2.0
"""Scanning: the newest copy wins; what is missing, stale, damaged or doubled is told and left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import (
    BusyError,
    CorruptError,
    LamellaError,
    NotFoundError,
    ReadOnlyError,
    UnsupportedError,
    UsageError,
)
from lamella.lvm.disks.kernel_active import active_in, refuse_active
from lamella.lvm.disks.scan import Scan, scan
from lamella.lvm.format.ids import without_dashes
from lamella.lvm.operations.group_changes import GroupChanges, change_group
from lamella.lvm.operations.group_restore import update_metadata
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.lv_resize import resize_lv
from lamella.lvm.operations.missing_pvs import remove_missing, restore_missing
from lamella.lvm.operations.physical_volumes import PvOptions
from lamella.lvm.operations.volume_groups import create_group, extend_group
from lamella.lvm.session.environment import Environment
from lamella.lvm.session.locks import global_lock, group_lock
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import environment, group_on, memory_disks, session_on, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AREA = 4096
SLOT = AREA + 40


def said(found: Scan) -> list[str]:
    return [str(notice) for notice in found.all_notices()]


def change(disks: dict[str, MemoryDevice], tag: str) -> None:
    with session_on(disks) as session, session.editing("vg") as found:
        change_group(session, found, GroupChanges(add_tags=[tag]))


def test_the_newest_copy_wins_and_the_next_write_brings_the_stale_one_up() -> None:
    disks = memory_disks(2)
    group_on(disks)
    old = bytes(disks["disk1"].content)
    change(disks, "new")
    disks["disk1"].content[:] = old
    found = scan([], given=disks)
    assert found.groups[0].group.tags == ["new"]
    assert said(found) == [
        "WARNING: ignoring metadata seqno 1 on disk1 for seqno 2 on disk0 for VG vg.",
        "WARNING: Inconsistent metadata found for VG vg.",
        "See vgck --updatemetadata to correct inconsistency.",
    ]
    assert bytes(disks["disk1"].content) == old
    change(disks, "newer")
    again = scan([], given=disks)
    assert said(again) == []
    assert [copy.group.seqno for copy in again.groups[0].copies if copy.group] == [3, 3]


def test_a_missing_disk_is_reported_and_blocks_changes() -> None:
    disks = memory_disks(3)
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        lv = create_lv(session, found, LvRequest(40, "spread", stripes=2))
        lost = lv.segments[0].areas()[1].pv
        assert lost is not None
    kept = {path: disk for path, disk in disks.items() if path != lost.device}
    result = scan([], given=kept)
    assert said(result) == [
        f"WARNING: Couldn't find device with uuid {lost.uuid}.",
        f"WARNING: VG vg is missing PV {lost.uuid} (last written to {lost.device}).",
    ]
    assert result.groups[0].partial_lvs() == {"spread"}
    with (
        session_on(kept) as session,
        pytest.raises(CorruptError, match="while PVs are missing"),
        session.editing("vg"),
    ):
        pass
    with session_on(kept) as session, session.editing("vg", missing_ok=True) as found:
        remove_missing(session, found, force=True)
        assert found.group.lvs == {}
    # The disk comes back with old content: it is outdated, and neither used nor changed.
    before = bytes(disks[lost.device].content)
    result = scan([], given=disks)
    assert len(result.groups[0].group.pvs) == 2
    assert result.groups[0].outdated[0].path == lost.device
    assert "has been removed in current VG vg seqno 3" in said(result)[-2]
    assert bytes(disks[lost.device].content) == before
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        update_metadata(session, found)
    result = scan([], given=disks)
    assert said(result) == []
    assert [disk.path for disk in result.orphans] == [lost.device]


def test_a_disk_that_was_missing_and_came_back() -> None:
    disks = memory_disks(3)
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        lv = create_lv(session, found, LvRequest(40, "spread", stripes=2))
        pv = lv.segments[0].areas()[1].pv
        assert pv is not None
    kept = {path: disk for path, disk in disks.items() if path != pv.device}
    with session_on(kept) as session, session.editing("vg", missing_ok=True) as found:
        remove_missing(session, found)
        assert found.group.lvs
    result = scan([], given=disks)
    assert f"WARNING: VG vg was missing PV {pv.device} {pv.uuid}." in said(result)
    with session_on(disks) as session, pytest.raises(CorruptError), session.editing("vg"):
        pass
    with session_on(disks) as session, session.editing("vg", missing_ok=True) as found:
        restore_missing(session, found, found.reappeared)
    assert said(scan([], given=disks)) == []


@pytest.mark.parametrize("place", [AREA, SLOT, AREA + 512 + 30])
def test_a_damaged_area_is_reported_left_alone_and_repaired_when_asked(place: int) -> None:
    disks = memory_disks(2)
    group_on(disks)
    change(disks, "x")
    disks["disk0"].content[AREA + 512 * 3 + 30] ^= 0xFF
    disks["disk0"].content[place] ^= 0xFF
    result = scan([], given=disks)
    notices = said(result)
    assert notices[-1].startswith("WARNING: scan failed to get metadata summary from disk0 PVID ")
    assert notices[-2] == "WARNING: repair VG metadata on disk0 with vgck --updatemetadata."
    assert notices[-3] == "WARNING: scanning disk0 mda1 failed to read metadata summary."
    assert result.groups[0].group.tags == ["x"]
    damaged = bytes(disks["disk0"].content)
    change(disks, "y")
    assert bytes(disks["disk0"].content) == damaged
    with session_on(disks) as session, session.editing("vg") as found:
        update_metadata(session, found)
    result = scan([], given=disks)
    assert said(result) == []
    assert result.groups[0].mda_count == 2
    assert result.groups[0].group.tags == ["x", "y"]


def test_a_disk_and_its_copy() -> None:
    disks = memory_disks(2)
    group_on(disks)
    disks["copy"] = MemoryDevice(content=bytes(disks["disk0"].content), name="copy")
    result = scan([], given=disks)
    uuid = result.groups[0].group.pvs[0].uuid
    assert said(result) == [
        f"WARNING: Not using device copy for PV {uuid}.",
        f"WARNING: PV {uuid} prefers device disk0 because device name matches previous.",
    ]
    with session_on(disks) as session, session.editing("vg") as found:
        with pytest.raises(BusyError, match="duplicate PV devices"):
            session.commit(found)
        session.environment.changes_with_duplicates = True
        session.commit(found)
    larger = {"larger": MemoryDevice(content=bytes(disks["disk0"].content) + bytes(4096), name="larger")}
    result = scan([], given={**larger, **memory_copy(disks)})
    assert result.groups[0].group.pvs[0].device == "disk0"
    assert "because device size is correct" in said(result)[1]


def memory_copy(disks: dict[str, MemoryDevice]) -> dict[str, MemoryDevice]:
    return {path: disk for path, disk in disks.items() if path != "copy"}


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"system_id": "other"}, ReadOnlyError),
        ({"status": ["EXPORTED", "RESIZEABLE", "READ", "WRITE"]}, ReadOnlyError),
        ({"lock_type": "sanlock"}, UnsupportedError),
        ({"status": ["RESIZEABLE", "READ", "WRITE", "CLUSTERED"]}, UnsupportedError),
        ({"status": ["RESIZEABLE", "READ"]}, ReadOnlyError),
    ],
)
def test_foreign_exported_shared_and_read_only_groups(
    changes: dict[str, object], refusal: type[LamellaError]
) -> None:
    disks = memory_disks(1)
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        for name, value in changes.items():
            setattr(found.group, name, value)
        session.commit(found)
    before = bytes(disks["disk0"].content)
    with session_on(disks) as session, pytest.raises(refusal), session.editing("vg"):
        pass
    assert bytes(disks["disk0"].content) == before


def test_two_groups_of_one_name() -> None:
    disks = memory_disks(2)
    group_on({"disk0": disks["disk0"]})
    group_on({"disk1": disks["disk1"]})
    result = scan([], given=disks)
    assert len(result.groups) == 2
    assert "is used by VGs" in said(result)[0]
    with session_on(disks) as session, pytest.raises(UsageError, match="Multiple VGs"):
        session.find("vg")
    with session_on(disks) as session:
        assert session.find(result.groups[1].group.uuid).group.pvs[0].device == "disk1"


def test_unknown_names_and_unreadable_disks(tmp_path: Path) -> None:
    disks = memory_disks(1)
    group_on(disks)
    with session_on(disks) as session:
        with pytest.raises(NotFoundError, match='Volume group "other" not found'):
            session.find("other")
        with pytest.raises(NotFoundError):
            session.find_disk(str(tmp_path / "nothing"))
    result = scan([str(tmp_path / "nothing"), str(tmp_path)], given=disks)
    assert [type(error) for _path, error in result.unreadable] == [NotFoundError, UsageError]
    assert len(result.groups) == 1


def test_areas_that_are_ignored_are_neither_read_nor_written() -> None:
    disks = memory_disks(3)
    group_on(disks, copies=2, metadata_copies=2)
    result = scan([], given=disks)
    assert (result.groups[0].mda_count, result.groups[0].mda_used_count) == (6, 2)
    ignored = {path: bytes(disk.content) for path, disk in disks.items()}
    change(disks, "x")
    changed = [path for path, disk in disks.items() if bytes(disk.content) != ignored[path]]
    assert len(changed) == 2
    with session_on(disks) as session, session.editing("vg") as found:
        change_group(session, found, GroupChanges(metadata_copies=6))
    result = scan([], given=disks)
    assert result.groups[0].mda_used_count == 6
    assert said(result) == []


def test_a_disk_without_metadata_area_belongs_to_the_group_all_the_same() -> None:
    disks = memory_disks(2)
    group_on({"disk0": disks["disk0"]})
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        extend_group(session, found, ["disk1"], PvOptions(metadata_copies=0))
    result = scan([], given=disks)
    assert len(result.groups[0].disks) == 2
    assert result.orphans == []
    assert result.groups[0].mda_count == 1


def test_an_active_group_is_never_written(tmp_path: Path) -> None:
    disks = memory_disks(1)
    group_on(disks)
    uuid = scan([], given=disks).groups[0].group.uuid
    entry = tmp_path / "dm-0" / "dm"
    entry.mkdir(parents=True)
    (entry / "name").write_text("vg-lv\n")
    (entry / "uuid").write_text(f"LVM-{without_dashes(uuid)}{'x' * 32}\n")
    assert active_in(uuid, tmp_path) == ["vg-lv"]
    with pytest.raises(BusyError, match="active in the kernel"):
        refuse_active("vg", uuid, tmp_path)
    before = bytes(disks["disk0"].content)
    surroundings = Environment(pv_min_size=0, sys_block=tmp_path)
    with (
        Session([], surroundings, given=disks) as session,
        pytest.raises(BusyError, match="active in the kernel"),
        session.editing("vg") as found,
    ):
        change_group(session, found, GroupChanges(add_tags=["x"]))
    assert bytes(disks["disk0"].content) == before


def test_files_are_locked_while_they_are_changed(tmp_path: Path) -> None:
    path = str(tmp_path / "disk")
    FileDevice.create(path, 8 << 20).close()
    with Session([path], environment()) as session, session.creating("vg"):
        create_group(session, "vg", [path])
        assert len(scan([path]).groups) == 1  # reading is always possible
        with Session([path], environment()) as other, pytest.raises(BusyError), other.editing("vg") as found:
            change_group(other, found, GroupChanges(add_tags=["x"]))


def test_locks_exclude_one_another_and_leave_nothing_behind(tmp_path: Path) -> None:
    with group_lock(tmp_path, "vg", write=True):
        assert (tmp_path / "V_vg").exists()
        with pytest.raises(BusyError), group_lock(tmp_path, "vg", write=False, wait=0.1):
            pass
        with group_lock(tmp_path, "other", write=True), global_lock(tmp_path, write=True):
            pass
    with (
        group_lock(tmp_path, "vg", write=False),
        group_lock(tmp_path, "vg", write=False),
        pytest.raises(BusyError),
        group_lock(tmp_path, "vg", write=True, wait=0.1),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_test_mode_changes_nothing(tmp_path: Path) -> None:
    disks = memory_disks(2)
    group_on(disks)
    before = {path: bytes(disk.content) for path, disk in disks.items()}
    with (
        Session([], environment(tmp_path), given=disks, test=True) as session,
        session.editing("vg") as found,
    ):
        create_lv(session, found, LvRequest(5, "lv"))
        assert "lv" in text_of(found.group)
    assert before == {path: bytes(disk.content) for path, disk in disks.items()}
    assert list(tmp_path.iterdir()) == []


def test_the_real_fixtures_hold_what_they_should(fixture_dir: Callable[[str], Path]) -> None:
    place = fixture_dir("lvm-e.tar.zst") / "lvm-e"
    paths = [str(place / f"vd{letter}.img") for letter in "bcde"]
    result = scan(paths)
    assert len(result.groups[0].group.pvs) == 4
    partial = scan(paths[:3]).groups[0]
    assert "r5" in partial.partial_lvs()
    assert "slow" in partial.partial_lvs()
    assert "mir" not in partial.partial_lvs()
    with Session(paths, Environment()) as session, session.editing("vgr") as found:
        raid = found.group.lvs["r5"]
        with pytest.raises(UnsupportedError, match="of type raid5"):
            resize_lv(session, found, raid, 100)
