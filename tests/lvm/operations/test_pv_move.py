# SPDX-License-Identifier: Apache-2.0
"""pvmove: every byte is still there, the new places are LVM2's, and a power cut leaves old or new."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.errors import BusyError, NoSpaceError, NotFoundError, UnsupportedError
from lamella.lvm.disks.scan import scan
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.format.segments import Segment
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.physical_volumes import PvOptions
from lamella.lvm.operations.pv_move import MoveRequest, move_extents
from lamella.lvm.operations.thin_messages import opened_pool
from lamella.lvm.operations.thin_pools import create_pool
from lamella.lvm.operations.thin_volumes import ThinRequest, create_thin
from lamella.lvm.operations.volume_groups import extend_group
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import EXTENT, environment, find_lv, group_on, memory_disks, session_on, text_of
from tests.lvm.oracle import Answer, Loops, ours, real
from tests.support.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume

MIB = 1 << 20


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def filled(disks: Mapping[str, BlockDevice], *, areas: int = 3) -> None:
    """A linear, a striped and a half-filled volume, and a thin pool with a thin volume in it.

    The first *areas* disks have a metadata area.
    """
    names = list(disks)
    group_on({name: disks[name] for name in names[:areas]})
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        if names[areas:]:
            extend_group(session, found, names[areas:], PvOptions(metadata_copies=0))
        first = [(found.group.pvs[0], [(0, found.group.pvs[0].pe_count)])]
        create_lv(session, found, LvRequest(9, "lin", ranges=first))
        create_lv(session, found, LvRequest(6, "str", stripes=2))
        create_lv(session, found, LvRequest(5, "holes", ranges=first))
        pool = create_pool(session, found, "pool", 10)
        create_thin(session, found, pool, 20, ThinRequest("thin"))
        for number, name in enumerate(("lin", "str")):
            volume = open_lv(found, name)
            volume.write(0, noise(number, volume.size))
        open_lv(found, "holes").write(2 * EXTENT, noise(7, 4096))
        with opened_pool(found, pool) as engine:
            thin = engine.open_volume(1, 20 * EXTENT)
            thin.write(EXTENT, noise(8, 3 * EXTENT))
            thin.flush()


def contents(found: FoundGroup) -> dict[str, bytes]:
    """The bytes of all volumes; the thin volume's as its pool gives them."""
    shown = {}
    for name in ("lin", "str", "holes"):
        device = open_lv(found, name, read_only=True)
        shown[name] = device.read(0, device.size)
    with opened_pool(found, find_lv(found, "pool"), read_only=True) as engine:
        shown["thin"] = engine.open_volume(1, 20 * EXTENT, read_only=True).read(0, 20 * EXTENT)
    return shown


def request(found: FoundGroup, *, disk: int = 0, runs: list[tuple[int, int]] | None = None) -> MoveRequest:
    pv = found.group.pvs[disk]
    return MoveRequest(pv, runs if runs is not None else [(0, pv.pe_count)])


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, BlockDevice]]:
    made: dict[str, BlockDevice] = {
        f"disk{number}": FileDevice.create(tmp_path / f"disk{number}", 8 * MIB) for number in range(3)
    }
    filled(made)
    yield made
    for device in made.values():
        device.close()


def test_everything_is_moved_byte_for_byte(disks: dict[str, BlockDevice]) -> None:
    told: list[tuple[int, int]] = []
    with session_on(disks) as session, session.editing("vg") as found:
        before = contents(found)
        # What lies in free extents must not show through the holes of what is moved there.
        for pv in found.group.pvs[1:]:
            for start, count in found.group.free_ranges(pv):
                place = pv.pe_start * 512 + start * EXTENT
                disks[pv.device].write(place, b"\xff" * (count * EXTENT))
        used = sum(run[1] for run in found.group.used_ranges(found.group.pvs[0]))
        moved = move_extents(session, found, request(found), lambda *done: told.append(done))
        assert moved == used > 0
        assert found.group.free_extents(found.group.pvs[0]) == found.group.pvs[0].pe_count
        assert told[-1] == (moved * EXTENT, moved * EXTENT)
    with session_on(disks) as session:
        found = session.find("vg")
        assert contents(found) == before
        striped = found.group.lvs["str"].segments
        assert all(segment.mapped[0].pv is not segment.mapped[1].pv for segment in striped)


