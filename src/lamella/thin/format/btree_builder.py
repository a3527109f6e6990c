# SPDX-License-Identifier: Apache-2.0
"""A whole B-tree built at once from sorted entries, bottom up, as arrays of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.node import BLOCK_VALUE, INTERNAL, LEAF, max_entries, pack_nodes

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy.typing as npt

    from lamella.thin.format.arrays import Uint8s, Uint64s


def build_tree(
    keys: Uint64s, values: npt.NDArray[Any], take: Callable[[int], Uint64s]
) -> tuple[int, list[tuple[Uint64s, Uint8s]]]:
    """Nodes for *values* (of the tree's dtype) at ascending *keys*; *take* gives n free blocks, ascending.

    Returns the root's block and a list of (block numbers (n,), sealed nodes (n, 4096)) to be written.
    Nodes of a level are filled alike, so all but the root have more than a third of their entries. No
    entry at all makes an empty leaf, as the kernel has it.
    """
    levels = []
    flags = LEAF
    while True:
        limit = max_entries(values.dtype.itemsize)
        nodes = max(-(-len(keys) // limit), 1)
        share, larger = divmod(len(keys), nodes)
        counts = np.full(nodes, share, dtype=np.int64)
        counts[:larger] += 1
        blocks = take(nodes)
        levels.append((blocks, pack_nodes(keys, values, counts, blocks, flags=flags)))
        if nodes == 1:
            return int(blocks[0]), levels
        keys = keys[np.cumsum(counts) - counts]
        values = blocks.astype(BLOCK_VALUE)
        flags = INTERNAL
