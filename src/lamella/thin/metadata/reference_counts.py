# SPDX-License-Identifier: Apache-2.0
"""References counted by walking everything, and their comparison with what a space map says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from lamella.thin.format.space_map import ENTRIES_PER_BITMAP, OVERFLOW
from lamella.thin.metadata.findings import SHOWN

if TYPE_CHECKING:
    import numpy.typing as npt

    from lamella.thin.format.arrays import Bools, Int64s, Uint8s, Uint64s
    from lamella.thin.metadata.findings import Problems
    from lamella.thin.metadata.space_map import SpaceMapReader


class References(Protocol):
    """How often each block is referred to."""

    def counts(self, first: int, last: int) -> Int64s:
        """References to each block from *first* up to, not including, *last*."""
        ...


class MetadataReferences:
    """References to the blocks of a metadata device of *nr_blocks* blocks."""

    def __init__(self, nr_blocks: int) -> None:
        self.nr_blocks = nr_blocks
        self._parts: list[Int64s] = []
        self._table: Int64s | None = None

    def add(self, blocks: Uint64s | Int64s) -> None:
        """Count one reference for each element; pointers outside the device are passed over."""
        self._parts.append(blocks[blocks < self.nr_blocks].astype(np.int64))

    def add_one(self, block: int) -> None:
        self.add(np.array([block], dtype=np.int64))

    def copy(self) -> MetadataReferences:
        """The references so far, to be added to apart from these."""
        twin = MetadataReferences(self.nr_blocks)
        twin._parts, twin._table = list(self._parts), self._table
        return twin

    def highest(self) -> int:
        """The highest block referred to; -1 if there is none."""
        found = np.flatnonzero(self._counted())
        return int(found[-1]) if len(found) else -1

    def counts(self, first: int, last: int) -> Int64s:
        return self._counted()[first:last]

    def _counted(self) -> Int64s:
        if self._parts:
            fresh = np.bincount(np.concatenate(self._parts), minlength=self.nr_blocks)
            self._table = fresh if self._table is None else self._table + fresh
            self._parts = []
        return np.zeros(self.nr_blocks, dtype=np.int64) if self._table is None else self._table


class DataReferences:
    """References to data blocks. Memory goes with the mappings, not with the size of the data device."""

    def __init__(self) -> None:
        self._parts: list[npt.NDArray[np.unsignedinteger]] = []
        self._sorted: npt.NDArray[np.unsignedinteger] | None = None

    def add(self, blocks: Uint64s, nr_blocks: int) -> None:
        """Count one reference for each element of *blocks*, of a device of *nr_blocks* blocks."""
        self._parts.append(blocks.astype(np.uint32) if nr_blocks <= 1 << 32 else blocks)

    def counts(self, first: int, last: int) -> Int64s:
        if self._sorted is None:
            joined = np.concatenate(self._parts) if self._parts else np.empty(0, dtype=np.uint64)
            self._parts = []
            joined.sort()
            self._sorted = joined
        kind = self._sorted.dtype.type
        # last may be one more than the type holds; the block before it never is.
        start = int(np.searchsorted(self._sorted, kind(first)))
        stop = int(np.searchsorted(self._sorted, kind(last - 1), side="right"))
        part = self._sorted[start:stop].astype(np.int64)
        part -= first
        return np.bincount(part, minlength=last - first)


class CountedTooHigh(NamedTuple):
    """Blocks of a space map that are counted more often than they are referred to."""

    blocks: int
    lost: int
    """Those among them that nothing refers to."""


def compare(space_map: SpaceMapReader, references: References, kind: str) -> CountedTooHigh:
    """Compare *space_map* with the *references* found; differences become problems.

    *kind* is "data" or "metadata". A count too high is a leak and not fatal; one too low is fatal, because
    the block could be given away while in use.
    """
    return _Comparison(space_map, references, kind).run()


class _Comparison:
    def __init__(self, space_map: SpaceMapReader, references: References, kind: str) -> None:
        self.map = space_map
        self.references = references
        self.kind = kind
        self.problems: Problems = space_map.problems
        self.place = space_map.place
        self.leaks: list[tuple[int, int, int]] = []
        self.leak_count = 0
        self.lost_count = 0
        self.low: list[tuple[int, int, int]] = []
        self.low_count = 0
        self.allocated = 0

    def run(self) -> CountedTooHigh:
        nr_blocks, wrong_free, all_good = self.map.nr_blocks, 0, True
        for first, rows, good in self.map.bitmaps():
            used = min(rows.size, nr_blocks - first)
            raw = rows.reshape(-1)
            if used < rows.size and raw[used:].any():
                self.problems.add(self.place, "it counts references to blocks past its end", fatal=False)
            actual = self._resolve(first, raw[:used])
            expected = self.references.counts(first, first + used)
            if not good.all():
                all_good = False
                known = np.repeat(good, ENTRIES_PER_BITMAP)[:used]
                expected = np.where(known, expected, actual)
            self._note(first, expected, actual)
            wrong_free += self._wrong_free(first // ENTRIES_PER_BITMAP, rows, good)
        self._report()
        if all_good and self.allocated > self.map.root.nr_allocated:
            # thin_restore 0.9 claims one block too many; that is harmless.
            self.problems.add(
                self.place,
                f"it has {self.allocated} blocks in use, but says {self.map.root.nr_allocated}",
                fatal=False,
            )
        if wrong_free:
            self.problems.add(
                self.place, f"{wrong_free} index entries claim more free blocks than there are", fatal=False
            )
        return CountedTooHigh(self.leak_count, self.lost_count)

    def _resolve(self, first: int, raw: Uint8s) -> Int64s:
        """True counts: those of the overflow tree instead of threes."""
        actual = raw.astype(np.int64)
        large = np.flatnonzero(raw == OVERFLOW)
        blocks = self.map.overflow_blocks
        window = slice(*np.searchsorted(blocks, (first, first + len(raw))).tolist())
        if len(large):
            places = np.searchsorted(blocks, large + first)
            places[places == len(blocks)] = 0
            present = blocks[places] == large + first if len(blocks) else np.zeros(len(large), np.bool_)
            if not present.all():
                lost = large[~present] + first
                self.problems.add(
                    self.place,
                    f"the overflow tree has no entry for {self.kind} block {int(lost[0])}, as it should"
                    + (f" (nor for {len(lost) - 1} others)" if len(lost) > 1 else ""),
                )
            actual[large[present]] = self.map.overflow_counts[places[present]]
        stale = int((raw[blocks[window] - first] != OVERFLOW).sum())
        if stale:
            self.problems.add(self.place, f"{stale} entries of the overflow tree are not in use", fatal=False)
        return actual

    def _note(self, first: int, expected: Int64s, actual: Int64s) -> None:
        self.allocated += int(np.count_nonzero(actual))
        if np.array_equal(expected, actual):
            return
        for wrong, kept in ((actual > expected, self.leaks), (actual < expected, self.low)):
            where = np.flatnonzero(wrong)
            if kept is self.leaks:
                self.leak_count += len(where)
                self.lost_count += len(where) - int(np.count_nonzero(expected[where]))
            else:
                self.low_count += len(where)
            where = where[: SHOWN + 1 - len(kept)]
            triples = zip(
                (where + first).tolist(), expected[where].tolist(), actual[where].tolist(), strict=True
            )
            kept.extend(triples)

    def _wrong_free(self, start: int, rows: Uint8s, good: Bools) -> int:
        """Index entries that claim more free blocks than their bitmaps have, counting past the map's end."""
        free = np.count_nonzero(rows == 0, axis=1)
        claimed = self.map.index["nr_free"][start : start + len(rows)].astype(np.int64)
        return int(np.count_nonzero(good & (claimed > free)))

    def _report(self) -> None:
        for kept, total, fatal in ((self.low, self.low_count, True), (self.leaks, self.leak_count, False)):
            shown = kept if total <= SHOWN + 1 else kept[:SHOWN]
            for block, expected, actual in shown:
                self.problems.add(
                    self.place,
                    f"{self.kind} block {block} is referred to {expected} times, but counted {actual}",
                    fatal=fatal,
                )
            if total > len(shown):
                what = "counted too low" if fatal else "counted too high (leaked)"
                self.problems.add(
                    self.place, f"{total - len(shown)} more {self.kind} blocks are {what}", fatal=fatal
                )
