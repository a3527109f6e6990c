# SPDX-License-Identifier: Apache-2.0
"""Changing the B-trees of a running pool, a whole batch of keys at a time.

A node that a committed tree may contain is never changed in place: it is *shadowed*, that is, copied to a
free block. When other trees share the old node, its children (or, in a leaf, what its values refer to) get
one more reference, since both nodes now refer to them. So a snapshot costs one reference to a root, and
sharing is broken one path at a time.

One update reads the nodes that its keys lead to, changes them in memory, joins nodes that fell below a
third and divides those that grew too large, and then writes each changed node once.
Sources: ``dm-btree.c``, ``dm-btree-remove.c`` and ``dm-transaction-manager.c`` in the kernel's
``drivers/md/persistent-data``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.engine.block_cache import Node
from lamella.thin.engine.btree import Tree
from lamella.thin.format.node import BLOCK_VALUE, max_entries
from lamella.thin.format.runs import slices

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy.typing as npt

    from lamella.thin.engine.block_cache import BlockStore
    from lamella.thin.engine.space_map import SpaceMap
    from lamella.thin.format.arrays import Bools, Uint64s

DESTROY_BATCH = 1024
"""Most nodes taken apart at once; bounds the memory that deleting a large volume takes."""
_RETAIN, _REPLACED, _REMOVED = range(3)


def _nothing(_: npt.NDArray[Any]) -> None:
    pass


@dataclass(slots=True)
class _Open:
    """A node being changed. A leaf has *values*; an internal node has *children*, some of them open too."""

    keys: Uint64s
    values: npt.NDArray[Any] | None = None
    children: list[int | _Open] = field(default_factory=list)
    home: int | None = None
    """Its block, if that one may be rewritten."""
    appended: bool = False
    """Whether it has grown at its end only."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(slots=True)
class Change:
    """What an update did: the new root, and how many keys went."""

    root: int
    removed: int = 0


