# SPDX-License-Identifier: Apache-2.0
"""Move extents from one disk of a group to others (pvmove), for inactive groups.

The data is copied to free extents first and made durable; one commit then changes the mapping. Until that
commit the group is unchanged, and the copies are in extents that nothing uses. The same extents are
allocated as by LVM2 (tools/pvmove.c, lib/metadata/mirror.c). Lengths and places of runs are extents.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import BusyError, CorruptError, NoSpaceError, NotFoundError
from lamella.lvm.format.segments import Area, Segment, StripedSegment, merged
from lamella.lvm.operations.allocation import CLINGING, Clinging, allocate
from lamella.lvm.operations.logical_volumes import require_simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lamella.block.device import BlockDevice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.operations.allocation_result import Run
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.session.session import Session

BATCH = 8 << 20
"""Bytes that are read, and then written, at a time."""
PVMOVE, LOCKED = "PVMOVE", "LOCKED"


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """The options of pvmove."""

    source: PhysicalVolume
    runs: Sequence[tuple[int, int]]
    """(first extent, count) on the source: only what lies in these is moved."""
    volume: str = ""
    """Only this logical volume and what it is built on; "" for all."""
    policy: str = ""
    ranges: PvRanges | None = None
    """Where to; None for anywhere else in the group."""
    clinging: Clinging = CLINGING


@dataclass(slots=True, eq=False)
class _Piece:
    """A part of a striped segment that lies wholly in or wholly out of what is to be moved."""

    lv: LogicalVolume
    segment: StripedSegment
    moved: dict[int, list[Run]] = field(default_factory=dict)
    """By the number of the area: where it goes."""


def pvmove_volumes(group: VolumeGroup) -> Iterator[tuple[LogicalVolume, PhysicalVolume | None]]:
    """The hidden volumes of moves that LVM2 has begun, with the disk that each one moves from."""
    for lv in group.lvs.values():
        if PVMOVE in lv.status:
            areas = lv.segments[0].mapped if lv.segments else []
            yield lv, areas[0].pv if areas else None


def move_extents(
    session: Session,
    found: FoundGroup,
    request: MoveRequest,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Copy, then commit the new mapping; returns the number of extents moved.

    *progress* is called with (bytes done, bytes in all) after every batch. Inside :meth:`Session.editing`.
    Raises :class:`NotFoundError` if there is nothing to move, :class:`NoSpaceError`,
    :class:`UnsupportedError` for types that only LVM2 moves, :class:`BusyError` for a move in progress.
    """
    group = found.group
    source = request.source
    if any(pv is source for _lv, pv in pvmove_volumes(group)):
        raise BusyError(
            f"Detected pvmove in progress for {source.device}.\n"
            "LVM2 has begun it, and has to finish or abort it.",
            hint="run pvmove or pvmove --abort of LVM2",
        )
    ranges = _destinations(group, request)
    pieces = _pieces(session, found, request)
    _allocate(group, request, ranges, pieces)
    if not session.test:
        _copy(found, source, pieces, progress)
    for lv in dict.fromkeys(piece.lv for piece in pieces):
        made = [segment for piece in pieces if piece.lv is lv for segment in _remapped(piece)]
        lv.segments = merged(made)
    session.commit(found, ())
    return sum(run.length for piece in pieces for runs in piece.moved.values() for run in runs)


# -- what and where to -------------------------------------------------------------------------------


def _destinations(group: VolumeGroup, request: MoveRequest) -> PvRanges:
    chosen: PvRanges = (
        [(pv, [(0, pv.pe_count)]) for pv in group.pvs] if request.ranges is None else request.ranges
    )
    policy = request.policy if request.policy not in ("", "inherit") else group.policy
    left = [
        (pv, runs)
        for pv, runs in chosen
        if (pv is not request.source or policy == "anywhere") and group.free_extents(pv)
    ]
    if not left:
        raise NoSpaceError(
            "No extents available for allocation.",
            hint="name other physical volumes, or add one with vgextend",
        )
    return left


