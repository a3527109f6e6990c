# SPDX-License-Identifier: Apache-2.0
"""Disks named on a command line, with ranges of extents: ``/dev/sdb:0-99:200-``, ``/dev/sdc:5+10``, ``@tag``.

Messages are LVM2's (lib/metadata/pv_list.c).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lamella.errors import NoSpaceError, NotFoundError, UsageError
from lamella.lvm.disks.notice import Notice
from lamella.lvm.disks.scan import FoundGroup, same_file
from lamella.lvm.format.names import is_valid_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume

PvRanges = list[tuple["PhysicalVolume", list[tuple[int, int]]]]
"""Disks in the order in which they were named, each with (first extent, count) pairs."""

_RANGE = re.compile(r"(\d+)?(?:(-)(\d+)?|(\+)(\d+)?)?")
_READABLE = re.compile(r"\d*(?:[-+]\d*)?")
_HINT = "write ranges as /dev/sdb:0-99:200- or /dev/sdb:100+50"


def parse_pv_ranges(
    found: FoundGroup,
    arguments: Sequence[str],
    say: Callable[[Notice], None],
    *,
    allocatable_only: bool = True,
) -> PvRanges:
    """The disks and extents that *arguments* name in the group.

    With *allocatable_only*, disks from which nothing can be taken are left out with a warning. Raises
    :class:`NotFoundError` for a disk that is not in the group, :class:`UsageError` for bad syntax, and
    :class:`NoSpaceError` if nothing is left.
    """
    chosen: PvRanges = []
    free = {pv.uuid: found.group.free_extents(pv) for pv in found.group.pvs} if allocatable_only else {}

    def add(pv: PhysicalVolume, ranges: str) -> None:
        if allocatable_only:
            reason = ""
            if not pv.allocatable:
                reason = f"WARNING: Physical volume {pv.device} not allocatable."
            elif pv.missing:
                reason = f"WARNING: Physical volume {pv.device} is missing."
            elif not free[pv.uuid]:
                reason = f'WARNING: No free extents on physical volume "{pv.device}".'
            if reason:
                say(Notice("allocation", reason, pv.device))
                return
        entry = next((pairs for other, pairs in chosen if other is pv), None)
        if entry is None:
            entry = []
            chosen.append((pv, entry))
        _parse_ranges(pv, ranges, entry)

    for argument in arguments:
        if argument.startswith("@"):
            tag = argument[1:]
            if not is_valid_tag(tag):
                say(Notice("tag", f"Skipping invalid tag {tag}.", level="error"))
                continue
            for pv in found.group.pvs:
                if tag in pv.tags:
                    add(pv, "")
            continue
        pv, ranges = _named(found, argument)
        add(pv, ranges)
    if not chosen:
        raise NoSpaceError(
            "No specified PVs have space available.", hint="pvs shows what is free on each physical volume"
        )
    return chosen


def _named(found: FoundGroup, argument: str) -> tuple[PhysicalVolume, str]:
    """The disk, and the ranges behind it. A path may itself hold colons (``nbd://host:10809/x``)."""
    plain = argument.replace("\\:", "\0")
    at = len(plain)
    while True:
        path, ranges = plain[:at].replace("\0", ":"), plain[at:]
        for pv in found.group.pvs:
            if not pv.missing and (pv.device == path or same_file(pv.device, path)):
                return pv, ranges
        at = plain.rfind(":", 0, at)
        if at <= 0:
            first = plain.partition(":")[0].replace("\0", ":")
            raise NotFoundError(
                f'Physical Volume "{first}" not found in Volume Group "{found.group.name}".',
                hint=f"pvs lists the physical volumes of {found.group.name}",
            )


def _parse_ranges(pv: PhysicalVolume, text: str, into: list[tuple[int, int]]) -> None:
    if not text:
        _add(pv, into, 0, pv.pe_count)
        return
    for part in text[1:].split(":"):
        match = _RANGE.fullmatch(part)
        if not part or not match:
            rest = part[_READABLE.match(part).end() :]  # type: ignore[union-attr]  # it matches anything
            raise UsageError(f"Physical extent parsing error at {rest or part}.", hint=_HINT)
        first, dash, last, plus, count = match.groups()
        start, end = int(first or 0), pv.pe_count - 1
        if dash:
            end = int(last) if last else end
        elif plus:
            end = start + max(int(count), 1) - 1 if count else end
        else:
            end = start
        if start > end or end > pv.pe_count - 1:
            raise UsageError(f"PE range error: start extent {start} to end extent {end}.", hint=_HINT)
        _add(pv, into, start, end - start + 1)


def _add(pv: PhysicalVolume, into: list[tuple[int, int]], start: int, count: int) -> None:
    for other, length in into:
        if start < other + length and other < start + count:
            raise UsageError(
                f"Overlapping PE ranges specified ({start}-{start + count - 1}, "
                f"{other}-{other + length - 1}) on {pv.device}.",
                hint=_HINT,
            )
    into.append((start, count))


def free_in(group: VolumeGroup, ranges: PvRanges | None) -> int:
    """Free extents in the named ranges (None: in the group)."""
    if ranges is None:
        return group.free_extents()
    total = 0
    for pv, runs in ranges:
        for start, count in group.free_ranges(pv):
            for first, length in runs:
                total += max(min(start + count, first + length) - max(start, first), 0)
    return total
