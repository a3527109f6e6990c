# SPDX-License-Identifier: Apache-2.0
"""B-trees read level by level: every level's nodes as one array, every block once however often shared.

The kernel's walkers go node by node (``drivers/md/persistent-data/dm-btree.c``). Here a whole forest is
visited in breadth: the children of all nodes of one level are the next level. What is true of a tree as a
whole (its keys ascend, its leaves lie equally deep, how many entries it has) is then worked out over arrays
of nodes and edges, from the leaves up. A pointer that leads back up makes no loop, because no block is
visited twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella.thin.format.checksum import BLOCK_SIZE, NODE_XOR, verify_many
from lamella.thin.format.node import BLOCK_VALUE, INTERNAL, LEAF, NODE, headers, unpack_nodes
from lamella.thin.metadata.block_reader import BlockReader
from lamella.thin.metadata.findings import Problems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import numpy.typing as npt

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Bools, Int64s, Uint8s, Uint64s

NO_NODE = -1
MAX_DEPTH = 64
"""More levels than any tree of 2**64 keys can have; a deeper "tree" runs in a circle."""

_KEY_MAX = np.uint64(0xFFFFFFFFFFFFFFFF)


class Leaves(NamedTuple):
    """Some sound leaves, as they were read."""

    blocks: Int64s
    counts: Int64s
    """Entries of each."""
    keys: Uint64s
    """Of all of them, one leaf after the other."""
    values: npt.NDArray[Any]


class Edges(NamedTuple):
    """Some entries of internal nodes; each leads exactly one level down."""

    parent: Int64s
    """Index of the node that the entry is in."""
    target: Int64s
    """Index of the node that it leads to."""
    key: Uint64s


@dataclass(slots=True)
class _Found:
    """What one batch of nodes has shown, column by column."""

    blocks: Int64s
    leaf: Bools
    good: Bools
    underfull: Bools
    counts: Int64s
    low: Uint64s
    high: Uint64s
    edge_key: Uint64s
    edge_child: Uint64s


class Forest:
    """All B-tree nodes that can be reached from some roots, each visited once.

    *value* is the dtype of the leaves' values; *place* is what problems call the forest ("mapping
    tree"). With *keep* the leaves' entries stay in memory, for :meth:`entries_of`; *on_leaves* gets them
    as they are read. Damage is added to *problems* and cut out; nothing is raised for it.
    """

    _keys: Uint64s
    _values: npt.NDArray[Any]
    _start: Int64s

    def __init__(
        self,
        reader: BlockReader,
        value: np.dtype[Any],
        problems: Problems,
        place: str,
        *,
        keep: bool = False,
        on_leaves: Callable[[Leaves], None] | None = None,
    ) -> None:
        self.reader = reader
        self.value = value
        self.problems = problems
        self.place = place
        self._keep = keep
        self._on_leaves = on_leaves
        self._found: list[_Found] = []
        self._kept: list[Leaves] = []
        self._nodes = 0
        self._index = np.full(reader.nr_blocks, NO_NODE, dtype=np.int32)
        self._grafts: dict[int, Int64s] = {}
        """By root the leaves that :meth:`graft` has added."""

    # -- visiting --------------------------------------------------------------------------------

    def walk(self, roots: Uint64s) -> None:
        """Visit everything below *roots* (block numbers; doubles and ones already visited are welcome)."""
        frontier = self._unvisited(roots)
        for _ in range(MAX_DEPTH):
            if not len(frontier):
                break
            children = []
            for blocks, content in self.reader.batches(frontier):
                self._index[blocks] = np.arange(self._nodes, self._nodes + len(blocks), dtype=np.int32)
                self._nodes += len(blocks)
                found = self._verify(blocks, content)
                self._found.append(found)
                children.append(found.edge_child)
            frontier = self._unvisited(np.concatenate(children))
        else:
            self.problems.add_blocks(self.place, frontier, f"the tree is deeper than {MAX_DEPTH} levels")
        self._finish(roots)

    def _unvisited(self, pointers: Uint64s) -> Int64s:
        inside = np.unique(pointers[pointers < self.reader.nr_blocks]).astype(np.int64)
        fresh: Int64s = inside[self._index[inside] == NO_NODE]
        return fresh

    def _verify(self, blocks: Int64s, content: Uint8s) -> _Found:
        """Check and decode one batch of nodes."""
        head = headers(content)
        leaf = head["flags"] == LEAF
        good = self._sound(blocks, content, head, leaf)
        limits = head["max_entries"].astype(np.int64)
        counts = np.where(good, head["nr_entries"], 0).astype(np.int64)
        good &= self._ordered(blocks, content, good, counts, limits, leaf)
        counts[~good] = 0
        low = np.full(len(blocks), _KEY_MAX, dtype=np.uint64)
        high = np.zeros(len(blocks), dtype=np.uint64)
        filled = np.flatnonzero(good & leaf & (counts > 0))
        all_keys = content[:, NODE.itemsize :].view("<u8")
        low[filled] = all_keys[filled, 0]
        high[filled] = all_keys[filled, counts[filled] - 1]
        inner = np.flatnonzero(good & ~leaf)
        if len(inner):
            _, edge_key, edge_child = unpack_nodes(content[inner], BLOCK_VALUE)
        else:
            edge_key = edge_child = np.empty(0, dtype=np.uint64)
        self._take_leaves(blocks, content, good & leaf)
        underfull = good & (counts < limits // 3)
        return _Found(blocks, leaf, good, underfull, counts, low, high, edge_key, edge_child)

    def _sound(self, blocks: Int64s, content: Uint8s, head: npt.NDArray[np.void], leaf: Bools) -> Bools:
        """Which nodes have a valid checksum and a plausible header; the others are reported as problems."""
        value_size = np.where(leaf, self.value.itemsize, BLOCK_VALUE.itemsize)
        limits = head["max_entries"].astype(np.int64)
        good = np.ones(len(blocks), dtype=np.bool_)
        checks = (
            (verify_many(content, NODE_XOR), "bad checksum in btree node"),
            (head["blocknr"] == blocks.astype(np.uint64), "the node has another block's number"),
            (leaf | (head["flags"] == INTERNAL), "the node is neither leaf nor internal"),
            (head["value_size"] == value_size, f"the node's values are not of {self.value.itemsize} bytes"),
            (
                (limits * (8 + value_size) + NODE.itemsize <= BLOCK_SIZE) & (limits > 0),
                "the node has more entries than a block holds",
            ),
            (head["nr_entries"] <= limits, "the node has more entries than its max_entries"),
            (leaf | (head["nr_entries"] > 0), "the internal node is empty"),
        )
        unreadable = self.reader.unreadable
        if unreadable:
            lost = np.isin(blocks, list(unreadable))
            self.problems.add_blocks(self.place, blocks[lost], "the device cannot read it")
            good &= ~lost
        for passed, reason in checks:
            if not passed.all():
                self.problems.add_blocks(self.place, blocks[good & ~passed], reason)
                good &= passed
        odd = good & (limits % 3 != 0)
        if odd.any():
            self.problems.add_blocks(
                self.place, blocks[odd], "the node's max_entries is not a multiple of three", fatal=False
            )
        return good

    def _ordered(
        self, blocks: Int64s, content: Uint8s, good: Bools, counts: Int64s, limits: Int64s, leaf: Bools
    ) -> Bools:
        """Which nodes' keys ascend strictly; other nodes that are sound are reported as problems."""
        ascending = np.ones(len(blocks), dtype=np.bool_)
        width = int(counts.max(initial=0))
        if width > 1:
            # Key areas of all shapes start alike; past a node's own entries nothing counts.
            keys = content[:, NODE.itemsize : NODE.itemsize + 8 * width].view("<u8")
            falls = keys[:, 1:] <= keys[:, :-1]
            if falls.any():
                falls &= np.arange(1, width) < counts[:, None]
                np.logical_not(falls.any(axis=1), out=ascending)
                self.problems.add_blocks(
                    self.place, blocks[good & ~ascending], "the node's keys are not in order"
                )
        return ascending

    def _take_leaves(self, blocks: Int64s, content: Uint8s, wanted: Bools) -> None:
        if not (self._keep or self._on_leaves) or not wanted.any():
            return
        chosen = content if wanted.all() else content[wanted]
        leaves = Leaves(blocks[wanted], *unpack_nodes(chosen, self.value))
        if self._on_leaves:
            self._on_leaves(leaves)
        if self._keep:
            self._kept.append(leaves)

    # -- the forest as a whole -------------------------------------------------------------------

    def _finish(self, roots: Uint64s) -> None:
        found = self._found
        self.blocks = _join([part.blocks for part in found], np.int64)
        """Every node's block, in the order of visiting; the columns below go with it."""
        self.leaf = _join([part.leaf for part in found], np.bool_)
        self.good = _join([part.good for part in found], np.bool_)
        self._underfull = _join([part.underfull for part in found], np.bool_)
        self.counts = _join([part.counts for part in found], np.int64)
        """Entries of each sound node."""
        self.low = _join([part.low for part in found], np.uint64)
        self.high = _join([part.high for part in found], np.uint64)
        self.edge_key = _join([part.edge_key for part in found], np.uint64)
        self.edge_child = _join([part.edge_child for part in found], np.uint64)
        """The block that each entry of each internal node points to."""
        inner = np.flatnonzero(self.good & ~self.leaf)
        degrees = np.zeros(len(self.blocks), dtype=np.int64)
        degrees[inner] = self.counts[inner]
        self._first_edge = np.cumsum(degrees) - degrees
        self._edge_parent = np.repeat(np.arange(len(self.blocks)), degrees)
        self._target = self._indices(self.edge_child)
        outside = self.edge_child >= self.reader.nr_blocks
        if outside.any():
            parents = np.unique(self.blocks[self._edge_parent[outside]])
            self.problems.add_blocks(self.place, parents, "the node points outside the metadata device")
        wild = roots[roots >= self.reader.nr_blocks]
        if len(wild):
            self.problems.add(
                self.place, f"its root {int(wild[0])} lies outside the metadata device of "
                f"{self.reader.nr_blocks} blocks"
            )  # fmt: skip
        self._measure_heights()
        self._summarize()

    def _indices(self, pointers: Uint64s) -> Int64s:
        """The node of each block number, :data:`NO_NODE` where there is none."""
        result = np.full(len(pointers), NO_NODE, dtype=np.int64)
        inside = pointers < self.reader.nr_blocks
        result[inside] = self._index[pointers[inside].astype(np.int64)]
        return result

    def _measure_heights(self) -> None:
        """Levels below each node; edges that do not go down exactly one level are cut out."""
        self.height = np.where(self.good & self.leaf, 0, NO_NODE).astype(np.int64)
        live = (self._target != NO_NODE) & self.good[self._target]
        parents, targets = self._edge_parent[live], self._target[live]
        for _ in range(MAX_DEPTH):
            open_edges = (self.height[parents] == NO_NODE) & (self.height[targets] != NO_NODE)
            if not open_edges.any():
                break
            self.height[parents[open_edges]] = self.height[targets[open_edges]] + 1
        uneven = live.copy()
        uneven[live] = self.height[parents] != self.height[targets] + 1
        # A node of unknown height has only damaged nodes below it, or is part of a circle.
        circling = uneven & (self.height[self._edge_parent] == NO_NODE)
        below_damage = np.zeros(len(uneven), dtype=np.bool_)
        if circling.any():
            below_damage = circling & ~self._in_circle(circling)[self._edge_parent]
        uneven_parents = np.unique(self.blocks[self._edge_parent[uneven & ~below_damage]])
        if len(uneven_parents):
            self.problems.add_blocks(
                self.place, uneven_parents, "the tree is uneven below this node, or runs in a circle"
            )
        self._live = live & ~uneven

    def _in_circle(self, edges: Bools) -> Bools:
        """Which nodes are part of a circle of *edges*, or lead into one."""
        turning = np.zeros(len(self.blocks), dtype=np.bool_)
        turning[self._edge_parent[edges]] = True
        for _ in range(MAX_DEPTH):
            leads = np.zeros_like(turning)
            onward = edges & turning[self._target]
            leads[self._edge_parent[onward]] = True
            if (leads == turning).all():
                break
            turning = leads
        return turning

    def _summarize(self) -> None:
        """Entries, key range and soundness of the tree below each node, from the leaves up."""
        self.total = np.where(self.leaf, self.counts, 0)
        """Entries of all leaves below each node (of the node itself, if a leaf)."""
        self.whole = self.good.copy()
        """Whether nothing at or below the node is damaged."""
        edges = self._live
        sound = edges.copy()
        broken = np.unique(self._edge_parent[~edges])
        self.whole[broken] = False
        upper = np.roll(self.edge_key, -1)
        last = np.roll(self._edge_parent, -1) != self._edge_parent
        last[-1:] = True
        misplaced = np.zeros(len(edges), dtype=np.bool_)
        edge_height = np.where(edges, self.height[self._edge_parent], NO_NODE)
        for level in range(1, int(self.height.max(initial=0)) + 1):
            at = np.flatnonzero(edge_height == level)
            targets = self._target[at]
            filled = self.total[targets] > 0
            wrong = filled & (
                (self.low[targets] < self.edge_key[at]) | (~last[at] & (self.high[targets] >= upper[at]))
            )
            misplaced[at[wrong]] = True
            self.whole[self._edge_parent[at[~self.whole[targets] | wrong]]] = False
            # Only children with entries, all in the parent's range, stay: so no tree can hold one twice.
            keep = filled & ~wrong
            edges[at[~keep]] = False
            parents, targets = self._edge_parent[at[keep]], targets[keep]
            np.add.at(self.total, parents, self.total[targets])
            np.minimum.at(self.low, parents, self.low[targets])
            np.maximum.at(self.high, parents, self.high[targets])
        self._lost = ~sound | misplaced
        if misplaced.any():
            children = np.unique(self.edge_child[misplaced]).astype(np.int64)
            self.problems.add_blocks(self.place, children, "the node's keys are not those its parent expects")
        thin = np.unique(self.edge_child[sound & self._underfull[self._target]]).astype(np.int64)
        if len(thin):
            self.problems.add_blocks(
                self.place, thin, "the node has less than a third of its entries", fatal=False
            )

    # -- asking ----------------------------------------------------------------------------------

    def sound_edges(self) -> Edges:
        """Entries of all internal nodes that lead to sound nodes with entries, in the order of the nodes."""
        places = np.flatnonzero(self._live)
        return Edges(self._edge_parent[places], self._target[places], self.edge_key[places])

    def node_of(self, roots: Uint64s) -> Int64s:
        """The node (index into the columns) of each root block, :data:`NO_NODE` if it was not visited."""
        return self._indices(roots)

    def gaps(self, node: int) -> list[tuple[int, int]]:
        """The ranges of keys (first, last) that belong to what is damaged at or below *node*, ascending."""
        found: list[tuple[int, int]] = []
        waiting = [(node, 0, int(_KEY_MAX))]
        while waiting:
            at, low, high = waiting.pop()
            if at == NO_NODE or not self.good[at] or self.height[at] == NO_NODE:
                found.append((low, high))
            elif not self.leaf[at] and not self.whole[at]:
                edges = slice(int(self._first_edge[at]), int(self._first_edge[at] + self.counts[at]))
                keys = self.edge_key[edges].tolist()
                bounds = zip([low, *keys[1:]], [*(key - 1 for key in keys[1:]), high], strict=True)
                columns = zip(bounds, self._target[edges].tolist(), self._lost[edges].tolist(), strict=True)
                waiting += [
                    (NO_NODE if lost else target, *bound)
                    for bound, target, lost in columns
                    if bound[0] <= bound[1]
                ]
        return _joined(sorted(found))

    def graft(self, root: int, leaves: Sequence[tuple[Uint64s, Uint64s]]) -> None:
        """Let *leaves* (keys and values of each) be part of the tree at node *root*, in its gaps.

        They are of this forest from then on, in blocks that its device does not have. Needs *keep*.
        """
        self._join_kept()
        first = len(self.blocks)
        counts = np.array([len(keys) for keys, _ in leaves], dtype=np.int64)
        number = len(counts)
        above = self.reader.nr_blocks + sum(len(grafts) for grafts in self._grafts.values())
        self.blocks = np.append(self.blocks, np.arange(above, above + number))
        self.leaf = np.append(self.leaf, np.ones(number, dtype=np.bool_))
        self.good = np.append(self.good, np.ones(number, dtype=np.bool_))
        self.counts = np.append(self.counts, counts)
        self.height = np.append(self.height, np.zeros(number, dtype=np.int64))
        self.low = np.append(self.low, np.array([keys[0] for keys, _ in leaves], dtype=np.uint64))
        self._start = np.append(self._start, len(self._keys) + np.cumsum(counts) - counts)
        self._keys = np.concatenate([self._keys, *(keys for keys, _ in leaves)])
        self._values = np.concatenate([self._values, *(values for _, values in leaves)])
        grafts = np.arange(first, first + number)
        self._grafts[root] = np.append(self._grafts.get(root, grafts[:0]), grafts)

    def references(self) -> Int64s:
        """Blocks that entries of internal nodes point to, one for each entry, inside the device only."""
        inside = self.edge_child[self.edge_child < self.reader.nr_blocks]
        return inside.astype(np.int64)

    def leaves_of(self, nodes: Int64s) -> tuple[Int64s, Int64s]:
        """The sound leaves (node indices) below *nodes*, in the order of their keys, node after node.

        Returns (leaves, to which of *nodes* by position each belongs). What is damaged is left out.
        """
        owner = np.flatnonzero(nodes != NO_NODE)
        owner = owner[self.good[nodes[owner]] & (self.height[nodes[owner]] != NO_NODE)]
        row = nodes[owner]
        for _ in range(int(self.height[row].max(initial=0))):
            inner = ~self.leaf[row]
            degrees = np.where(inner, self.counts[row], 1)
            parent = np.repeat(np.arange(len(row)), degrees)
            which = np.arange(len(parent)) - np.repeat(np.cumsum(degrees) - degrees, degrees)
            below = inner[parent]
            edges = self._first_edge[row[parent[below]]] + which[below]
            onward = row[parent]
            onward[below] = self._target[edges]
            keep = np.ones(len(parent), dtype=np.bool_)
            keep[below] = self._live[edges]
            row, owner = onward[keep], owner[parent[keep]]
        for place in np.flatnonzero(np.isin(nodes, list(self._grafts))).tolist() if self._grafts else ():
            grafts = self._grafts[int(nodes[place])]
            row = np.append(row, grafts)
            owner = np.append(owner, np.full(len(grafts), place))
        if self._grafts:
            order = np.lexsort((self.low[row], owner))
            row, owner = row[order], owner[order]
        return row, owner

    def entries_of(self, node: int) -> tuple[Uint64s, npt.NDArray[Any]]:
        """All keys and values below *node*, in the order of the keys. Needs *keep*.

        Entries below damaged nodes are missing. The arrays may be views; do not change them.
        """
        return self.gather(self.leaves_of(np.array([node], dtype=np.int64))[0])

    def gather(self, leaves: Int64s) -> tuple[Uint64s, npt.NDArray[Any]]:
        """All keys and values of *leaves* (node indices), one after the other. Needs *keep*."""
        self._join_kept()
        counts = self.counts[leaves]
        total = int(counts.sum())
        starts = self._start[leaves]
        if len(starts) and (starts[1:] == starts[:-1] + counts[:-1]).all():
            first = int(starts[0])
            return self._keys[first : first + total], self._values[first : first + total]
        places = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(total)
        return self._keys[places], self._values[places]

    def _join_kept(self) -> None:
        """Concatenate the entries of the kept leaves, once."""
        if hasattr(self, "_keys"):
            return
        kept = self._kept
        self._keys = _join([part.keys for part in kept], np.uint64)
        self._values = _join([part.values for part in kept], self.value)
        nodes = self._index[_join([part.blocks for part in kept], np.int64)]
        counts = _join([part.counts for part in kept], np.int64)
        self._start = np.zeros(len(self.blocks), dtype=np.int64)
        self._start[nodes] = np.cumsum(counts) - counts
        self._kept = []


def _join(parts: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """*ranges*, which ascend, with neighbours joined."""
    joined: list[tuple[int, int]] = []
    for low, high in ranges:
        if joined and joined[-1][1] + 1 >= low:
            joined[-1] = joined[-1][0], max(joined[-1][1], high)
        else:
            joined.append((low, high))
    return joined


def read_tree(
    device: BlockDevice | BlockReader, root: int, value: np.dtype[Any], *, place: str = "B-tree"
) -> tuple[Uint64s, npt.NDArray[Any]]:
    """All keys (u64) and values (*value*) of the tree at block *root*, in the order of the keys.

    Everything read is checked; raises :class:`lamella.errors.CorruptError` naming the block and reason.
    """
    reader = device if isinstance(device, BlockReader) else BlockReader(device)
    problems = Problems()
    forest = Forest(reader, value, problems, place, keep=True)
    roots = np.array([root], dtype=np.uint64)
    forest.walk(roots)
    problems.raise_if_fatal(reader.name)
    return forest.entries_of(int(forest.node_of(roots)[0]))