def test_a_range_is_cut_out_and_merged_again(disks: dict[str, BlockDevice]) -> None:
    with session_on(disks) as session, session.editing("vg") as found:
        before = contents(found)
        start = found.group.lvs["lin"].segments[0].mapped[0].extent
        assert move_extents(session, found, request(found, runs=[(start + 2, 3)])) == 3
        assert [segment.extent_count for segment in found.group.lvs["lin"].segments] == [2, 3, 4]
        assert contents(found) == before
        away = found.group.lvs["lin"].segments[1].mapped[0]
        assert away.pv is not None
        home = found.group.pvs[0]
        back = MoveRequest(away.pv, [(away.extent, 3)], "lin", ranges=[(home, [(start + 2, 3)])])
        move_extents(session, found, back)
        assert [segment.extent_count for segment in found.group.lvs["lin"].segments] == [9]
        assert contents(found) == before


def test_a_pool_is_moved_by_its_name(disks: dict[str, BlockDevice]) -> None:
    with session_on(disks) as session, session.editing("vg") as found:
        before = contents(found)
        data = found.group.lvs["pool_tdata"].segments[0].mapped[0].pv
        assert data is not None
        lin = found.group.lvs["lin"].segments[0].mapped[0].extent
        move_extents(session, found, MoveRequest(data, [(0, data.pe_count)], "pool"))
        assert found.group.lvs["pool_tdata"].segments[0].mapped[0].pv is not data
        assert found.group.lvs["lin"].segments[0].mapped[0].extent == lin
        assert contents(found) == before


def test_a_test_writes_nothing(disks: dict[str, BlockDevice]) -> None:
    before = [device.read(0, device.size) for device in disks.values()]
    with Session([], environment(), given=disks, test=True) as session, session.editing("vg") as found:
        assert move_extents(session, found, request(found)) > 0
    assert [device.read(0, device.size) for device in disks.values()] == before


def test_what_cannot_be_moved_is_refused_and_nothing_written(disks: dict[str, BlockDevice]) -> None:
    before = [device.read(0, device.size) for device in disks.values()]
    with session_on(disks) as session, session.editing("vg") as found:
        group = found.group
        whole = request(found)
        with pytest.raises(NotFoundError, match=r"^No data to move for vg\.$"):
            move_extents(session, found, request(found, runs=[(group.pvs[0].pe_count - 1, 1)]))
        with pytest.raises(NoSpaceError, match=r"^No extents available for allocation\.$"):
            move_extents(session, found, MoveRequest(*_of(whole), ranges=[(group.pvs[0], [(0, 9)])]))
        little = [(group.pvs[1], [(group.free_ranges(group.pvs[1])[0][0], 2)])]
        with pytest.raises(NoSpaceError, match=r"^Insufficient free space: 9 extents needed, but only 2"):
            move_extents(session, found, MoveRequest(*_of(whole), "lin", ranges=little))
        lin = group.lvs["lin"]
        lin.segments[0] = Segment("mirror", 0, 9, mapped=lin.segments[0].mapped)
        with pytest.raises(UnsupportedError, match="cannot move vg/lin: it is of type mirror"):
            move_extents(session, found, whole)
        lin.status.append("LOCKED")
        with pytest.raises(NotFoundError, match=r"^All data on source PV skipped\."):
            move_extents(session, found, MoveRequest(*_of(whole), "lin"))
        lin.status.append("PVMOVE")
        with pytest.raises(BusyError, match=r"^Detected pvmove in progress for disk0"):
            move_extents(session, found, whole)
    assert [device.read(0, device.size) for device in disks.values()] == before


def _of(move: MoveRequest) -> tuple[PhysicalVolume, Sequence[tuple[int, int]]]:
    return move.source, move.runs


@pytest.mark.parametrize("areas", [1, 3])
def test_a_power_cut_leaves_the_old_group_or_the_new_one(tmp_path: Path, areas: int) -> None:
    """A commit flushes disks with metadata areas only: what is copied to the others is durable before it."""
    plain: dict[str, BlockDevice] = dict(memory_disks(3))
    filled(plain, areas=areas)
    recording = Recording(tmp_path)
    disks = recording.wrap_all(plain, atomic=512)
    with session_on(disks) as session, session.editing("vg") as found:
        wanted = contents(found)
        states = [text_of(found.group)]
        move_extents(session, found, request(found))
        states.append(text_of(found.group))
    seen = set()
    for crash in recording.crashes(random.Random(1), subsets=2):
        (found,) = scan([], given=crash.devices).groups
        state = text_of(found.group)
        assert state in states, crash.what
        assert contents(found) == wanted, crash.what
        seen.add(states.index(state))
    assert seen == {0, 1}
    recording.close()


# -- the command, beside the real one ----------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[tuple[list[str], list[str]]]:
    loops = Loops()
    made = []
    for name in ("ours", "theirs"):
        folder = tmp_path / name
        folder.mkdir()
        made.append(loops.make(folder, 4, 24 * MIB))
    yield made[0], made[1]
    loops.detach()


