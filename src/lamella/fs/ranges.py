# SPDX-License-Identifier: Apache-2.0
"""A set of bytes, as ranges."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Ranges:
    """A set of bytes of a device: sorted, merged (start, end) pairs."""

    def __init__(self, pieces: Iterable[tuple[int, int]]) -> None:
        starts: list[int] = []
        ends: list[int] = []
        for offset, length in sorted(pieces):
            if length <= 0:
                continue
            if ends and offset <= ends[-1]:
                ends[-1] = max(ends[-1], offset + length)
            else:
                starts.append(offset)
                ends.append(offset + length)
        self._starts = starts
        self._ends = ends
        self._start_array: Numbers = np.array(starts, dtype=np.int64)
        self._end_array: Numbers = np.array(ends, dtype=np.int64)

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
