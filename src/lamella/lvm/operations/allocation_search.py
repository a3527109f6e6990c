# SPDX-License-Identifier: Apache-2.0
"""The search for free extents by LVM2's allocation policies; see :mod:`lamella.lvm.operations.allocation`.

Every policy looks for sets of parallel areas, one for each stripe and one for a pool's metadata: it considers
the holes of each disk, arranges those that suit, and takes extents from them. (lib/metadata/lv_manip.c)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.errors import NoSpaceError
from lamella.lvm.operations.allocation_result import Allocation, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.operations.free_space import Hole, Space


ORDER = ("contiguous", "cling", "cling_by_tags", "normal", "anywhere")


@dataclass(slots=True)
class _Choice:
    """A hole that is considered for one of the parallel areas, and how much of it."""

    hole: Hole | None = None
    used: int = 0


_NEXT_HOLE, _NEXT_PV, _USE, _PREFERRED = range(4)


@dataclass(slots=True)
class Search:
    spaces: list[Space]
    volume: LogicalVolume | None
    needed: int
    stripes: int
    metadata_needed: int
    cling_tags: tuple[str, ...]
    maximise_cling: bool
    separate_metadata: bool
    can_split: bool
    approximate: bool
    parallel: Sequence[tuple[int, Sequence[PhysicalVolume]]] = ()

    found: list[list[Run]] = field(default_factory=list)
    metadata: Run | None = None
    allocated: int = 0
    choices: list[_Choice] = field(default_factory=list)
    avoided: Sequence[PhysicalVolume] = ()
    # What the policy that is being tried asks for.
    policy: str = ""
    count_matches: bool = False
    contiguous_to_last: bool = False
    cling_to_last: bool = False
    cling_to_allocated: bool = False
    by_tags: bool = False
    positional: bool = False
    partition_by_tags: bool = False

    @property
    def metadata_open(self) -> int:
        """Metadata areas still to be found: 0 or 1."""
        return int(bool(self.metadata_needed) and self.metadata is None)

    def run(self, policy: str, name: str) -> Allocation:
        self.found = [[] for _ in range(self.stripes)]
        if policy == "cling":
            policy = "cling_by_tags"
        last = ORDER.index(policy)
        if (
            self.separate_metadata
            and policy != "anywhere"
            and len(self.spaces) < self.stripes + self.metadata_open
        ):
            raise NoSpaceError(
                "Not enough PVs with free space available for parallel allocation.",
                hint="Consider --alloc anywhere if desperate.",
            )
        at = 0
        while at <= last:
            step = ORDER[at]
            at += 1
            if step == "cling_by_tags" and not self.cling_tags:
                continue
            before = self.allocated
            if not self.approximate:
                self._check_total()
            self._prepare(step)
            self._find_for_policy()
            if self.allocated == self.needed or (not self.can_split and self.allocated != before):
                break
        self._check_result(name)
        return Allocation(self.found, self.metadata)

    def _check_total(self) -> None:
        needed = self.needed - self.allocated + self.metadata_open * self.metadata_needed
        free = sum(space.free for space in self.spaces)
        if needed > free:
            raise NoSpaceError(
                f"Insufficient free space: {needed} extents needed, but only {free} available",
                hint="remove or shrink volumes, or add a physical volume with vgextend",
            )

    def _check_result(self, name: str) -> None:
        kind = "" if self.can_split else "contiguous "
        hint = "choose other physical volumes or another --alloc policy, or add disks with vgextend"
        if self.allocated != self.needed:
            if not self.approximate:
                raise NoSpaceError(
                    f"Insufficient suitable {kind}allocatable extents for logical volume {name}: "
                    f"{self.needed - self.allocated} more required",
                    hint=hint,
                )
            if not self.allocated:
                raise NoSpaceError(
                    f"Insufficient suitable {kind}allocatable extents found for logical volume {name}.",
                    hint=hint,
                )

    # -- one policy ------------------------------------------------------------------------------

    def _prepare(self, policy: str) -> None:
        self.policy = policy
        self.count_matches = self.contiguous_to_last = self.cling_to_last = False
        self.cling_to_allocated = self.positional = False
        clings = policy in ("cling", "cling_by_tags")
        last = self.volume.segments[-1] if self.volume is not None else None
        if last is not None and len(last.areas()) == self.stripes:
            self.count_matches = True
            if policy == "contiguous":
                self.contiguous_to_last = self.positional = True
            elif clings:
                self.cling_to_last = self.positional = True
        elif clings:
            self.cling_to_allocated = self.positional = True
        self.by_tags = policy == "cling_by_tags"
        self.partition_by_tags = policy == "contiguous" and bool(self.cling_tags)
        if self.maximise_cling and policy == "normal" and self.allocated != self.needed:
            self.cling_to_allocated = True

    def _find_for_policy(self) -> None:
        while True:
            before = self.allocated
            self._find_some(self._next_part() - self.allocated)
            if self.allocated == before:
                if self.maximise_cling and self.cling_to_last and self.positional:
                    self.positional = False
                elif self.policy == "normal" and self.cling_to_allocated:
                    self.cling_to_allocated = False
                else:
                    return
            elif self.maximise_cling and self.policy == "normal":
                self.cling_to_allocated = True
            if self.policy == "contiguous" or self.allocated == self.needed or not self.can_split:
                return
            if self.approximate and not any(space.holes for space in self.spaces):
                return

    def _next_part(self) -> int:
        """Where the current part ends; records the disks that it avoids."""
        self.avoided = ()
        end = 0
        for length, disks in self.parallel:
            end += length
            if self.allocated < end:
                self.avoided = disks
                return end
        return self.needed

    def _find_some(self, wanted: int) -> None:
        """Find one set of parallel areas, of *wanted* extents in all at most, and take it."""
        self.choices = [_Choice() for _ in range(len(self.spaces) + self.stripes + 1)]
        for space in self.spaces:
            self._unreserve(space)
        places = self._look(wanted)
        if places is None:
            return
        self._take(wanted, places)

    def _unreserve(self, space: Space) -> None:
        """Make holes free that were considered before. Not always all of them: LVM2 goes on behind the place
        that it moves a hole to, and passes over those that the hole has moved behind."""
        at = 0
        while at < len(space.holes):
            hole = space.holes[at]
            if hole.unreserved != hole.count:
                hole.unreserved = hole.count
                self._reinsert(hole)
                at = space.holes.index(hole)
            at += 1

    @staticmethod
    def _reinsert(hole: Hole) -> None:
        hole.space.holes.remove(hole)
        hole.space.insert(hole, hole.unreserved)

    def _look(self, wanted: int) -> int | None:
        """Fill ``choices``; returns the index of the metadata's area, or None if nothing suits.

        A policy counts either ``preferred`` holes, each in the place of an area of the volume (while
        ``positional``), or ``others``.
        """
        others = 0
        preferred = 0
        for_metadata = False
        total = self.stripes + self.metadata_open
        while True:
            before = others
            for space in self.spaces:
                others, preferred = self._look_at(space, wanted, others, preferred, for_metadata)
                if (self.policy == "anywhere" and others >= total) or preferred == total:
                    break
            if self.policy == "anywhere" and before != others and others < total:
                continue
            if (
                self.policy == "normal"
                and not for_metadata
                and not self.separate_metadata
                and self.stripes <= others < total
            ):
                for_metadata = True
                continue
            break
        return self._arrange(others, preferred, for_metadata)

    def _look_at(
        self, space: Space, wanted: int, others: int, preferred: int, for_metadata: bool
    ) -> tuple[int, int]:
        if self.policy != "anywhere" and space.pv in self.avoided:
            return others, preferred
        already = False
        at = 0
        while at < len(space.holes):
            hole = space.holes[at]
            verdict = self._judge(hole, wanted, already, for_metadata)
            if verdict == _PREFERRED:
                return others, preferred + 1
            if verdict == _NEXT_PV:
                break
            if verdict == _USE:
                if not already or self.policy == "anywhere":
                    others += 1
                    already = True
                index = others - 1
                self._reserve(index, hole, self._required(hole, index, wanted))
                # A hole that is smaller now may have moved down the list; the search goes on behind it.
                at = space.holes.index(hole)
            at += 1
        return others, preferred

    def _reserve(self, index: int, hole: Hole, used: int) -> None:
        while index >= len(self.choices):
            self.choices.append(_Choice())
        self.choices[index] = _Choice(hole, used)

    def _required(self, hole: Hole, index: int, wanted: int) -> int:
        required = wanted // self.stripes
        if self.policy == "anywhere":
            if index >= self.stripes:
                required = self.metadata_needed
        elif required < self.metadata_needed:
            required = self.metadata_needed
        if required >= hole.unreserved:
            required = hole.unreserved
            hole.unreserved = 0
        else:
            hole.unreserved -= required
            self._reinsert(hole)
        return required

    def _judge(self, hole: Hole, wanted: int, already: bool, for_metadata: bool) -> int:
        if not hole.unreserved:
            return _NEXT_HOLE
        suits = _PREFERRED if self.positional else _USE
        if not for_metadata and (self.contiguous_to_last or self.cling_to_last or self.cling_to_allocated):
            matching = self.maximise_cling and self.count_matches
            if (self.contiguous_to_last or matching) and self._is_contiguous(hole):
                return suits
            if self.contiguous_to_last:
                return _NEXT_HOLE
            if (self.cling_to_last or matching) and self._clings_to_volume(hole, by_tags=False):
                return suits
            if self.cling_to_allocated and self._clings_to_found(hole, by_tags=False):
                return suits
            if not self.by_tags:
                return _NEXT_PV
            if self.count_matches:
                return suits if self._clings_to_volume(hole, by_tags=True) else _NEXT_PV
            return suits if self._clings_to_found(hole, by_tags=True) else _NEXT_PV
        if hole.unreserved * self.stripes < wanted and (
            (not self.can_split and not self.metadata_needed) or (already and self.policy != "anywhere")
        ):
            return _NEXT_PV
        return suits

    def _match(self, index: int, hole: Hole) -> bool:
        """Record a match with the area *index* of the volume; False if it has one or is not asked for."""
        if not self.positional:
            return True
        if index >= self.stripes or self.choices[index].hole is not None:
            return False
        self._reserve(index, hole, hole.count)
        return True

    def _is_contiguous(self, hole: Hole) -> bool:
        assert self.volume is not None
        last = self.volume.segments[-1]
        for index, area in enumerate(last.areas()):
            end = area.extent + last.area_extents
            if area.pv is hole.space.pv and end == hole.start and self._match(index, hole):
                return True
        return False

    def _clings_to_volume(self, hole: Hole, *, by_tags: bool) -> bool:
        assert self.volume is not None
        # With maximise_cling LVM looks at the volume's first segment, not at all of them.
        segment = self.volume.segments[0 if self.maximise_cling else -1]
        for index, area in enumerate(segment.areas()):
            if area.pv is None:
                continue
            same = self._share_tag(hole.space.pv, area.pv) if by_tags else area.pv is hole.space.pv
            if same and self._match(index, hole):
                return True
        return False

    def _clings_to_found(self, hole: Hole, *, by_tags: bool) -> bool:
        if self.metadata_open:
            return False
        for index, runs in enumerate(self.found):
            if self.positional and self.choices[index].hole is not None:
                continue
            for run in runs:
                same = self._share_tag(hole.space.pv, run.pv) if by_tags else run.pv is hole.space.pv
                if same:
                    if self.positional:
                        self._reserve(index, hole, hole.count)
                    return True
        return False

    def _share_tag(self, one: PhysicalVolume, other: PhysicalVolume) -> bool:
        return self._tag_among(one, other.tags)

    def _tag_among(self, pv: PhysicalVolume, tags: Sequence[str]) -> bool:
        for tag in self.cling_tags:
            if tag == "*":
                if set(pv.tags) & set(tags):
                    return True
            elif tag in pv.tags and tag in tags:
                return True
        return False

    # -- from choices to extents -----------------------------------------------------------------

    def _arrange(self, others: int, preferred: int, for_metadata: bool) -> int | None:
        """Sort the choices, largest first; the index of the metadata's area, or None if too few."""
        if others + preferred < self.stripes + self.metadata_open:
            return None
        low = self.stripes if for_metadata else 0
        self.choices[low:others] = sorted(self.choices[low:others], key=lambda choice: -choice.used)
        place = 0
        if self.metadata_open:
            found = self._metadata_place(others)
            if found is None:
                return None
            place = found
        if self.partition_by_tags and not preferred:
            others = self._one_per_tag(place, others)
            if self.metadata_open:
                found = self._metadata_place(others)
                if found is None:
                    return None
                place = found
            if others < self.stripes + self.metadata_open:
                return None
        return place

    def _metadata_place(self, count: int) -> int | None:
        """The smallest area that is large enough for the metadata: they are sorted, largest first."""
        small = 0
        while small < count and self.choices[count - 1 - small].used < self.metadata_needed:
            small += 1
        if self.separate_metadata and small and small >= self.stripes:
            return None
        if count < small + 1:
            return None
        return count - small - 1

    def _one_per_tag(self, place: int, others: int) -> int:
        """Leave out areas on disks that share a tag with a disk chosen before."""
        kept: list[_Choice] = []
        tags: list[str] = []
        left = others
        for choice in self.choices:
            if choice.hole is None:
                break
            if len(kept) == place:
                tags = []
            if self._tag_among(choice.hole.space.pv, tags):
                left -= 1
            else:
                tags += choice.hole.space.pv.tags
                kept.append(choice)
        self.choices = [*kept, *(_Choice() for _ in range(len(self.choices) - len(kept)))]
        return left

    def _take(self, wanted: int, metadata_place: int) -> None:
        """Take the data's areas and, the first time, the metadata's: all of them or none."""
        data = self.choices[: self.stripes]
        length = min([wanted // self.stripes, *(choice.used for choice in data)])
        holes = [choice.hole for choice in data if choice.hole is not None]
        place = self.choices[metadata_place].hole if self.metadata_open else None
        # The metadata's area may be one of the data's as well. LVM2 fails an assertion (consume_pv_area) if
        # the hole is too short for both; here the data get less of it for now.
        for hole in holes:
            free = hole.count - (self.metadata_needed if hole is place else 0)
            length = min(length, free // holes.count(hole))
        if length <= 0:
            return
        for index, hole in enumerate(holes):
            self.found[index].append(self._consume(hole, length))
        if place is not None:
            self.metadata = self._consume(place, self.metadata_needed)
        self.allocated += length * self.stripes

    @staticmethod
    def _consume(hole: Hole, count: int) -> Run:
        run = Run(hole.space.pv, hole.start, count)
        hole.space.consume(hole, count)
        return run
