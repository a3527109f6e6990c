# SPDX-License-Identifier: Apache-2.0
"""The metadata blocks that a running pool holds: verified when read, gathered when written.

What a transaction writes stays here until :meth:`BlockStore.write_out`, which seals all of it as whole
arrays and writes neighbouring blocks together. Nodes are kept decoded, so a node that changes ten times
in a transaction is packed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella.errors import CorruptError
from lamella.thin.format.checksum import (
    BITMAP_XOR,
    BLOCK_SIZE,
    INDEX_XOR,
    NODE_XOR,
    SUPERBLOCK_XOR,
    seal_many,
    verify_many,
)
from lamella.thin.format.node import BLOCK_VALUE, INTERNAL, LEAF, NODE, entry_views, headers, pack_nodes
from lamella.thin.format.runs import consecutive
from lamella.thin.format.space_map import block_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    import numpy.typing as npt

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Uint8s, Uint64s

CACHED_NODES = 4096
"""Clean nodes kept decoded (up to 16 MiB)."""
BATCH = 2048
"""Most blocks read into one array."""

_KINDS = {
    NODE_XOR: "B-tree node",
    BITMAP_XOR: "bitmap",
    INDEX_XOR: "space map index",
    SUPERBLOCK_XOR: "superblock",
}
_REPAIR = "run thin_check on the metadata, and rebuild it with thin_repair or restore a copy"


class Node(NamedTuple):
    """A decoded B-tree node. The arrays are never changed in place."""

    leaf: bool
    keys: Uint64s
    values: npt.NDArray[Any]


class BlockStore:
    """The 4096-byte blocks of one metadata device, seen through a cache."""

    def __init__(self, device: BlockDevice) -> None:
        self.device = device
        self._clean: dict[int, Node] = {}
        self._dirty_nodes: dict[int, Node] = {}
        self._dirty_raw: dict[int, tuple[Uint8s, int]] = {}

    # -- reading ---------------------------------------------------------------------------------

    def corrupt(self, block: int, reason: str) -> CorruptError:
        """The error that names block *block* of this device and *reason*."""
        return CorruptError(f"the metadata of {self.device.name}: block {block} {reason}", hint=_REPAIR)

    def node(self, block: int, value: np.dtype[Any]) -> Node:
        """The node in *block* of a tree whose leaves hold *value*. Raises :class:`CorruptError`."""
        found = self._dirty_nodes.get(block) or self._clean.get(block)
        if found is None:
            found = self._decode([block], self._read([block], NODE_XOR), value)[0]
            self._remember(block, found)
        elif found.leaf:
            self._check_kind(block, found, value)
        return found

    def nodes(self, blocks: Sequence[int], value: np.dtype[Any]) -> list[Node]:
        """The nodes in *blocks*, in order; those not cached are read together."""
        dirty, clean = self._dirty_nodes, self._clean
        found = [dirty.get(block) or clean.get(block) for block in blocks]
        for block, node in zip(blocks, found, strict=True):
            if node is not None and node.leaf:
                self._check_kind(block, node, value)
        absent = sorted({block for block, node in zip(blocks, found, strict=True) if node is None})
        if not absent:
            return [node for node in found if node is not None]
        fresh: dict[int, Node] = {}
        for start in range(0, len(absent), BATCH):
            part = absent[start : start + BATCH]
            fresh.update(zip(part, self._decode(part, self._read(part, NODE_XOR), value), strict=True))
        if len(fresh) <= CACHED_NODES // 4:
            for block, node in fresh.items():
                self._remember(block, node)
        return [fresh[block] if node is None else node for block, node in zip(blocks, found, strict=True)]

    def _check_kind(self, block: int, leaf: Node, value: np.dtype[Any]) -> None:
        """A cached leaf may have been read as one of another tree, which refers to it too."""
        kind = leaf.values.dtype
        if kind is not value and kind != value:
            raise self.corrupt(block, f"is a node with values of {kind.itemsize} bytes, not {value.itemsize}")

    def raw(self, block: int, xor: int) -> Uint8s:
        """The 4096 bytes of a block that is not a node; to be read only. Raises :class:`CorruptError`."""
        dirty = self._dirty_raw.get(block)
        return dirty[0] if dirty is not None else self._read([block], xor)[0]

    def _remember(self, block: int, node: Node) -> None:
        clean = self._clean
        if len(clean) >= CACHED_NODES:
            for old in list(clean)[: CACHED_NODES // 4]:
                del clean[old]
        clean[block] = node

    def _read(self, blocks: Sequence[int], xor: int) -> Uint8s:
        """Rows (n, 4096) of *blocks*, which ascend; each row verified."""
        last = self.device.size // BLOCK_SIZE
        if blocks[0] < 0 or blocks[-1] >= last:
            raise self.corrupt(blocks[-1], f"is referred to, but the device has only {last} blocks")
        rows = np.empty((len(blocks), BLOCK_SIZE), dtype=np.uint8)
        self.device.read_many(
            (blocks[start] * BLOCK_SIZE, memoryview(rows[start:end]).cast("B"))  # type: ignore[arg-type]
            for start, end in consecutive(blocks)
        )
        good = verify_many(rows, xor) & (block_numbers(rows) == np.asarray(blocks, dtype=np.uint64))
        if not good.all():
            bad = int(np.flatnonzero(~good)[0])
            raise self.corrupt(blocks[bad], f"is a corrupt {_KINDS[xor]}: bad checksum or block number")
        return rows

    def _decode(self, blocks: Sequence[int], rows: Uint8s, value: np.dtype[Any]) -> list[Node]:
        nodes = []
        for row, head in enumerate(headers(rows).tolist()):
            _, flags, _, entries, limit, value_size, _ = head
            leaf = flags == LEAF
            dtype = value if leaf else BLOCK_VALUE
            if flags not in (LEAF, INTERNAL):
                raise self.corrupt(blocks[row], f"is a node with unknown flags {flags:#x}")
            if value_size != dtype.itemsize:
                raise self.corrupt(
                    blocks[row], f"is a node with values of {value_size} bytes, not {dtype.itemsize}"
                )
            if entries > limit or NODE.itemsize + limit * (8 + value_size) > BLOCK_SIZE:
                raise self.corrupt(blocks[row], f"is a node with {entries} entries of at most {limit}")
            if not leaf and not entries:
                raise self.corrupt(blocks[row], "is an internal node without entries")
            keys, values = entry_views(rows[row : row + 1], limit, dtype)
            keys, values = keys[0, :entries], values[0, :entries]
            if entries > 1 and not (keys[1:] > keys[:-1]).all():
                raise self.corrupt(blocks[row], "is a node whose keys do not ascend")
            if len(blocks) > 1:  # a node that is kept must not keep the whole batch in memory
                keys, values = keys.copy(), values.copy()
            nodes.append(Node(leaf, keys, values))
        return nodes

    # -- writing ---------------------------------------------------------------------------------

    @property
    def dirty(self) -> int:
        """Blocks waiting to be written."""
        return len(self._dirty_nodes) + len(self._dirty_raw)

    def put_node(self, block: int, node: Node) -> None:
        """Let *node* be the content of *block*, which the caller has allocated in this transaction."""
        self._dirty_nodes[block] = node

    def put_raw(self, block: int, content: Uint8s, xor: int) -> None:
        """Let *content* (4096 bytes, its number at bytes 8 to 15 set, unsealed) be that of *block*."""
        self._dirty_raw[block] = (content, xor)

    def drop(self, blocks: Iterable[int]) -> None:
        """Forget blocks that nothing refers to any more."""
        for block in blocks:
            self._dirty_nodes.pop(block, None)
            self._dirty_raw.pop(block, None)
            self._clean.pop(block, None)

    def write_out(self) -> None:
        """Write everything that waits; it is durable only after the device's next flush.

        Everything stays waiting when the device fails.
        """
        groups: dict[tuple[bool, np.dtype[Any]], list[int]] = {}
        for block in sorted(self._dirty_nodes):
            node = self._dirty_nodes[block]
            groups.setdefault((node.leaf, node.values.dtype), []).append(block)
        pieces: list[tuple[int, Uint8s]] = []
        for (leaf, _), blocks in groups.items():
            for start in range(0, len(blocks), BATCH):
                part = blocks[start : start + BATCH]
                nodes = [self._dirty_nodes[block] for block in part]
                rows = pack_nodes(
                    np.concatenate([node.keys for node in nodes]),
                    np.concatenate([node.values for node in nodes]),
                    np.array([len(node.keys) for node in nodes], dtype=np.int64),
                    np.array(part, dtype=np.uint64),
                    flags=LEAF if leaf else INTERNAL,
                )
                pieces.extend((part[first], rows[first:end]) for first, end in consecutive(part))
                if len(blocks) > BATCH:  # a large transaction goes out batch by batch
                    self._write(pieces)
                    pieces = []
        by_kind: dict[int, list[int]] = {}
        for block in sorted(self._dirty_raw):
            by_kind.setdefault(self._dirty_raw[block][1], []).append(block)
        for xor, blocks in by_kind.items():
            rows = np.stack([self._dirty_raw[block][0] for block in blocks])
            seal_many(rows, xor)
            pieces.extend((blocks[first], rows[first:end]) for first, end in consecutive(blocks))
        self._write(pieces)
        if len(self._dirty_nodes) <= CACHED_NODES // 2:
            for block, node in self._dirty_nodes.items():
                self._remember(block, node)
        self._dirty_nodes.clear()
        self._dirty_raw.clear()

    def _write(self, pieces: Sequence[tuple[int, Uint8s]]) -> None:
        self.device.write_many(
            (block * BLOCK_SIZE, memoryview(rows).cast("B"))  # type: ignore[arg-type]
            for block, rows in pieces
        )

    def forget(self) -> None:
        """Drop everything, written or not."""
        self._clean.clear()
        self._dirty_nodes.clear()
        self._dirty_raw.clear()
