# SPDX-License-Identifier: Apache-2.0
"""The unused extents of disks, in the order in which LVM2 tries them. (lib/metadata/pv_map.c)"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.block.ranges import gaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume


@dataclass(slots=True, eq=False)
class Hole:
    """A run of unused extents; ``unreserved`` of them are not yet considered for anything."""

    space: Space
    start: int
    count: int
    unreserved: int = 0


@dataclass(slots=True, eq=False)
class Space:
    """The usable holes of one disk, largest first."""

    pv: PhysicalVolume
    holes: list[Hole] = field(default_factory=list)

    @property
    def free(self) -> int:
        return sum(hole.count for hole in self.holes)

    def insert(self, hole: Hole, count: int) -> None:
        """Put *hole* before the first one that is smaller than *count*."""
        for at, other in enumerate(self.holes):
            if count > other.count:
                self.holes.insert(at, hole)
                return
        self.holes.append(hole)

    def consume(self, hole: Hole, length: int) -> None:
        """Take *length* extents from the hole's start."""
        self.holes.remove(hole)
        if length < hole.count:
            hole.start += length
            hole.count -= length
            hole.unreserved = hole.count
            self.insert(hole, hole.count)


def free_space(
    group: VolumeGroup, ranges: Sequence[tuple[PhysicalVolume, Sequence[tuple[int, int]] | None]] | None
) -> list[Space]:
    """What may be allocated on each disk: all of the group's, or those in *ranges* with their extents.

    Disks that are missing or not allocatable are left out.
    """
    if ranges is None:
        ranges = [(pv, None) for pv in group.pvs]
    spaces: dict[str, Space] = {}
    used = group.extent_map()
    for pv, wanted in ranges:
        if not pv.allocatable or pv.missing:
            continue
        space = spaces.setdefault(pv.uuid, Space(pv))
        free = list(gaps(((start, count) for start, count, _lv, _segment in used[pv.uuid]), pv.pe_count))
        for first, length in [(0, pv.pe_count)] if wanted is None else wanted:
            for start, count in free:
                low, high = max(start, first), min(start + count, first + length)
                if low < high:
                    hole = Hole(space, low, high - low, high - low)
                    space.insert(hole, hole.count)
    return list(spaces.values())
