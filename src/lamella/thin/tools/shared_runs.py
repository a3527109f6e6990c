# SPDX-License-Identifier: Apache-2.0
"""The leaves that several devices share, as the longest runs that can be named once and referred to.

A run is a sequence of leaves that occurs in devices only as a whole: it begins where some device begins, or
where what comes before differs, and ends where some device ends, or where what follows differs. These are the
``def`` elements of a dump by thin-provisioning-tools 1.x; each is named by its first leaf's block.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.thin.format.arrays import Bools, Int64s

    Piece = int | Int64s
    """A shared run, by its first leaf, or leaves of no other device."""


class SharedRuns:
    """Runs among *leaves* of *count* nodes, tree after tree; *owners* (ascending) says of which each is.

    *times* says how many devices have each tree.
    """

    def __init__(self, leaves: Int64s, owners: Int64s, count: int, times: Int64s) -> None:
        self.leaves = leaves
        self.owners = owners
        same = owners[1:] == owners[:-1]
        self._first = np.concatenate((np.ones(1, dtype=np.bool_), ~same))[: len(leaves)]
        last = np.concatenate((~same, np.ones(1, dtype=np.bool_)))[: len(leaves)]
        head, _ = self._ends(leaves[:-1][same[: max(len(leaves) - 1, 0)]], last, count)
        occurrences = np.zeros(count, dtype=np.int64)
        np.add.at(occurrences, leaves, times[owners])
        self._shared = occurrences[leaves] > 1
        self._head = head[leaves] | self._first

    def _ends(self, before: Int64s, last: Bools, count: int) -> tuple[Bools, Bools]:
        """Which nodes begin a run, and which end one."""
        leaves = self.leaves
        after = leaves[1:][~self._first[1:]] if len(leaves) else before
        pairs = np.unique(before * count + after)
        before, after = pairs // count, pairs % count
        head = np.bincount(after, minlength=count) > 1
        head[leaves[self._first]] = True
        tail = np.bincount(before, minlength=count) > 1
        tail[leaves[last]] = True
        tail[before[head[after]]] = True
        head[after[tail[before]]] = True
        return head, tail

    def shared(self) -> Int64s:
        """The leaves that begin a shared run, ascending."""
        return np.unique(self.leaves[self._head & self._shared])

    def runs(self, heads: Int64s) -> Iterator[Int64s]:
        """The leaves of the runs that begin with *heads*, some of :meth:`shared`, one after the other."""
        at = np.flatnonzero(self._head & self._shared)
        _, once = np.unique(self.leaves[at], return_index=True)
        starts = at[once]
        edges = np.append(np.flatnonzero(self._head), len(self.leaves))
        ends = edges[np.searchsorted(edges, starts, side="right")]
        wanted = np.searchsorted(self.leaves[starts], heads)
        for start, end in zip(starts[wanted].tolist(), ends[wanted].tolist(), strict=True):
            yield self.leaves[start:end]

    def devices(self, count: int) -> Iterator[list[Piece]]:
        """For each of *count* trees what it consists of, in order."""
        kept = np.flatnonzero(~self._shared | self._head)
        refers = self._shared[kept]
        bounds = np.searchsorted(self.owners[kept], np.arange(count + 1)).tolist()
        for start, end in pairwise(bounds):
            yield self._pieces(self.leaves[kept[start:end]], refers[start:end])

    @staticmethod
    def _pieces(leaves: Int64s, refers: Bools) -> list[Piece]:
        pieces: list[Piece] = []
        at = 0
        for place in [*np.flatnonzero(refers).tolist(), len(leaves)]:
            if place > at:
                pieces.append(leaves[at:place])
            if place < len(leaves):
                pieces.append(int(leaves[place]))
            at = place + 1
        return pieces