def _pieces(session: Session, owner: FoundGroup, request: MoveRequest) -> list[_Piece]:
    """All segments of the volumes concerned, cut where the runs to be moved begin and end."""
    group = owner.group
    users = group.users()
    found: list[_Piece] = []
    kernel = session.kernel(owner)
    active = set(kernel.active_in(owner)) if kernel is not None else set()
    skipped = False
    for lv in group.lvs.values():
        if not _belongs(users, lv, request.volume):
            continue
        if not any(_overlaps(request, segment) for segment in lv.segments):
            continue
        if PVMOVE in lv.status or LOCKED in lv.status:
            names = [user.name for user, _segment, _role in users.get(lv.name, ())] or [lv.name]
            for name in dict.fromkeys(names):
                session.note("pvmove", f"Skipping locked LV {group.name}/{name}.", level="print")
            skipped = True
            continue
        if lv.name in active:
            raise BusyError(
                f"Logical volume {group.name}/{lv.name} is active: Lamella moves only volumes that are not.",
                hint=f"lvchange -an {group.name}/{lv.name}, or let LVM2's pvmove do it",
            )
        require_simple(group, lv, "move")
        cut = [piece for segment in lv.segments for piece in _cut_at_runs(request, segment)]
        pieces = [_Piece(lv, segment) for segment in cut]
        count = 0
        for piece in pieces:
            for index, area in enumerate(piece.segment.mapped):
                if area.pv is request.source and _inside(request, area.extent):
                    piece.moved[index] = []
                    count += piece.segment.area_extents
        said = f"Moving {count} extents of logical volume {group.name}/{lv.name}."
        session.note("pvmove", said, level="verbose")
        found += pieces
    if not found:
        said = "All data on source PV skipped. It contains locked, hidden or non-top level LVs only.\n"
        raise NotFoundError(
            f"{said if skipped else ''}No data to move for {group.name}.",
            hint=f"pvs --segments shows what lies on {request.source.device}",
        )
    return found


def _belongs(
    users: dict[str, list[tuple[LogicalVolume, Segment, str]]], lv: LogicalVolume, name: str
) -> bool:
    """Whether *lv* is the volume called *name*, or a part of it alone; with "" every one is."""
    seen = set()
    while name and lv.name != name:
        above = {user.name: user for user, _segment, _role in users.get(lv.name, ())}
        if len(above) != 1 or lv.name in seen:
            return False
        seen.add(lv.name)
        lv = next(iter(above.values()))
    return True


def _inside(request: MoveRequest, extent: int) -> bool:
    return any(start <= extent < start + count for start, count in request.runs)


def _overlaps(request: MoveRequest, segment: Segment) -> bool:
    length = segment.area_extents
    return any(
        area.pv is request.source and start < area.extent + length and area.extent < start + count
        for area in segment.mapped
        for start, count in request.runs
    )


def _cut_at_runs(request: MoveRequest, segment: Segment) -> list[StripedSegment]:
    assert isinstance(segment, StripedSegment)
    cuts = {
        edge - area.extent
        for area in segment.mapped
        if area.pv is request.source
        for start, count in request.runs
        for edge in (start, start + count)
    }
    return _cut(segment, cuts)


def _cut(segment: StripedSegment, cuts: set[int]) -> list[StripedSegment]:
    """The segment in parts; *cuts* are extents from the start of each of its areas."""
    length = segment.area_extents
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < length), length]
    count = len(segment.mapped)
    return [
        replace(
            segment,
            start_extent=segment.start_extent + low * count,
            extent_count=(high - low) * count,
            tags=list(segment.tags),
            extra=dict(segment.extra),
            mapped=[Area(area.pv, area.extent + low, area.lv) for area in segment.mapped],
        )
        for low, high in pairwise(edges)
    ]


def _allocate(group: VolumeGroup, request: MoveRequest, ranges: PvRanges, pieces: list[_Piece]) -> None:
    """Allocate every area that is to be moved, not on the disks of other areas of its segment."""
    wanted: list[tuple[int, list[PhysicalVolume]]] = []
    targets: list[list[Run]] = []
    for piece in pieces:
        beside = [area.pv for area in piece.segment.mapped if area.pv is not None]
        for index in piece.moved:
            wanted.append((piece.segment.area_extents, beside))
            targets.append(piece.moved[index])
    try:  # the words are those of LVM2, which keeps old and new place as a mirror meanwhile
        found = allocate(
            group,
            sum(length for length, _beside in wanted),
            policy=request.policy,
            ranges=ranges,
            clinging=request.clinging,
            parallel=wanted,
        )
    except NoSpaceError as error:
        raise NoSpaceError(
            f"{error.message}\n"
            f"Unable to allocate mirror extents for {group.name}/pvmove0.\n"
            "Failed to convert pvmove LV to mirrored.",
            hint=error.hint,
        ) from error
    waiting = iter(found.stripes[0])
    for (length, _beside), runs in zip(wanted, targets, strict=True):
        while length:
            run = next(waiting)
            runs.append(run)
            length -= run.length
    assert next(waiting, None) is None


