# SPDX-License-Identifier: Apache-2.0
"""One device's mapping tree built from its entries in order, some of them in leaves that others share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella.thin.format.node import BLOCK_VALUE, MAPPING, max_entries

if TYPE_CHECKING:
    from lamella.thin.format.arrays import Int64s, Uint64s
    from lamella.thin.tools.metadata_builder import MetadataBuilder

LIMIT = max_entries(MAPPING.itemsize)
"""Entries of a full leaf (252)."""
LEAST = LIMIT // 3
"""Entries that every node but a root must have."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
"""Spreads block numbers over all 64 bits (Fibonacci hashing)."""
_EMIT = 64 * LIMIT
"""Entries collected before leaves are made of them."""


class LeafList(NamedTuple):
    """Leaves in the order of their keys, one element of each array for each leaf."""

    blocks: Uint64s
    first: Uint64s
    counts: Int64s


class TreeBuilder:
    """Takes entries and leaves in ascending order of keys, and makes a tree of them at the end.

    Leaves that are too empty to stand alone are taken apart and joined with their neighbours. *sure* False
    is for leaves that are made to be shared: see :meth:`MetadataBuilder.add_leaves`.
    """

    def __init__(self, builder: MetadataBuilder, *, sure: bool = True) -> None:
        self.builder = builder
        self.total = 0
        """Entries so far."""
        self._sure = sure
        self._keys: list[Uint64s] = []
        self._values: list[Uint64s] = []
        self._pending = 0
        self._done: list[LeafList] = []
        self._held: LeafList | None = None
        """The last shared leaf: it is taken apart if what follows it is too little for a leaf."""
        self._lone: LeafList | None = None
        """A shared leaf too empty to stand beside others, while there are none."""
        self._shares = False
        """Whether any leaf is shared; then other trees may have the same nodes above."""

    def add(self, keys: Uint64s, values: Uint64s) -> None:
        """More entries, ascending and after all before."""
        if not len(keys):
            return
        self._unpack_lone()
        self._keep(keys, values)
        if self._pending >= _EMIT:
            self._emit(LIMIT)

    def push(self, leaves: LeafList) -> None:
        """More entries, in leaves that are there already."""
        if not self.total and len(leaves.blocks) == 1 and leaves.counts[0] < LEAST:
            self._lone = leaves
            self.total = int(leaves.counts[0])
            return
        self._unpack_lone()
        poor = np.flatnonzero(leaves.counts < LEAST)
        start = 0
        for place in (*poor.tolist(), len(leaves.blocks)):
            self._push_full(_part(leaves, start, place))
            self._unpack_leaf(_part(leaves, place, place + 1))
            start = place + 1

    def _push_full(self, leaves: LeafList) -> None:
        if len(leaves.blocks) and 0 < self._pending < LEAST:
            self._unpack_leaf(_part(leaves, 0, 1))
            leaves = _part(leaves, 1, None)
        if not len(leaves.blocks):
            return
        self._emit(0)
        self._place_held()
        self.total += int(leaves.counts.sum())
        self._shares = True
        self._done.append(_part(leaves, 0, -1))
        self._held = _part(leaves, len(leaves.blocks) - 1, None)

    def _unpack_lone(self) -> None:
        if self._lone is not None:
            leaf, self._lone, self.total = self._lone, None, 0
            self._unpack_leaf(leaf)

    def _unpack_leaf(self, leaf: LeafList) -> None:
        if len(leaf.blocks):
            self._keep(*self.builder.read_leaves(leaf.blocks))

    def _keep(self, keys: Uint64s, values: Uint64s) -> None:
        self._keys.append(keys)
        self._values.append(values)
        self._pending += len(keys)
        self.total += len(keys)

    def _place_held(self) -> None:
        if self._held is not None:
            self._done.append(self._held)
            self._held = None

    def _emit(self, keep: int) -> None:
        """Make leaves of pending entries: full ones, leaving at least *keep*; of all of them if that is 0."""
        if not self._pending:
            return
        self._place_held()
        keys, values = np.concatenate(self._keys), np.concatenate(self._values)
        if keep:
            counts = np.full((len(keys) - keep) // LIMIT, LIMIT, dtype=np.int64)
        else:
            counts = evenly(len(keys))
        used = int(counts.sum())
        if used:
            blocks = self.builder.add_leaves(keys[:used], values[:used], counts, sure=self._sure)
            self._done.append(LeafList(blocks, keys[np.cumsum(counts) - counts], counts))
        self._keys, self._values = [keys[used:]], [values[used:]]
        self._pending -= used

    def leaves(self) -> LeafList:
        """All leaves; nothing can be added any more."""
        if self._lone is not None:
            return self._lone
        if 0 < self._pending < LEAST and self._held is not None:
            before, self._held = self._held, None
            keys, values = self.builder.read_leaves(before.blocks)
            self._keys.insert(0, keys)
            self._values.insert(0, values)
            self._pending += len(keys)
        self._emit(0)
        self._place_held()
        done = self._done
        return LeafList(
            np.concatenate([part.blocks for part in done] or [np.empty(0, dtype=np.uint64)]),
            np.concatenate([part.first for part in done] or [np.empty(0, dtype=np.uint64)]),
            np.concatenate([part.counts for part in done] or [np.empty(0, dtype=np.int64)]),
        )

    def root(self) -> int:
        """Build the nodes above the leaves; returns the root's block, of an empty leaf if there is none."""
        leaves = self.leaves()
        keys, blocks = leaves.first, leaves.blocks
        if not len(blocks):
            return self.builder.empty_leaf()
        while len(blocks) > 1:
            counts = by_content(blocks) if self._shares else evenly(len(blocks))
            starts = np.cumsum(counts) - counts
            blocks = self.builder.add_internal(keys, blocks.astype(BLOCK_VALUE), counts, shared=self._shares)
            keys = keys[starts]
        return int(blocks[0])


def evenly(entries: int) -> Int64s:
    """How many of *entries* each of as few nodes as possible gets; more than a third each if not alone."""
    nodes = -(-entries // LIMIT)
    counts = np.full(nodes, entries // nodes if nodes else 0, dtype=np.int64)
    counts[: entries - int(counts.sum())] += 1
    return counts


def by_content(blocks: Uint64s) -> Int64s:
    """How many of *blocks* each node above them gets, chosen so that similar trees have many nodes in common.

    A node ends with a block whose number says so, wherever that block stands.
    """
    ends = np.flatnonzero((blocks * _MIX) >> np.uint64(57) == 0) + 1
    counts = []
    start = 0
    while len(blocks) - start > LIMIT:
        place = int(np.searchsorted(ends, start + LEAST))
        end = int(ends[place]) if place < len(ends) else start + LIMIT
        end = min(end, start + LIMIT, len(blocks) - LEAST)
        counts.append(end - start)
        start = end
    counts.append(len(blocks) - start)
    return np.array(counts, dtype=np.int64)


def _part(leaves: LeafList, start: int, stop: int | None) -> LeafList:
    return LeafList(leaves.blocks[start:stop], leaves.first[start:stop], leaves.counts[start:stop])
