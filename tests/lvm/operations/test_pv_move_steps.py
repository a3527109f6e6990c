# SPDX-License-Identifier: Apache-2.0
"""pvmove step by step: what is chosen, cut, allocated and copied, each extent and each byte of it.

The words and the choice are LVM2's (tools/pvmove.c; compared with the real one in ``test_pv_move.py``): a
volume is moved in parts that lie wholly in or out of the ranges, and a new place is never on the disk of
another stripe.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lamella.block import MemoryDevice
from lamella.errors import BusyError, CorruptError, NoSpaceError, NotFoundError, UnsupportedError
from lamella.lvm.format.model import LogicalVolume, VolumeGroup
from lamella.lvm.format.physical_volume import PhysicalVolume
from lamella.lvm.format.segments import Area, Segment, StripedSegment
from lamella.lvm.operations import pv_move
from lamella.lvm.operations.allocation import Clinging
from lamella.lvm.operations.allocation_result import Allocation, Run
from lamella.lvm.operations.pv_move import (
    MoveRequest,
    _allocate,
    _belongs,
    _clear,
    _copy,
    _copy_job,
    _cut,
    _cut_at_runs,
    _destinations,
    _inside,
    _Job,
    _jobs,
    _overlaps,
    _Piece,
    _pieces,
    _place,
    _remapped,
    move_extents,
    pvmove_volumes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

EXTENT = 4096
START = 16
"""Sectors before extent 0: 8192 bytes."""


class Disk(MemoryDevice):
    """Memory that keeps what is done to it, and says of itself where it may hold anything."""

    def __init__(self, name: str, log: list[Any], extents: int = 20) -> None:
        super().__init__(START * 512 + extents * EXTENT, name=name)
        self.path = f"/dev/{name}"
        self.log = log
        self.writer = self
        self.data: list[tuple[int, int]] | None = None

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Any:
        assert length is not None
        for start, count in self.data if self.data is not None else [(offset, length)]:
            low, high = max(start, offset), min(start + count, offset + length)
            if low < high:
                yield low, high - low

    def read_many(self, requests: Any) -> None:
        wanted = list(requests)
        self.log.append((self.name, "read", [(offset, len(view)) for offset, view in wanted]))
        super().read_many(wanted)

    def write_many(self, pieces: Any) -> None:
        wanted = list(pieces)
        self.log.append((self.name, "write", [(offset, len(view)) for offset, view in wanted]))
        for offset, view in wanted:
            self.write(offset, view)

    def write_zeros(self, offset: int, length: int) -> None:
        self.log.append((self.name, "zeros", offset, length))
        self.write(offset, bytes(length))

    def flush(self) -> None:
        self.log.append((self.name, "flush"))


class Move:
    """A group over the disks a, b and c of 20 extents, and what a session is asked for."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.notes: list[tuple[str, str, str]] = []
        self.active: list[str] | None = None
        self.test = False
        self.pvs = [
            PhysicalVolume(f"uuid-{name}", f"/dev/{name}", dev_sectors=176, pe_start=START, pe_count=20)
            for name in "abc"
        ]
        self.a, self.b, self.c = self.pvs
        self.group = VolumeGroup("vg", "uuid", extent_sectors=8, pvs=self.pvs)
        self.disks = {pv.uuid: Disk(name, self.log) for pv, name in zip(self.pvs, "abc", strict=True)}
        for number, disk in enumerate(self.disks.values()):
            for at in range(0, disk.size, 512):
                disk.content[at : at + 512] = bytes([number * 64 + at // 4096 % 64]) * 512

    def volume(self, name: str, *segments: Segment) -> LogicalVolume:
        lv = self.group.lvs[name] = LogicalVolume(name, f"uuid-{name}", segments=list(segments))
        return lv

    def request(self, *runs: tuple[int, int], **options: Any) -> MoveRequest:
        return MoveRequest(options.pop("source", self.a), list(runs) or [(0, 20)], **options)

    # What is asked of a session:

    def kernel(self, found: object) -> Any:
        assert found is self
        if self.active is None:
            return None
        return SimpleNamespace(active_in=lambda owner: self.active if owner is self else None)

    def note(self, command: str, text: str, *, level: str) -> None:
        self.notes.append((command, text, level))

    def commit(self, found: object, changes: object) -> None:
        assert found is self
        assert changes == ()
        self.log.append("commit")


def linear(pv: PhysicalVolume, extent: int, length: int, start: int = 0) -> StripedSegment:
    return StripedSegment("striped", start, length, mapped=[Area(pv, extent)])


def striped(*areas: tuple[PhysicalVolume, int], length: int, start: int = 0) -> StripedSegment:
    """Of *length* extents on each area."""
    return StripedSegment(
        "striped", start, length * len(areas), mapped=[Area(*area) for area in areas], stripe_size=8
    )


def shown(segments: Sequence[Segment]) -> list[Any]:
    """(start, length, [(disk, extent), …]) of each."""
    return [
        (
            segment.start_extent,
            segment.extent_count,
            [(area.pv.device[-1], area.extent) for area in segment.mapped if area.pv is not None],
        )
        for segment in segments
    ]


@pytest.fixture
def move() -> Any:
    return Move()


# -- what and where to -------------------------------------------------------------------------------


def test_moves_that_lvm2_has_begun(move: Any) -> None:
    move.volume("lin", linear(move.a, 0, 2))
    mirror = move.volume("pvmove0", Segment("mirror", 0, 2, mapped=[Area(move.b, 3), Area(move.c, 3)]))
    mirror.status.append("PVMOVE")
    assert list(pvmove_volumes(move.group)) == [(mirror, move.b)]
    with pytest.raises(NotFoundError):
        move_extents(move, move, move.request((5, 1)))
    with pytest.raises(BusyError) as caught:
        move_extents(move, move, move.request(source=move.b))
    assert caught.value.message.startswith("Detected pvmove in progress for /dev/b.\n")
    mirror.segments[0].mapped = []
    assert list(pvmove_volumes(move.group)) == [(mirror, None)]
    mirror.segments = []
    assert list(pvmove_volumes(move.group)) == [(mirror, None)]


@pytest.mark.parametrize(
    ("policy", "of_group", "source_too"),
    [
        ("", "", False),
        ("anywhere", "", True),
        ("anywhere", "normal", True),
        ("inherit", "anywhere", True),
        ("", "anywhere", True),
        ("normal", "anywhere", False),
        ("inherit", "cling", False),
    ],
)
def test_where_to(move: Any, policy: str, of_group: str, source_too: bool) -> None:
    """To the disk itself only by the policy "anywhere"; never to a full one."""
    move.group.allocation_policy = of_group
    move.volume("full", linear(move.b, 0, 20))
    whole = [(0, 20)]
    found = _destinations(move.group, move.request(policy=policy))
    assert found == [*([(move.a, whole)] if source_too else []), (move.c, whole)]
    named = [(move.c, [(3, 2)]), (move.b, whole), (move.a, [(1, 1)])]
    found = _destinations(move.group, move.request(policy=policy, ranges=named))
    assert found == [(move.c, [(3, 2)]), *([(move.a, [(1, 1)])] if source_too else [])]
    with pytest.raises(NoSpaceError, match=r"^No extents available for allocation\.$"):
        _destinations(move.group, move.request(policy=policy, ranges=[(move.b, whole)]))


def test_a_part_of_a_named_volume_is_moved_too() -> None:
    lvs = {name: LogicalVolume(name, "") for name in ("pool", "tdata", "spare", "thin", "one", "two")}
    segment = Segment("x", 0, 1)
    users: Any = {
        "tdata": [(lvs["pool"], segment, "data"), (lvs["pool"], segment, "again")],
        "pool": [(lvs["thin"], segment, "pool")],
        "spare": [(lvs["thin"], segment, ""), (lvs["pool"], segment, "")],
        "one": [(lvs["two"], segment, "")],
        "two": [(lvs["one"], segment, "")],
    }
    for name, of, wanted in [
        ("tdata", "", True),
        ("tdata", "tdata", True),
        ("tdata", "pool", True),
        ("tdata", "thin", True),
        ("tdata", "other", False),
        ("thin", "tdata", False),
        ("spare", "pool", False),  # two volumes have it
        ("spare", "spare", True),
        ("one", "two", True),
        ("one", "other", False),  # no end above it
    ]:
        assert _belongs(users, lvs[name], of) is wanted, (name, of)


def test_what_lies_in_the_ranges(move: Any) -> None:
    request = move.request((2, 3), (8, 1))
    assert [extent for extent in range(12) if _inside(request, extent)] == [2, 3, 4, 8]
    for start, length, wanted in [
        (0, 2, False), (0, 3, True), (4, 1, True), (5, 3, False), (5, 4, True), (8, 9, True), (9, 9, False),
    ]:  # fmt: skip
        assert _overlaps(request, linear(move.a, start, length)) is wanted, start
        assert not _overlaps(request, linear(move.b, start, length))
    assert _overlaps(request, striped((move.b, 2), (move.a, 3), length=1))
    assert not _overlaps(request, striped((move.a, 0), (move.b, 0), length=2))


def test_a_segment_is_cut_where_the_ranges_begin_and_end(move: Any) -> None:
    assert shown(_cut_at_runs(move.request((12, 3)), linear(move.a, 10, 8, start=100))) == [
        (100, 2, [("a", 10)]),
        (102, 3, [("a", 12)]),
        (105, 3, [("a", 15)]),
    ]
    two = striped((move.a, 4), (move.b, 9), length=4, start=10)
    assert shown(_cut_at_runs(move.request((0, 5), (7, 9)), two)) == [
        (10, 2, [("a", 4), ("b", 9)]),
        (12, 4, [("a", 5), ("b", 10)]),
        (16, 2, [("a", 7), ("b", 12)]),
    ]
    both = striped((move.a, 4), (move.a, 9), length=4)
    assert [part[:2] for part in shown(_cut_at_runs(move.request((0, 5), (10, 2)), both))] == [
        (0, 2), (2, 4), (6, 2),
    ]  # fmt: skip
    assert len(_cut_at_runs(move.request((4, 4)), two)) == 1
    assert len(_cut_at_runs(move.request((5, 1), source=move.c), two)) == 1


def test_the_parts_of_a_segment_are_its_like_and_their_own(move: Any) -> None:
    whole = striped((move.a, 4), (move.b, 9), length=4)
    whole.tags, whole.extra = ["t"], {"key": 1}
    whole.mapped[1] = Area(None, 9, "sub")
    parts = _cut(whole, {0, 4, -1, 9, 2})
    assert [(part.start_extent, part.extent_count, part.stripe_size) for part in parts] == [
        (0, 4, 8),
        (4, 4, 8),
    ]
    assert [[(area.pv, area.extent, area.lv) for area in part.mapped] for part in parts] == [
        [(move.a, 4, ""), (None, 9, "sub")],
        [(move.a, 6, ""), (None, 11, "sub")],
    ]
    parts[0].tags.append("other")
    parts[0].extra["other"] = 2
    assert (parts[1].tags, parts[1].extra, whole.tags, whole.extra) == (["t"], {"key": 1}, ["t"], {"key": 1})
    assert all(one.mapped is not two.mapped for one, two in pairwise([whole, *parts]))


def moved(pieces: list[_Piece]) -> list[Any]:
    return [(piece.lv.name, *shown([piece.segment])[0], sorted(piece.moved)) for piece in pieces]


def test_what_is_moved(move: Any) -> None:
    move.volume("lin", linear(move.a, 0, 4), linear(move.b, 0, 2, start=4))
    move.volume("str", striped((move.b, 5), (move.a, 5), length=3))
    move.volume("far", linear(move.a, 15, 2))
    move.volume("off", linear(move.c, 0, 2))
    found = _pieces(move, move, move.request((2, 4)))
    assert moved(found) == [
        ("lin", 0, 2, [("a", 0)], []),
        ("lin", 2, 2, [("a", 2)], [0]),
        ("lin", 4, 2, [("b", 0)], []),  # whole, as it was
        ("str", 0, 2, [("b", 5), ("a", 5)], [1]),
        ("str", 2, 4, [("b", 6), ("a", 6)], []),
    ]
    assert [piece.moved for piece in found if piece.moved] == [{0: []}, {1: []}]
    assert move.notes == [
        ("pvmove", "Moving 2 extents of logical volume vg/lin.", "verbose"),
        ("pvmove", "Moving 1 extents of logical volume vg/str.", "verbose"),
    ]
    assert moved(_pieces(move, move, move.request(volume="far"))) == [("far", 0, 2, [("a", 15)], [0])]
    both = move.volume("both", striped((move.a, 8), (move.a, 11), length=2))
    [piece] = _pieces(move, move, move.request((8, 5)))
    assert (piece.lv, sorted(piece.moved)) == (both, [0, 1])
    assert move.notes[-1][1] == "Moving 4 extents of logical volume vg/both."


def test_nothing_to_move(move: Any) -> None:
    move.volume("lin", linear(move.a, 0, 4))
    for request in (move.request((4, 16)), move.request(volume="other"), move.request(source=move.b)):
        with pytest.raises(NotFoundError) as caught:
            _pieces(move, move, request)
        assert caught.value.message == "No data to move for vg."
        assert caught.value.hint == f"pvs --segments shows what lies on {request.source.device}"


@pytest.mark.parametrize("status", ["PVMOVE", "LOCKED"])
def test_locked_volumes_are_passed_over(move: Any, status: str) -> None:
    lin = move.volume("lin", linear(move.a, 0, 4))
    lin.status.append(status)
    with pytest.raises(NotFoundError) as caught:
        _pieces(move, move, move.request())
    assert caught.value.message == (
        "All data on source PV skipped. It contains locked, hidden or non-top level LVs only.\n"
        "No data to move for vg."
    )
    assert move.notes == [("pvmove", "Skipping locked LV vg/lin.", "print")]
    move.volume("next", linear(move.a, 5, 1))
    assert [name for name, *_ in moved(_pieces(move, move, move.request()))] == ["next"]
    del move.notes[:]
    top = move.volume("top", striped((None, 0), (None, 0), length=1))
    for area in top.segments[0].mapped:
        top.segments[0].mapped[0] = Area(area.pv, 0, "lin")
    top.segments[0].mapped[1] = Area(None, 0, "lin")
    _pieces(move, move, move.request())
    assert move.notes[0] == ("pvmove", "Skipping locked LV vg/top.", "print"), "once, and by whom it is used"
    assert len(move.notes) == 2


def test_what_is_active_is_not_moved(move: Any) -> None:
    move.volume("lin", linear(move.a, 0, 4))
    move.volume("off", linear(move.b, 0, 4))
    move.active = ["off"]
    assert len(_pieces(move, move, move.request())) == 1
    move.active = ["off", "lin"]
    with pytest.raises(BusyError, match="Logical volume vg/lin is active: Lamella moves only") as caught:
        _pieces(move, move, move.request())
    assert "lvchange -an vg/lin" in str(caught.value.hint)


def test_other_types_are_not_moved(move: Any) -> None:
    move.volume("mir", Segment("mirror", 0, 4, mapped=[Area(move.a, 3)]))
    with pytest.raises(UnsupportedError, match="cannot move vg/mir: it is of type mirror"):
        _pieces(move, move, move.request())


# -- allocating ------------------------------------------------------------------------------------


def test_every_area_is_allocated_away_from_the_others(move: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lin = move.volume("lin", linear(move.a, 0, 5))
    two = move.volume("two", striped((move.a, 5), (move.b, 5), length=3))
    pieces = [_Piece(lin, lin.segments[0], {0: []}), _Piece(two, two.segments[0], {0: [], 1: []})]
    asked: list[Any] = []
    runs = [Run(move.b, 1, 2), Run(move.c, 1, 3), Run(move.c, 9, 3), Run(move.c, 15, 3)]

    def allocate(group: Any, count: int, **options: Any) -> Allocation:
        asked.append((group, count, options))
        return Allocation([runs], None)

    monkeypatch.setattr(pv_move, "allocate", allocate)
    ranges: Any = [(move.c, [(0, 20)])]
    clinging = Clinging(("@x",), maximise=False)
    request = move.request(policy="cling", clinging=clinging)
    _allocate(move.group, request, ranges, pieces)
    assert asked == [
        (
            move.group,
            11,
            {
                "policy": "cling",
                "ranges": ranges,
                "clinging": clinging,
                "parallel": [(5, [move.a]), (3, [move.a, move.b]), (3, [move.a, move.b])],
            },
        )
    ]
    assert pieces[0].moved == {0: runs[:2]}
    assert pieces[1].moved == {0: [runs[2]], 1: [runs[3]]}
    runs.append(Run(move.c, 0, 1))
    with pytest.raises(AssertionError):
        _allocate(move.group, request, ranges, [_Piece(lin, lin.segments[0], {0: []})])


def test_no_space_is_said_as_lvm2_says_it(move: Any) -> None:
    lin = move.volume("lin", linear(move.a, 0, 5))
    with pytest.raises(NoSpaceError) as caught:
        _allocate(move.group, move.request(), [(move.b, [(0, 3)])], [_Piece(lin, lin.segments[0], {0: []})])
    first, *rest = caught.value.message.splitlines()
    assert first.startswith("Insufficient free space: 5 extents needed, but only 3 available")
    assert rest == [
        "Unable to allocate mirror extents for vg/pvmove0.",
        "Failed to convert pvmove LV to mirrored.",
    ]
    assert caught.value.hint


def test_a_piece_is_cut_where_its_new_places_end(move: Any) -> None:
    lin = move.volume("lin", linear(move.a, 0, 5, start=30))
    piece = _Piece(lin, lin.segments[0], {0: [Run(move.b, 7, 2), Run(move.c, 1, 3)]})
    assert shown(_remapped(piece)) == [(30, 2, [("b", 7)]), (32, 3, [("c", 1)])]
    two = move.volume("two", striped((move.a, 5), (move.b, 5), length=6))
    runs = {0: [Run(move.c, 0, 2), Run(move.c, 9, 4)], 1: [Run(move.a, 10, 5), Run(move.a, 19, 1)]}
    assert shown(_remapped(_Piece(two, two.segments[0], runs))) == [
        (0, 4, [("c", 0), ("a", 10)]),
        (4, 6, [("c", 9), ("a", 12)]),
        (10, 2, [("c", 12), ("a", 19)]),
    ]
    assert shown(_remapped(_Piece(two, two.segments[0], {1: [Run(move.c, 3, 6)]}))) == [
        (0, 12, [("a", 5), ("c", 3)])
    ]
    assert shown(_remapped(_Piece(two, two.segments[0]))) == shown(two.segments)
    assert shown(two.segments) == [(0, 12, [("a", 5), ("b", 5)])], "as it was"


# -- copying -----------------------------------------------------------------------------------------


def test_where_extents_lie(move: Any) -> None:
    disk = move.disks["uuid-b"]
    assert _place(move, move.b, 3, 17) == (disk, 8192 + 3 * 4096)
    assert _place(move, move.a, 0, 1) == (move.disks["uuid-a"], 8192)
    for extent, count in ((3, 18), (20, 1)):
        with pytest.raises(CorruptError) as caught:
            _place(move, move.b, extent, count)
        assert caught.value.message == (
            f"extents {extent} to {extent + count - 1} reach past the end of /dev/b"
        )


def jobs(move: Any, pieces: list[_Piece]) -> list[Any]:
    """(extent, disk, extent there, extents) of each."""
    return [
        ((job.start - 8192) // 4096, job.target.name, (job.place - 8192) // 4096, job.length / 4096)
        for job in _jobs(move, move.a, pieces)
    ]


def test_what_is_copied_goes_by_the_source(move: Any) -> None:
    lin = move.volume("lin", linear(move.a, 10, 5))
    two = move.volume("two", striped((move.b, 0), (move.a, 2), length=3))
    pieces = [
        _Piece(lin, lin.segments[0], {0: [Run(move.b, 7, 2), Run(move.c, 1, 3)]}),
        _Piece(two, two.segments[0], {1: [Run(move.c, 9, 3)]}),
        _Piece(two, two.segments[0]),
    ]
    assert jobs(move, pieces) == [(2, "c", 9, 3), (10, "b", 7, 2), (12, "c", 1, 3)]


@pytest.mark.parametrize(
    ("extent", "run", "joined"),
    [
        ((4), ("b", 12), True),
        ((5), ("b", 12), False),  # a gap on the source
        ((4), ("b", 13), False),  # one on the target
        ((4), ("c", 12), False),  # another disk
        ((4), ("b", 5), False),
    ],
)
def test_what_touches_on_both_sides_is_copied_at_once(
    move: Any, extent: int, run: tuple[str, int], joined: bool
) -> None:
    lin = move.volume("lin", linear(move.a, 2, 2), linear(move.a, extent, 3, start=2))
    target = move.b if run[0] == "b" else move.c
    pieces = [
        _Piece(lin, lin.segments[0], {0: [Run(move.b, 10, 2)]}),
        _Piece(lin, lin.segments[1], {0: [Run(target, run[1], 3)]}),
    ]
    expected = [(2, "b", 10, 5)] if joined else [(2, "b", 10, 2), (extent, *run, 3)]
    assert jobs(move, pieces) == jobs(move, pieces[::-1]) == expected


def test_a_source_that_has_become_smaller_is_not_copied(move: Any) -> None:
    lin = move.volume("lin", linear(move.a, 10, 5))
    move.disks["uuid-a"].size = 8192 + 14 * 4096
    with pytest.raises(CorruptError, match="extents 10 to 14 reach past the end of /dev/a"):
        jobs(move, [_Piece(lin, lin.segments[0], {0: [Run(move.b, 0, 5)]})])
    move.disks["uuid-a"].size, move.disks["uuid-b"].size = 1 << 20, 8192 + 4 * 4096
    with pytest.raises(CorruptError, match="extents 0 to 4 reach past the end of /dev/b"):
        jobs(move, [_Piece(lin, lin.segments[0], {0: [Run(move.b, 0, 5)]})])


def copy(
    move: Any, start: int, place: int, length: int, *, buffer: int = 4096
) -> tuple[list[int], list[Any]]:
    """Copy from a to b; what was told, and what was done."""
    source, target = move.disks["uuid-a"], move.disks["uuid-b"]
    before = bytes(target.content)
    done = list(_copy_job(source, _Job(start, target, place, length), memoryview(bytearray(buffer))))
    wanted = bytearray(length)
    for offset, count in source.data_ranges(start, length):
        wanted[offset - start : offset - start + count] = source.content[offset : offset + count]
    assert target.content[place : place + length] == wanted
    assert target.content[:place] == before[:place]
    assert target.content[place + length :] == before[place + length :]
    log, move.log[:] = list(move.log), []
    return done, log


def test_a_copy_goes_in_batches(move: Any) -> None:
    told, log = copy(move, 8192, 20480, 10000)
    assert told == [4096, 8192, 10000]
    assert log == [
        ("a", "read", [(8192, 4096)]),
        ("b", "write", [(20480, 4096)]),
        ("a", "read", [(12288, 4096)]),
        ("b", "write", [(24576, 4096)]),
        ("a", "read", [(16384, 1808)]),
        ("b", "write", [(28672, 1808)]),
    ]
    told, log = copy(move, 20480, 8192, 8192)
    assert told == [4096, 8192, 8192]
    assert len(log) == 4


def test_holes_are_not_copied_but_read_as_zeros(move: Any) -> None:
    """Ranges go together until the buffer is full; of the target only what may hold anything is cleared."""
    source, target = move.disks["uuid-a"], move.disks["uuid-b"]
    source.data = [(9000, 1000), (12000, 500), (14000, 5000)]
    told, log = copy(move, 8192, 20480, 16384)
    shift = 20480 - 8192
    assert told == [8404, 16384]
    assert log == [
        ("b", "zeros", 20480, 808),
        ("b", "zeros", 10000 + shift, 2000),
        ("b", "zeros", 12500 + shift, 1500),
        ("a", "read", [(9000, 1000), (12000, 500), (14000, 2596)]),
        ("b", "write", [(9000 + shift, 1000), (12000 + shift, 500), (14000 + shift, 2596)]),
        ("a", "read", [(16596, 2404)]),
        ("b", "write", [(16596 + shift, 2404)]),
        ("b", "zeros", 19000 + shift, 5576),
    ]
    source.data = []
    target.data = [(20000, 1000), (22000, 100), (36800, 9000)]
    target.content[21000:22000] = bytes(1000)
    target.content[22100:36800] = bytes(14700)
    told, log = copy(move, 8192, 20480, 16384)
    assert told == [16384]
    assert log == [("b", "zeros", 20480, 520), ("b", "zeros", 22000, 100), ("b", "zeros", 36800, 64)]
    _clear(target, 20480, 0)
    assert move.log == []


def test_copies_are_durable_and_told_of(move: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pv_move, "BATCH", 8192)
    lin = move.volume("lin", linear(move.a, 10, 5), linear(move.a, 1, 1, start=5))
    pieces = [
        _Piece(lin, lin.segments[0], {0: [Run(move.b, 7, 2), Run(move.c, 1, 3)]}),
        _Piece(lin, lin.segments[1], {0: [Run(move.c, 9, 1)]}),
    ]
    told: list[tuple[int, int]] = []
    _copy(move, move.a, pieces, lambda *done: told.append(done))
    total = 6 * 4096
    assert told == [(4096, total), (3 * 4096, total), (3 * 4096, total), (5 * 4096, total), (total, total)]
    assert move.log[-2:] == [("c", "flush"), ("b", "flush")]
    assert len([each for each in move.log if each[1] == "flush"]) == 2
    assert max(length for _, what, pieces in move.log[:-2] if what == "read" for _, length in pieces) == 8192
    assert move.disks["uuid-c"].content[8192 + 9 * 4096] == 1 + 2
    assert move.disks["uuid-c"].content[8192 + 1 * 4096] == 12 + 2
    assert move.disks["uuid-b"].content[8192 + 8 * 4096] == 11 + 2
    del move.log[:]
    _copy(move, move.a, pieces[1:], None)
    assert move.log[0] == ("a", "read", [(8192 + 4096, 4096)])


# -- all of it -----------------------------------------------------------------------------------------


def test_the_commit_comes_after_the_copies_are_durable(move: Any) -> None:
    lin = move.volume("lin", linear(move.a, 10, 5), linear(move.b, 0, 2, start=5))
    move.volume("other", linear(move.c, 0, 1))
    told: list[tuple[int, int]] = []
    assert move_extents(move, move, move.request((11, 3)), lambda *done: told.append(done)) == 3
    assert told[-1] == (3 * 4096, 3 * 4096)
    assert move.log[-1] == "commit"
    assert move.log[-2][1] == "flush"
    assert shown(lin.segments) == [
        (0, 1, [("a", 10)]), (1, 3, [("b", 2)]), (4, 1, [("a", 14)]), (5, 2, [("b", 0)]),
    ]  # fmt: skip
    assert shown(move.group.lvs["other"].segments) == [(0, 1, [("c", 0)])]
    # And back, where it is one segment again.
    back = move.request((2, 3), source=move.b, ranges=[(move.a, [(11, 3)])])
    assert move_extents(move, move, back) == 3
    assert shown(lin.segments) == [(0, 5, [("a", 10)]), (5, 2, [("b", 0)])]


def test_a_test_copies_nothing(move: Any) -> None:
    lin = move.volume("lin", linear(move.a, 10, 5))
    move.test = True
    assert move_extents(move, move, move.request()) == 5
    assert move.log == ["commit"], "which writes nothing either"
    assert shown(lin.segments) == [(0, 5, [("b", 0)])]


def test_only_the_named_volume_is_moved_where_it_is_asked_to(move: Any) -> None:
    one = move.volume("one", linear(move.a, 0, 2))
    two = move.volume("two", striped((move.a, 5), (move.b, 5), length=2))
    request = move.request(volume="two", ranges=[(move.b, [(0, 20)]), (move.c, [(4, 9)])])
    assert move_extents(move, move, request) == 2
    assert shown(one.segments) == [(0, 2, [("a", 0)])]
    assert shown(two.segments) == [(0, 4, [("c", 4), ("b", 5)])], "not on the disk of the other stripe"
