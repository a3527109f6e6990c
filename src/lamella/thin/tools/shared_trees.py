# SPDX-License-Identifier: Apache-2.0
"""Mapping trees of damaged metadata built anew from their sound leaves, with as much shared as before.

It is what dumping and restoring them would make: leaves that several devices share are packed once, in the
runs in which they are shared. So the result is never much larger than what it was made from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.mappings import data_blocks
from lamella.thin.metadata.btree import NO_NODE
from lamella.thin.tools.mapping_tree_builder import LeafList, TreeBuilder
from lamella.thin.tools.shared_runs import SharedRuns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.thin.format.arrays import Int64s, Uint64s
    from lamella.thin.metadata.btree import Forest
    from lamella.thin.tools.metadata_builder import MetadataBuilder

LEAVES_AT_ONCE = 4096


class SharedTrees:
    """Builds trees of *forest* (walked, with its entries kept) by *builder*.

    Mappings to data outside the data device that *builder* knows are left out; ``outside`` counts them, each
    leaf once, and ``entries`` all there are.
    """

    def __init__(self, forest: Forest, builder: MetadataBuilder) -> None:
        self.forest = forest
        self.builder = builder
        self.outside = 0
        self.entries = 0
        leaves = np.flatnonzero(forest.leaf & forest.good & (forest.counts > 0))
        for part in _batches(leaves):
            values = forest.gather(part)[1]
            self.entries += len(values)
            self.outside += int(np.count_nonzero(data_blocks(values) >= np.uint64(builder.nr_data_blocks)))

    def build(self, roots: Int64s) -> tuple[list[int], list[int]]:
        """Trees for the nodes *roots*; that of a node which is lost (``NO_NODE``) is empty.

        Returns each tree's root block, the same for the same node, and its number of mappings.
        """
        distinct, which = np.unique(roots, return_inverse=True)
        leaves, owners = self.forest.leaves_of(distinct)
        times = np.bincount(which, minlength=len(distinct))
        runs = SharedRuns(leaves, owners, len(self.forest.blocks), times)
        shared: dict[int, LeafList] = {}
        heads = runs.shared()
        for head, run in zip(heads.tolist(), runs.runs(heads), strict=True):
            tree = TreeBuilder(self.builder, sure=False)
            self._add(tree, run)
            shared[head] = tree.leaves()
        blocks, totals = [], []
        for node, pieces in zip(distinct.tolist(), runs.devices(len(distinct)), strict=True):
            tree = TreeBuilder(self.builder)
            for piece in pieces if node != NO_NODE else ():
                if isinstance(piece, int):
                    tree.push(shared[piece])
                else:
                    self._add(tree, piece)
            blocks.append(tree.root())
            totals.append(tree.total)
        return [blocks[place] for place in which.tolist()], [totals[place] for place in which.tolist()]

    def _add(self, tree: TreeBuilder, leaves: Int64s) -> None:
        for part in _batches(leaves):
            tree.add(*self._inside(*self.forest.gather(part)))

    def _inside(self, keys: Uint64s, values: Uint64s) -> tuple[Uint64s, Uint64s]:
        if not self.outside:
            return keys, values
        wanted = data_blocks(values) < np.uint64(self.builder.nr_data_blocks)
        return keys[wanted], values[wanted]


def _batches(leaves: Int64s) -> Iterator[Int64s]:
    for start in range(0, len(leaves), LEAVES_AT_ONCE):
        yield leaves[start : start + LEAVES_AT_ONCE]
