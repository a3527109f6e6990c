# SPDX-License-Identifier: Apache-2.0
"""The extents that an allocation found for a volume. All lengths and places are in extents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.lvm.format.segments import Area, Segment, StripedSegment

if TYPE_CHECKING:
    from lamella.lvm.format.physical_volume import PhysicalVolume


@dataclass(frozen=True, slots=True)
class Run:
    """A run of extents on one disk."""

    pv: PhysicalVolume
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """The result: for each stripe its runs, one per new segment; and the run for metadata if asked for."""

    stripes: list[list[Run]]
    metadata: Run | None

    @property
    def extents(self) -> int:
        """Extents that the volume grows by."""
        return sum(run.length for runs in self.stripes for run in runs)

    def segments(self, start: int, stripe_size: int) -> list[Segment]:
        """The new segments, from extent *start* of the volume on; *stripe_size* in sectors."""
        count = len(self.stripes)
        made: list[Segment] = []
        for parallel in zip(*self.stripes, strict=True):
            length = parallel[0].length * count
            segment = StripedSegment("striped", start, length)
            segment.stripe_size = stripe_size if count > 1 else 0
            segment.mapped = [Area(run.pv, run.start) for run in parallel]
            made.append(segment)
            start += length
        return made
