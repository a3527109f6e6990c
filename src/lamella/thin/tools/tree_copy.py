# SPDX-License-Identifier: Apache-2.0
"""Mapping trees copied from damaged metadata into new one, with as much shared as before.

What is sound is copied node by node, each node once, so the copy is never much larger than what it was
made from. An internal node only loses its entries for damaged children. Where so much is lost that a node
would be less than a third full, the trees above it are rebuilt over the leaves that are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.mappings import data_blocks
from lamella.thin.format.node import INTERNAL
from lamella.thin.metadata.btree import NO_NODE, Edges
from lamella.thin.tools.mapping_tree_builder import LEAST, LeafList, TreeBuilder

if TYPE_CHECKING:
    from lamella.thin.format.arrays import Bools, Int64s
    from lamella.thin.metadata.btree import Forest
    from lamella.thin.tools.metadata_builder import MetadataBuilder

LEAVES_AT_ONCE = 4096


class TreeCopier:
    """Copies trees of *forest* (walked, with its entries kept) by *builder*.

    Mappings to data outside the data device that *builder* knows are left out; ``outside`` counts them.
    """

    def __init__(self, forest: Forest, builder: MetadataBuilder) -> None:
        self.forest = forest
        self.builder = builder
        self.height = forest.height
        self.edges = forest.sound_edges()
        self._count_entries()
        self._classify()
        self.block = np.zeros(len(forest.blocks), dtype=np.int64)
        """Where each copied node is; 0: not copied."""
        self._empty = 0

    def _count_entries(self) -> None:
        forest = self.forest
        leaves = np.flatnonzero(forest.leaf & forest.good & (forest.counts > 0))
        self.entries = np.zeros(len(forest.blocks), dtype=np.int64)
        """Entries of each leaf that are worth copying."""
        self.entries[leaves] = forest.counts[leaves]
        self.outside = 0
        limit = np.uint64(self.builder.nr_data_blocks)
        for start in range(0, len(leaves), LEAVES_AT_ONCE):
            part = leaves[start : start + LEAVES_AT_ONCE]
            wild = data_blocks(forest.gather(part)[1]) >= limit
            if wild.any():
                owner = np.repeat(np.arange(len(part)), forest.counts[part])
                lost = np.bincount(owner[wild], minlength=len(part))
                self.entries[part] -= lost
                self.outside += int(lost.sum())

    def _classify(self) -> None:
        """From the leaves up: what each node has below it, and which can be copied as they are."""
        count = len(self.forest.blocks)
        self.total = self.entries.copy()
        self.alive = self.entries > 0
        self.keep = self.alive.copy()
        self.degree = np.zeros(count, dtype=np.int64)
        full = self.entries >= LEAST
        level_of = self.height[self.edges.parent]
        for level in range(1, int(self.height.max(initial=0)) + 1):
            at = np.flatnonzero((level_of == level) & self.alive[self.edges.target])
            parents, targets = self.edges.parent[at], self.edges.target[at]
            self.alive[parents] = self.keep[parents] = True
            self.keep[parents[~(self.keep[targets] & full[targets])]] = False
            np.add.at(self.total, parents, self.total[targets])
            np.add.at(self.degree, parents, 1)
            full |= (self.height == level) & (self.degree >= LEAST)
        # Only what is left matters from here on.
        left = self.alive[self.edges.target]
        self.edges = Edges(self.edges.parent[left], self.edges.target[left], self.edges.key[left])

    def copy(self, roots: Int64s) -> tuple[list[int], list[int]]:
        """Copy the trees at nodes *roots* (``NO_NODE`` and lost ones become empty trees).

        Returns each tree's root block, the same for the same node, and its number of mappings. To be
        called once.
        """
        present = np.unique(roots[roots != NO_NODE])
        whole = present[self.keep[present]]
        rest = present[self.alive[present] & ~self.keep[present]]
        reached = self._reach(whole)
        loose, owners = self.forest.leaves_of(rest)
        filled = self.entries[loose] > 0
        loose, owners = loose[filled], owners[filled]
        wanted = np.zeros_like(reached)
        wanted[loose] = True
        self._copy_leaves(np.flatnonzero(reached & self.forest.leaf), sure=True)
        self._copy_leaves(np.flatnonzero(wanted & ~reached), sure=False)
        self._copy_internal(reached)
        bounds = np.searchsorted(owners, np.arange(len(rest) + 1)).tolist()
        for place, node in enumerate(rest.tolist()):
            leaves = loose[bounds[place] : bounds[place + 1]]
            tree = TreeBuilder(self.builder)
            blocks = self.block[leaves].astype(np.uint64)
            tree.push(LeafList(blocks, self.forest.low[leaves], self.entries[leaves]))
            self.block[node] = tree.root()
            self.total[node] = int(self.entries[leaves].sum())
        found = [self._root(node) for node in roots.tolist()]
        totals = [int(self.total[node]) if node != NO_NODE and self.alive[node] else 0 for node in roots]
        return found, totals

    def _root(self, node: int) -> int:
        if node != NO_NODE and self.alive[node]:
            return int(self.block[node])
        if not self._empty:
            self._empty = TreeBuilder(self.builder).root()
        return self._empty

    def _reach(self, roots: Int64s) -> Bools:
        """Which nodes are at or below *roots*."""
        reached = np.zeros(len(self.forest.blocks), dtype=np.bool_)
        reached[roots] = True
        level_of = self.height[self.edges.parent]
        for level in range(int(self.height.max(initial=0)), 0, -1):
            at = (level_of == level) & reached[self.edges.parent]
            reached[self.edges.target[at]] = True
        return reached

    def _copy_leaves(self, leaves: Int64s, *, sure: bool) -> None:
        limit = np.uint64(self.builder.nr_data_blocks)
        for start in range(0, len(leaves), LEAVES_AT_ONCE):
            part = leaves[start : start + LEAVES_AT_ONCE]
            keys, values = self.forest.gather(part)
            if len(keys) != int(self.entries[part].sum()):
                inside = data_blocks(values) < limit
                keys, values = keys[inside], values[inside]
            self.block[part] = self.builder.add_leaves(keys, values, self.entries[part], sure=sure)

    def _copy_internal(self, reached: Bools) -> None:
        level_of = self.height[self.edges.parent]
        for level in range(1, int(self.height.max(initial=0)) + 1):
            nodes = np.flatnonzero(reached & (self.height == level))
            if not len(nodes):
                continue
            at = np.flatnonzero((level_of == level) & reached[self.edges.parent])
            children = self.block[self.edges.target[at]].astype(np.uint64)
            self.block[nodes] = self.builder.add_internal(
                self.edges.key[at], children, self.degree[nodes], INTERNAL
            )
