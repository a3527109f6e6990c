# SPDX-License-Identifier: Apache-2.0
"""Where two devices of a pool differ, without looking at what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.node import TIME_BITS
from lamella.thin.format.runs import stretches

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lamella.thin.engine.pool import Pool
    from lamella.thin.engine.tree import Tree


def differing_ranges(pool: Pool, dev_a: int, dev_b: int) -> Iterator[tuple[int, int]]:
    """(first chunk, length) of the chunks that devices *dev_a* and *dev_b* map differently, in order.

    Chunks that both map to the same data chunk, or that neither maps, are left out: their content is
    the same. Sub-trees that the devices share are never read, so a snapshot and its origin are compared at
    the cost of what was written since. Raises :class:`lamella.errors.NotFoundError`.
    """
    with pool.lock:
        one, two = (pool.mapping_root(dev_id) for dev_id in (dev_a, dev_b))
        found = unshared(pool.live.maps, one, two)
    yield from ranges_that_differ(*found)


def ranges_that_differ(
    keys_a: npt.NDArray[np.uint64],
    values_a: npt.NDArray[np.uint64],
    keys_b: npt.NDArray[np.uint64],
    values_b: npt.NDArray[np.uint64],
) -> Iterator[tuple[int, int]]:
    """(first chunk, length) of the chunks that two sets of mappings (chunks ascending, raw values) map
    differently, in order."""
    shift = np.uint64(TIME_BITS)
    keys = np.concatenate((keys_a, keys_b))
    blocks = np.concatenate((values_a, values_b)) >> shift
    order = np.argsort(keys, kind="stable")
    keys, blocks = keys[order], blocks[order]
    # A chunk that both map alike stands there twice with the same data block.
    same = (keys[1:] == keys[:-1]) & (blocks[1:] == blocks[:-1])
    differs = np.ones(len(keys), dtype=np.bool_)
    differs[1:] &= ~same
    differs[:-1] &= ~same
    chunks = np.unique(keys[differs]).astype(np.int64)
    if not len(chunks):
        return
    for start, end in stretches(np.diff(chunks) != 1):
        yield int(chunks[start]), end - start


def unshared(
    tree: Tree, one: int, two: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
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
