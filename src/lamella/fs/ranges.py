# SPDX-License-Identifier: Apache-2.0
"""A set of bytes, as ranges."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from lamella.block.ranges import merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Ranges:
    """A set of bytes of a device: sorted, merged (start, end) pairs."""

    def __init__(self, pieces: Iterable[tuple[int, int]]) -> None:
        found = list(merged(sorted(piece for piece in pieces if piece[1] > 0)))
        self._starts = [offset for offset, _ in found]
        self._ends = [offset + length for offset, length in found]
        self._start_array: Numbers = np.array(self._starts, dtype=np.int64)
        self._end_array: Numbers = np.array(self._ends, dtype=np.int64)

    def inside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The (start, end) parts of [start, end) that are in the set."""
        index = bisect_right(self._ends, start)
        while index < len(self._starts) and self._starts[index] < end:
            yield max(start, self._starts[index]), min(end, self._ends[index])
            index += 1

    def overlap(self, starts: Numbers, ends: Numbers) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each [start, end), whether any of it is in the set."""
        if not self._starts:
            return np.zeros(len(starts), dtype=np.bool_)
        index = np.searchsorted(self._end_array, starts, side="right")
        known = index < len(self._starts)
        nearest = self._start_array[np.minimum(index, len(self._starts) - 1)]
        result: np.ndarray[Any, np.dtype[np.bool_]] = known & (nearest < ends) & (ends > starts)
        return result