def _remapped(piece: _Piece) -> list[Segment]:
    """The piece as it is after the move, cut where its new places are not in one run."""
    cuts: set[int] = set()
    for runs in piece.moved.values():
        at = 0
        for run in runs:
            at += run.length
            cuts.add(at)
    parts = _cut(piece.segment, cuts)
    for index, runs in piece.moved.items():
        waiting = iter(runs)
        run, inside = next(waiting), 0
        for part in parts:
            if inside == run.length:
                run, inside = next(waiting), 0
            part.mapped[index] = Area(run.pv, run.start + inside)
            inside += part.area_extents
    return list(parts)


# -- copying -----------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Job:
    """Bytes to be copied from one place of the source to one place of another disk."""

    start: int
    target: BlockDevice
    place: int
    length: int


def _place(found: FoundGroup, pv: PhysicalVolume, extent: int, count: int) -> tuple[BlockDevice, int]:
    """The disk, open for writing, and where on it the extents begin, in bytes."""
    disk = found.disks[pv.uuid]
    size = found.group.extent_size
    start = pv.pe_start * SECTOR + extent * size
    if start + count * size > disk.size:
        raise CorruptError(
            f"extents {extent} to {extent + count - 1} reach past the end of {disk.path}",
            hint="the disk has become smaller; restore it or its size",
        )
    return disk.writer, start


def _jobs(found: FoundGroup, source: PhysicalVolume, pieces: list[_Piece]) -> list[_Job]:
    """What is to be copied, in the order of the source; what touches on both sides is one job."""
    size = found.group.extent_size
    jobs = []
    for piece in pieces:
        for index, runs in piece.moved.items():
            at = piece.segment.mapped[index].extent
            for run in runs:
                _device, start = _place(found, source, at, run.length)
                target, place = _place(found, run.pv, run.start, run.length)
                jobs.append(_Job(start, target, place, run.length * size))
                at += run.length
    jobs.sort(key=lambda job: job.start)
    joined: list[_Job] = []
    for job in jobs:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.target is job.target
            and last.start + last.length == job.start
            and last.place + last.length == job.place
        ):
            last.length += job.length
        else:
            joined.append(job)
    return joined


def _copy(
    found: FoundGroup,
    source: PhysicalVolume,
    pieces: list[_Piece],
    progress: Callable[[int, int], None] | None,
) -> None:
    # The source is opened for writing too: that locks out programs that might change it meanwhile.
    reader = found.disks[source.uuid].writer
    jobs = _jobs(found, source, pieces)
    total = sum(job.length for job in jobs)
    buffer = memoryview(bytearray(min(BATCH, total)))
    before = 0
    for job in jobs:
        for done in _copy_job(reader, job, buffer):
            if progress is not None:
                progress(before + done, total)
        before += job.length
    for target in dict.fromkeys(job.target for job in jobs):
        target.flush()


def _copy_job(reader: BlockDevice, job: _Job, buffer: memoryview) -> Iterator[int]:
    """Copy in batches; yields how many of the job's bytes are done."""
    shift = job.place - job.start
    batch: list[tuple[int, memoryview]] = []
    filled = 0
    at = job.start

    def finish() -> None:
        nonlocal filled
        reader.read_many(batch)
        job.target.write_many([(offset + shift, view) for offset, view in batch])
        batch.clear()
        filled = 0

    for start, length in reader.data_ranges(job.start, job.length):
        _clear(job.target, at + shift, start - at)
        at = start
        while at < start + length:
            take = min(start + length - at, len(buffer) - filled)
            batch.append((at, buffer[filled : filled + take]))
            filled += take
            at += take
            if filled == len(buffer):
                finish()
                yield at - job.start
    if batch:
        finish()
    _clear(job.target, at + shift, job.start + job.length - at)
    yield job.length


def _clear(target: BlockDevice, start: int, length: int) -> None:
    """Let a hole of the source read as zeros on the target too, touching only what may be otherwise."""
    if length:
        for offset, count in list(target.data_ranges(start, length)):
            target.write_zeros(offset, count)
