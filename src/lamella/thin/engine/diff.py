# SPDX-License-Identifier: Apache-2.0
"""Where two mapping trees differ, without reading what they share.

Sub-trees that both refer to are never read, so a snapshot and its origin are compared at the cost of what
was written since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lamella.thin.engine.btree import Tree
    from lamella.thin.format.arrays import Uint64s


def unshared(tree: Tree, one: int, two: int) -> tuple[Uint64s, Uint64s, Uint64s, Uint64s]:
    """The (keys, values) of each of two trees that lie in leaves which the other one does not have."""
    heights = [sum(1 for _ in tree.path(root, 0)) for root in (one, two)]
    levels: list[set[int]] = [{one}, {two}]
    # A node holds the same keys wherever it is referred to; so both trees are walked at equal heights
    # above the leaves, and a block that is met in both is left out of both.
    for height in range(max(heights), 1, -1):
        if heights[0] == heights[1]:
            levels = [levels[0] - levels[1], levels[1] - levels[0]]
        for side in (0, 1):
            if heights[side] == height:
                nodes = tree.blocks.nodes(sorted(levels[side]), tree.value)
                levels[side] = {child for node in nodes for child in node.values.tolist()}
                heights[side] -= 1
    levels = [levels[0] - levels[1], levels[1] - levels[0]]
    found = []
    for side in (0, 1):
        leaves = tree.blocks.nodes(sorted(levels[side]), tree.value)
        found += [
            np.concatenate([leaf.keys for leaf in leaves] or [np.empty(0, np.uint64)]),
            np.concatenate([leaf.values for leaf in leaves] or [np.empty(0, np.uint64)]),
        ]
    return found[0], found[1], found[2], found[3]