class TreeWriter(Tree):
    """Writable B-trees of one kind of value.

    *retain* receives the values of leaves that have been copied; *replaced* and *removed* the old values
    that keys lost. Each gets an array of the tree's value type, for all leaves of an update together.
    """

    def __init__(
        self,
        blocks: BlockStore,
        counts: SpaceMap,
        value: np.dtype[Any],
        *,
        retain: Callable[[npt.NDArray[Any]], None] = _nothing,
        replaced: Callable[[npt.NDArray[Any]], None] = _nothing,
        removed: Callable[[npt.NDArray[Any]], None] = _nothing,
    ) -> None:
        super().__init__(blocks, value)
        self.counts = counts
        self._owners = (retain, replaced, removed)
        self._values: tuple[list[npt.NDArray[Any]], ...] = ([], [], [])
        self.leaf_limit = max_entries(value.itemsize)
        self.inner_limit = max_entries(BLOCK_VALUE.itemsize)

    def make_empty(self) -> int:
        """A new tree without keys; returns its root."""
        block = self.counts.allocate_one()
        self.blocks.put_node(block, Node(True, np.empty(0, np.uint64), np.empty(0, self.value)))
        return block

    def shared(self, root: int, key: int) -> bool:
        """Whether another tree has the leaf of *key* too."""
        return any(self.counts.count(block) > 1 for block, _ in self.path(root, key))

    def put(self, root: int, key: int, value: Any) -> Change:
        """Give one key its value."""
        return self.update(root, np.array([key], dtype=np.uint64), np.array([value], dtype=self.value))

    def remove(self, root: int, key: int) -> Change:
        """Take one key out, if it is there."""
        return self.update(
            root, np.array([key], np.uint64), np.zeros(1, self.value), np.ones(1, dtype=np.bool_)
        )

    def update(self, root: int, keys: Uint64s, values: npt.NDArray[Any], gone: Bools | None = None) -> Change:
        """Give each of *keys* (ascending, each once) its value, or take it out where *gone* says so."""
        change = Change(root)
        if not len(keys):
            return change
        top = self._update(root, keys, values, gone, change, 0)
        nodes = self._divide(top) if len(top) > self._limit(top) else [top]
        while len(nodes) > 1:
            top = _Open(np.array([node.keys[0] for node in nodes], np.uint64), children=list(nodes))
            nodes = self._divide(top) if len(top) > self.inner_limit else [top]
        top = nodes[0]
        while top.values is None and len(top) <= 1:
            # A root with one child gives way to it, as in the kernel.
            self._discard_node(top)
            if not len(top):
                top = _Open(np.empty(0, np.uint64), np.empty(0, self.value))
                break
            child = top.children[0]
            if isinstance(child, int):
                change.root = child
                self._update_references()
                return change
            top = child
        change.root = self._store(top)
        self._update_references()
        return change

    def _update_references(self) -> None:
        """Pass on the values gathered; what is retained first, so that no count is zero in between."""
        for values, tell in zip(self._values, self._owners, strict=True):
            if values:
                gathered = np.concatenate(values)
                values.clear()
                tell(gathered)

    # -- going down ------------------------------------------------------------------------------

    def _limit(self, node: _Open) -> int:
        return self.leaf_limit if node.values is not None else self.inner_limit

    def _open(self, block: int) -> _Open:
        """The node in *block*, taken out of its tree to be changed and stored again."""
        node = self.blocks.node(block, self.value)
        owners = self.counts.count(block)
        home = None
        if owners > 1:
            if node.leaf:
                self._values[_RETAIN].append(node.values)
            else:
                self.counts.retain(node.values)
            self.counts.release((block,))
        elif owners and self.counts.is_new(block):
            home = block
        else:
            self.counts.release((block,))
            self.blocks.drop((block,))
        if node.leaf:
            return _Open(node.keys, node.values, home=home)
        return _Open(node.keys, children=node.values.tolist(), home=home)

    def _discard_node(self, node: _Open) -> None:
        """The node is no longer part of the tree."""
        if node.home is not None:
            self.counts.release((node.home,))
            self.blocks.drop((node.home,))
            node.home = None

    def _update(
        self,
        block: int,
        keys: Uint64s,
        values: npt.NDArray[Any],
        gone: Bools | None,
        change: Change,
        depth: int,
    ) -> _Open:
        """The changed node of *block*. It may be too small or too large; its children are neither."""
        if depth > 16:
            raise self.too_deep(block)
        node = self._open(block)
        if node.values is not None:
            self._merge(node, keys, values, gone, change)
            return node
        places = np.maximum(node.keys.searchsorted(keys, "right").astype(np.int64) - 1, 0)
        new_keys: list[int] = []
        children: list[int | _Open] = []
        old_keys = node.keys.tolist()
        done = 0
        small = False
        for start, end in slices(np.diff(places) != 0):
            place = int(places[start])
            new_keys += old_keys[done:place]
            children += node.children[done:place]
            done = place + 1
            below = node.children[place]
            assert isinstance(below, int)
            last = old_keys[place]
            child = self._update(
                below, keys[start:end], values[start:end],
                None if gone is None else gone[start:end], change, depth + 1,
            )  # fmt: skip
            if len(child) > self._limit(child):
                parts = self._divide(child)
                node.appended = child.appended and place == len(old_keys) - 1
            else:
                parts = [child]
            for part in parts:
                new_keys.append(int(part.keys[0]) if len(part) else last)
                children.append(part)
                small = small or len(part) < self._limit(part) // 3
        new_keys += old_keys[done:]
        children += node.children[done:]
        if small:
            node.keys, node.children = self._balance(new_keys, children)
        else:
            node.keys, node.children = np.array(new_keys, dtype=np.uint64), children
        return node

    def _merge(
        self, node: _Open, keys: Uint64s, values: npt.NDArray[Any], gone: Bools | None, change: Change
    ) -> None:
        """Bring a leaf up to date."""
        assert node.values is not None
        old = len(node.keys)
        places = node.keys.searchsorted(keys)
        there = np.zeros(len(keys), dtype=np.bool_)
        inside = places < old
        there[inside] = node.keys[places[inside]] == keys[inside]
        keep = there if gone is None else there & ~gone
        new_keys, new_values = node.keys, node.values
        if keep.any():
            lost = new_values[places[keep]]
            new_values = new_values.copy()
            new_values[places[keep]] = values[keep]
            self._values[_REPLACED].append(lost)
        leaving = None
        if gone is not None and (there & gone).any():
            leaving = places[there & gone]
            lost = node.values[leaving]
            change.removed += len(leaving)
            self._values[_REMOVED].append(lost)
        fresh = ~there if gone is None else ~there & ~gone
        arriving = int(fresh.sum())
        if arriving:
            node.appended = old > 0 and int(keys[0]) > int(node.keys[-1])
            if leaving is not None:
                stays = np.ones(old, dtype=np.bool_)
                stays[leaving] = False
                new_keys, new_values = new_keys[stays], new_values[stays]
                places = new_keys.searchsorted(keys)
            if not len(new_keys):
                new_keys, new_values = keys[fresh], values[fresh]
            else:
                new_keys = np.insert(new_keys, places[fresh], keys[fresh])
                new_values = np.insert(new_values, places[fresh], values[fresh])
        elif leaving is not None:
            new_keys, new_values = np.delete(new_keys, leaving), np.delete(new_values, leaving)
        node.keys, node.values = new_keys, new_values

    # -- keeping nodes between a third and full ----------------------------------------------------

    def _divide(self, node: _Open) -> list[_Open]:
        """Cut a node that is too large into parts of legal size.

        Where keys were appended at its end the parts are left full, so that sequential writing fills
        its leaves; else they are of equal size.
        """
        limit = self._limit(node)
        total = len(node)
        parts = -(-total // limit)
        if node.appended:
            sizes = [limit] * (parts - 1) + [total - limit * (parts - 1)]
            third = limit // 3
            if sizes[-1] < third:
                sizes[-2:] = [limit + sizes[-1] - third, third]
        else:
            sizes = [total // parts + (part < total % parts) for part in range(parts)]
        found = []
        start = 0
        for size in sizes:
            end = start + size
            found.append(
                _Open(
                    node.keys[start:end],
                    None if node.values is None else node.values[start:end],
                    node.children[start:end],
                    node.home if start == 0 else None,
                )
            )
            start = end
        return found

    def _balance(self, keys: list[int], children: list[int | _Open]) -> tuple[Uint64s, list[int | _Open]]:
        """Join the *children* of one node until none of them is below a third, if there are two at all."""
        place = 0
        while place < len(children):
            child = children[place]
            if isinstance(child, int) or len(child) >= self._limit(child) // 3 or len(children) == 1:
                place += 1
                continue
            if not len(child):
                self._discard_node(child)
                del keys[place], children[place]
                continue
            left = max(place - 1, 0)
            one, two = children[left], children[left + 1]
            parts = self._join(
                one if isinstance(one, _Open) else self._open(one),
                two if isinstance(two, _Open) else self._open(two),
            )
            keys[left : left + 2] = [int(part.keys[0]) for part in parts]
            children[left : left + 2] = parts
            place = left
        return np.array(keys, dtype=np.uint64), children

    def _join(self, one: _Open, two: _Open) -> list[_Open]:
        """Two neighbours as one node, or as two of about the same size when they are too many for one."""
        home = one.home
        if home is None:
            home = two.home
        else:
            self._discard_node(two)
        whole = _Open(np.concatenate((one.keys, two.keys)), home=home)
        if one.values is not None and two.values is not None:
            whole.values = np.concatenate((one.values, two.values))
        else:
            whole.keys, whole.children = self._balance(whole.keys.tolist(), one.children + two.children)
        if len(whole) > self._limit(whole):
            return self._divide(whole)
        return [whole]

    # -- storing -----------------------------------------------------------------------------------

    def _store(self, node: _Open) -> int:
        """Give the node and its open children blocks, and hand them to the block store."""
        if node.values is None:
            for place, child in enumerate(node.children):
                if isinstance(child, _Open):
                    node.children[place] = self._store(child)
            content = Node(False, node.keys, np.array(node.children, dtype=BLOCK_VALUE))
        else:
            content = Node(True, node.keys, node.values)
        block = self.counts.allocate_one() if node.home is None else node.home
        self.blocks.put_node(block, content)
        return block

    # -- taking apart ------------------------------------------------------------------------------

    def destroy(self, root: int) -> None:
        """Give up one reference to the tree, and all that nothing else refers to then."""
        stack: list[npt.NDArray[Any]] = [np.array([root], dtype=BLOCK_VALUE)]
        while stack:
            level = stack.pop()
            if len(level) > DESTROY_BATCH:
                stack.append(level[DESTROY_BATCH:])
                level = level[:DESTROY_BATCH]
            freed = self.counts.release(level)
            if not len(freed):
                continue
            # Blocks that are free now are still as they were: nothing is reused before the commit.
            names = freed.tolist()
            nodes = self.blocks.nodes(names, self.value)
            self.blocks.drop(names)
            self._values[_REMOVED].extend(node.values for node in nodes if node.leaf)
            self._update_references()
            below = [node.values for node in nodes if not node.leaf]
            if below:
                stack.append(np.concatenate(below))
