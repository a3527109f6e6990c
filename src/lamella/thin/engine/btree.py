# SPDX-License-Identifier: Apache-2.0
"""Looking things up in the B-trees of a running pool, committed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import numpy.typing as npt

    from lamella.errors import CorruptError
    from lamella.thin.engine.block_cache import BlockStore, Node
    from lamella.thin.format.arrays import Uint64s

MAX_HEIGHT = 16
"""No tree of u64 keys with at least 84 children a node is deeper; a deeper walk runs in a circle."""
LARGEST_KEY = (1 << 64) - 1


class Tree:
    """B-trees of one kind of value. A tree is known by its root block, which every call is given."""

    def __init__(self, blocks: BlockStore, value: np.dtype[Any]) -> None:
        self.blocks = blocks
        self.value = value

    def path(self, root: int, key: int) -> Iterator[tuple[int, Node]]:
        """The (block, node) pairs from *root* down to the leaf where *key* belongs."""
        wanted = np.uint64(key)
        block = root
        for _ in range(MAX_HEIGHT):
            node = self.blocks.node(block, self.value)
            yield block, node
            if node.leaf:
                return
            block = int(node.values[max(int(node.keys.searchsorted(wanted, "right")) - 1, 0)])
        raise self.too_deep(root)

    def too_deep(self, root: int) -> CorruptError:
        return self.blocks.corrupt(root, "is the root of a tree with a cycle")

    def lookup(self, root: int, key: int) -> Any | None:
        """The value of *key* as a numpy scalar, or None."""
        for _, node in self.path(root, key):
            leaf = node
        place = int(leaf.keys.searchsorted(np.uint64(key)))
        if place < len(leaf.keys) and leaf.keys[place] == key:
            return leaf.values[place]
        return None

    def leaves(self, root: int, first: int = 0, last: int = LARGEST_KEY) -> list[Node]:
        """The leaves that can hold the keys *first* to *last* (both included), read level by level."""
        low, high = np.uint64(first), np.uint64(last)
        nodes = [self.blocks.node(root, self.value)]
        for _ in range(MAX_HEIGHT):
            leaves = sum(node.leaf for node in nodes)
            if leaves == len(nodes):
                return nodes
            if leaves:
                raise self.blocks.corrupt(root, "is the root of a tree with leaves at several depths")
            level: list[int] = []
            bounds: list[int] = []
            for node in nodes:
                start = max(int(node.keys.searchsorted(low, "right")) - 1, 0)
                end = max(int(node.keys.searchsorted(high, "right")), start + 1)
                level += node.values[start:end].tolist()
                bounds += node.keys[start:end].tolist()
            nodes = self.blocks.nodes(level, self.value)
            self._check_order(root, level, bounds, nodes)
        raise self.too_deep(root)

    def _check_order(self, root: int, level: list[int], bounds: list[int], nodes: list[Node]) -> None:
        """Refuse *nodes* whose keys are not between those of the entries, *bounds*, that lead to them.

        Where that holds no node occurs twice on a level: a tree cannot be larger than its device.
        """
        previous = -1
        for block, node, bound in zip(level, nodes, bounds, strict=True):
            if bound <= previous or not len(node.keys) or node.keys[0] < bound:
                raise self.blocks.corrupt(
                    block, f"has other keys than its place in the tree of block {root} allows"
                )
            previous = int(node.keys[-1])

    def read_range(
        self, root: int, first: int = 0, last: int = LARGEST_KEY
    ) -> tuple[Uint64s, npt.NDArray[Any]]:
        """All (keys, values) from *first* to *last*, both included, in key order."""
        leaves = self.leaves(root, first, last)
        if len(leaves) == 1:
            keys, values = leaves[0].keys, leaves[0].values
        else:
            keys = np.concatenate([leaf.keys for leaf in leaves])
            values = np.concatenate([leaf.values for leaf in leaves])
        start = int(keys.searchsorted(np.uint64(first)))
        end = int(keys.searchsorted(np.uint64(last), "right"))
        return keys[start:end], values[start:end]

    def next_key(self, root: int, first: int) -> int | None:
        """The smallest key that is *first* or larger, or None."""
        beyond: int | None = None
        for _, node in self.path(root, first):
            place = int(node.keys.searchsorted(np.uint64(first), "right"))
            if not node.leaf:
                if place < len(node.keys):
                    beyond = int(node.keys[place])
                continue
            if place and node.keys[place - 1] == first:
                return first
            if place < len(node.keys):
                return int(node.keys[place])
        # The keys of internal nodes may be smaller than those below them.
        return None if beyond is None or beyond <= first else self.next_key(root, beyond)

    def highest(self, root: int) -> int | None:
        """The largest key, or None in an empty tree."""
        for _, node in self.path(root, LARGEST_KEY):
            leaf = node
        return int(leaf.keys[-1]) if len(leaf.keys) else None