SETUP = """\
vgcreate -s 1m vg {a} {b} {c}
lvcreate -y -Wn -Zn -l 5 -n lin vg {a}
lvcreate -y -Wn -Zn -l 4 -i 2 -n str vg {a} {b}
lvcreate -y -Wn -Zn -l 3 -n more vg {a}
lvextend -l +3 vg/lin {a}
"""
REFUSED = """\
pvmove {a}:x
pvmove {a}:
pvmove {a}:0-100
pvmove {a}:20-21
pvmove {c}
pvmove {d}
pvmove /dev/nosuch
pvmove @tag
pvmove {a} /dev/nosuch
pvmove {a} {d}
pvmove {a} {a}
pvmove {a} @tag
pvmove {a}:0-1 {b}:20-20
pvmove -n nosuch {a}
pvmove -n other/lin {a}
pvmove -n bad@d {a}
pvmove -n more {b}
pvmove -n str {a} {b}
pvmove --alloc cling {a}
pvmove --alloc contiguous {a}
pvmove --alloc contiguous -n lin {a}
pvmove -n lin
pvmove -i -1 {a}
pvmove --alloc x {a}
pvmove --atomic --abort
pvmove --abort {a}
pvmove --abort
pvmove
pvmove -t {a}
pvcreate {d}
pvmove {d}
pvmove -t -n vg/lin --atomic {a} {c}
"""


def words(line: str, devices: list[str]) -> list[str]:
    return line.format(**dict(zip("abcd", devices, strict=True))).split()


def test_refusals_are_those_of_lvm2(pairs: tuple[list[str], list[str]]) -> None:
    mine, theirs = pairs
    names = dict(zip(theirs, mine, strict=True))
    for line in SETUP.splitlines():
        assert ours(words(line, mine), mine).code == 0
        assert real(words(line, theirs), theirs).code == 0
    for line in REFUSED.splitlines():
        got, wanted = ours(words(line, mine), mine), real(words(line, theirs), theirs).renamed(names)
        heard = tuple(said for said in wanted.err if "lvmpolld" not in said)
        assert got == Answer(wanted.code, wanted.out, heard), line


def _moves(devices: list[str]) -> dict[tuple[str, int], tuple[str, int]]:
    """Old place -> new place, from the mirror that LVM2 makes at the start of a move."""
    found = scan(devices)
    places = {}
    for segment in found.groups[0].group.lvs["pvmove0"].segments:
        old, new = segment.mapped
        assert old.pv is not None
        assert new.pv is not None
        for at in range(segment.extent_count):
            places[old.pv.device, old.extent + at] = (new.pv.device, new.extent + at)
    found.close()
    return places


@pytest.mark.parametrize(
    "line",
    [
        "pvmove {a}",
        "pvmove {a} {c} {b}",
        "pvmove {a}:1-2:4-9 {c}:3-5:8-20",
        "pvmove -n str {a}",
        "pvmove --alloc cling -n lin {a}",
        "pvmove --alloc anywhere {a}:0-3 {a} {b}:9-10",
    ],
)
def test_the_new_places_are_those_of_lvm2(pairs: tuple[list[str], list[str]], line: str) -> None:
    mine, theirs = pairs
    for each in SETUP.splitlines():
        assert ours(words(each, mine), mine).code == 0
        assert real(words(each, theirs), theirs).code == 0
    before = _places(mine)
    got = ours(words(line, mine), mine)
    assert (got.code, got.out) == (0, f"  {mine[0]}: Moved: 100.00%\n")
    real(words(line, theirs), theirs)  # begins the move, which it cannot finish without device-mapper
    names = dict(zip(theirs, mine, strict=True))
    expected = {(names[a], b): (names[c], d) for (a, b), (c, d) in _moves(theirs).items()}
    after = _places(mine)
    assert {before[key]: after[key] for key in before if before[key] != after[key]} == expected
    checked = real(["vgck", "vg"], mine)
    assert (checked.code, checked.err) == (0, ())


def _places(devices: list[str]) -> dict[tuple[str, int, int], tuple[str, int]]:
    """(volume, extent in an area, area) -> where it lies."""
    found = scan(devices)
    places = {}
    for lv in found.groups[0].group.lvs.values():
        for segment in lv.segments:
            for index, area in enumerate(segment.mapped):
                assert area.pv is not None
                for at in range(segment.area_extents):
                    key = (lv.name, segment.start_extent // len(segment.mapped) + at, index)
                    places[key] = (area.pv.device, area.extent + at)
    found.close()
    return places
