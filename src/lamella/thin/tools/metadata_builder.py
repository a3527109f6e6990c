# SPDX-License-Identifier: Apache-2.0
"""Whole metadata built on a device: nodes as they come, then device lists, space maps, and the superblock.

Blocks are given out in order from block 1 on. Up to 256 MiB of them stay in memory until everything is
known to be good and to fit, so that bad input leaves the device as it was. Past that the device is written
to while input still comes in; its old superblock is made unusable first, because what it points to goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import NoSpaceError, UsageError
from lamella.thin.format import superblock as superblock_format
from lamella.thin.format.btree_builder import build_tree
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.mappings import data_blocks
from lamella.thin.format.node import (
    BLOCK_VALUE,
    DEVICE_DETAILS,
    INTERNAL,
    LEAF,
    MAPPING,
    max_entries,
    pack_nodes,
    unpack_nodes,
)
from lamella.thin.format.space_map import ENTRIES_PER_BITMAP, INDEX_ENTRY, MAX_METADATA_BLOCKS, REF_COUNT
from lamella.thin.format.superblock import Superblock
from lamella.thin.metadata.reference_counts import DataReferences
from lamella.thin.tools.space_map_builder import SpaceMapWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy.typing as npt

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Int64s, Uint8s, Uint64s
    from lamella.thin.format.details import DeviceDetails
    from lamella.thin.tools.header import Header

NODES_AT_ONCE = 1024
"""Nodes packed together."""
BLOCKS_IN_MEMORY = 65536
WRITE_SIZE = 2048
"""Blocks in one write (8 MiB)."""
LARGEST_DATA = MAX_METADATA_BLOCKS * ENTRIES_PER_BITMAP
"""More data blocks than any metadata has room to count."""

_UNFINISHED = b"Metadata being restored by Lamella; unfinished, and not usable.\n"


class MetadataBuilder:
    """Builds metadata on *target* for a pool of *nr_data_blocks* blocks; *action* names it in errors.

    Add nodes with :meth:`add_nodes`, then call :meth:`finish`. Running out of blocks raises nothing before
    that: ``overflowed`` is set, and :meth:`finish` raises :class:`NoSpaceError` with the size needed.
    """

    def __init__(self, target: BlockDevice, nr_data_blocks: int, *, action: str) -> None:
        self.target = target
        self.nr_data_blocks = nr_data_blocks
        self.action = action
        self.nr_blocks = min(target.size // BLOCK_SIZE, MAX_METADATA_BLOCKS)
        if target.size < BLOCK_SIZE:
            raise NoSpaceError(
                f"cannot {action}: {target.name} has no room for a superblock", hint="give a larger device"
            )
        if nr_data_blocks > LARGEST_DATA:
            raise UsageError(
                f"cannot {action}: no metadata can describe {nr_data_blocks} data blocks",
                hint="is nr_data_blocks right?",
            )
        self.mappings = 0
        """Mappings in all leaves so far, shared ones once."""
        self._next = 1
        # calloc'ed: costs memory only as far as blocks are filled.
        self._memory = np.zeros((min(self.nr_blocks, BLOCKS_IN_MEMORY), BLOCK_SIZE), dtype=np.uint8)
        self._invalidated = False
        self._references = np.zeros(self.nr_blocks, dtype=np.int64)
        self._references[superblock_format.LOCATION] = 1
        self._data = DataReferences()
        self._uncounted: list[Uint64s] = []
        self._internal: dict[bytes, int] = {}
        """Nodes above shared leaves, by their children."""
        self._empty = 0
        self._queue: list[tuple[Uint64s, ...]] = []
        self._queued = 0

    @property
    def overflowed(self) -> bool:
        """Whether more blocks have been taken than there are."""
        return self._next > self.nr_blocks

    # -- blocks ----------------------------------------------------------------------------------

    def take(self, count: int) -> Uint64s:
        """The next *count* block numbers; past the end of the device when it is full."""
        self._next += count
        return np.arange(self._next - count, self._next, dtype=np.uint64)

    def _put(self, blocks: Uint64s, rows: Uint8s) -> None:
        """Keep *rows* for *blocks*, which ascend."""
        if self.overflowed:
            return
        stays = int(np.searchsorted(blocks, np.uint64(len(self._memory))))
        self._memory[blocks[:stays].astype(np.int64)] = rows[:stays]
        if stays < len(blocks):
            self._invalidate()
            places = (blocks[stays:] * np.uint64(BLOCK_SIZE)).tolist()
            self.target.write_many(zip(places, (memoryview(row) for row in rows[stays:]), strict=True))

    def _invalidate(self) -> None:
        """Overwrite the superblock: the device passes neither for metadata nor for an empty one (zeros)."""
        if not self._invalidated:
            self.target.write(0, _UNFINISHED.ljust(BLOCK_SIZE, b"\0"))
            self.target.flush()
            self._invalidated = True

    # -- nodes -----------------------------------------------------------------------------------

    def add_leaves(self, keys: Uint64s, values: Uint64s, counts: Int64s, *, sure: bool = True) -> Uint64s:
        """Leaves of mapping trees, *counts* entries each; returns their blocks.

        Not *sure* are leaves that may turn out not to be referred to: what they map counts only if they are.
        """
        blocks = self._add(keys, values, counts, LEAF)
        self.mappings += len(keys)
        if sure:
            self._data.add(data_blocks(values), self.nr_data_blocks)
        else:
            self._uncounted.append(blocks)
        return blocks

    def empty_leaf(self) -> int:
        """The block of the one leaf without entries."""
        if not self._empty:
            none = np.empty(0, dtype=np.uint64)
            self._empty = int(self._add(none, none, np.zeros(1, dtype=np.int64), LEAF)[0])
        return self._empty

    def add_internal(self, keys: Uint64s, children: Uint64s, counts: Int64s, *, shared: bool) -> Uint64s:
        """Internal nodes over blocks *children*, *counts* each; every child gets one more reference.

        *shared* ones are taken from what is there where another tree has a node over the same children.
        """
        if not shared:
            self.refer(children)
            return self._add(keys, children, counts, INTERNAL)
        ends = np.cumsum(counts).tolist()
        parts = [slice(end - count, end) for end, count in zip(ends, counts.tolist(), strict=True)]
        names = [children[part].tobytes() for part in parts]
        fresh = [place for place, name in enumerate(names) if name not in self._internal]
        if fresh:
            chosen = np.concatenate([np.arange(parts[place].start, parts[place].stop) for place in fresh])
            self.refer(children[chosen])
            made = self._add(keys[chosen], children[chosen], counts[fresh], INTERNAL)
            self._internal.update(zip((names[place] for place in fresh), made.tolist(), strict=True))
        return np.array([self._internal[name] for name in names], dtype=np.uint64)

    def refer(self, blocks: Uint64s) -> None:
        """Count a reference for each of *blocks*, doubles included."""
        inside = blocks[blocks < self.nr_blocks].astype(np.int64)
        np.add.at(self._references, inside, 1)

    def _add(self, keys: Uint64s, values: Uint64s, counts: Int64s, flags: int) -> Uint64s:
        blocks = self.take(len(counts))
        if not self.overflowed:
            kinds = np.full(len(counts), flags, dtype=np.uint64)
            self._queue.append((keys, values, counts.astype(np.uint64), blocks, kinds))
            self._queued += len(counts)
            if self._queued >= NODES_AT_ONCE:
                self._pack()
        return blocks

    def _pack(self) -> None:
        if not self._queue:
            return
        keys, values, counts, blocks, kinds = (
            np.concatenate(column) for column in zip(*self._queue, strict=True)
        )
        self._queue, self._queued = [], 0
        sizes = counts.astype(np.int64)
        ends = np.cumsum(sizes)
        for start in range(0, len(blocks), NODES_AT_ONCE):
            part = slice(start, start + NODES_AT_ONCE)
            entries = slice(int(ends[start] - sizes[start]), int(ends[part][-1]))
            rows = pack_nodes(
                keys[entries], values[entries].astype(MAPPING), sizes[part], blocks[part], flags=kinds[part]
            )
            self._put(blocks[part], rows)

    def read_leaves(self, blocks: Uint64s) -> tuple[Uint64s, Uint64s]:
        """All keys and values of leaves added before."""
        if self.overflowed:
            none = np.empty(0, dtype=np.uint64)
            return none, none
        self._pack()
        places = blocks.astype(np.int64)
        inside = places < len(self._memory)
        rows = np.empty((len(blocks), BLOCK_SIZE), dtype=np.uint8)
        rows[inside] = self._memory[places[inside]]
        for row in np.flatnonzero(~inside).tolist():
            rows[row] = np.frombuffer(
                self.target.read(int(places[row]) * BLOCK_SIZE, BLOCK_SIZE), dtype=np.uint8
            )
        _, keys, values = unpack_nodes(rows, MAPPING)
        return keys, values

    # -- the end ---------------------------------------------------------------------------------

    def finish(self, header: Header, details: Mapping[int, DeviceDetails], roots: Mapping[int, int]) -> int:
        """Write device lists, space maps and, last, the superblock; durable on return.

        *details* and *roots* (each device's root block) go by device id and have the same ids. Returns the
        number of blocks used. Raises :class:`NoSpaceError` with the size that is needed.
        """
        self._pack()
        dev_ids = sorted(details)
        keys = np.array(dev_ids, dtype=np.uint64)
        pointers = np.array([roots[dev_id] for dev_id in dev_ids], dtype=np.uint64)
        self.refer(pointers)
        self._count_leaves()
        rows = np.array([tuple(details[dev_id]) for dev_id in dev_ids], dtype=DEVICE_DETAILS)
        details_root = self._tree(keys, rows)
        mapping_root = self._tree(keys, pointers.astype(BLOCK_VALUE))
        self._refuse_overflow(0)
        maps = SpaceMapWriter(self._take_for_maps, self._put)
        data_root = maps.data_map(self.nr_data_blocks, self._data)
        metadata_root = maps.metadata_map(self._references)
        fields = Superblock(
            data_root, metadata_root, mapping_root, details_root, header.data_block_size,
            header.transaction_id, header.time, header.flags, metadata_nr_blocks=self.nr_blocks,
        )  # fmt: skip
        self._write_out(fields)
        return self._next

    def _tree(self, keys: Uint64s, values: npt.NDArray[Any]) -> int:
        """A whole tree that is not shared."""
        root, levels = build_tree(keys, values, self.take)
        for blocks, rows in levels:
            self.refer(blocks)
            self._put(blocks, rows)
        return root

    def _count_leaves(self) -> None:
        """Count the data of those leaves, not sure before, that are referred to after all."""
        if not self._uncounted or self.overflowed:
            return
        blocks = np.concatenate(self._uncounted)
        used = blocks[self._references[blocks.astype(np.int64)] > 0]
        for start in range(0, len(used), NODES_AT_ONCE):
            _, values = self.read_leaves(used[start : start + NODES_AT_ONCE])
            self._data.add(data_blocks(values), self.nr_data_blocks)

    def _take_for_maps(self, count: int) -> Uint64s:
        blocks = self.take(count)
        self._refuse_overflow(0)
        return blocks

    def refuse(self, more: int) -> None:
        """Raise the :class:`NoSpaceError` for a target too small: *more* blocks are needed at least."""
        self._next = max(self._next, self.nr_blocks + 1)
        self._refuse_overflow(more)

    def _refuse_overflow(self, more: int) -> None:
        if not self.overflowed:
            return
        needed = blocks_needed(self._next + more, self.mappings, self.nr_data_blocks)
        if needed > MAX_METADATA_BLOCKS:
            raise NoSpaceError(
                f"cannot {self.action}: {needed} metadata blocks are needed, more than a pool can have",
                hint="fewer devices, or larger data blocks",
            )
        raise NoSpaceError(
            f"cannot {self.action}: {self.target.name} is too small: it has {self.target.size} bytes, and "
            f"{needed * BLOCK_SIZE} are needed",
            hint=f"make it at least {-(-needed * BLOCK_SIZE >> 20)} MiB",
        )

    def _write_out(self, fields: Superblock) -> None:
        end = min(self._next, len(self._memory))
        self._invalidate()
        for start in range(1, end, WRITE_SIZE):
            rows = self._memory[start : min(start + WRITE_SIZE, end)]
            self.target.write(start * BLOCK_SIZE, memoryview(rows).cast("B"))  # type: ignore[arg-type]  # numpy has the buffer protocol
        self.target.flush()
        self.target.write(superblock_format.LOCATION, fields.pack())
        self.target.flush()


def nodes_needed(entries: int, value_size: int) -> int:
    """Nodes of a tree of *entries*, filled as :func:`lamella.thin.format.btree_builder.build_tree` does."""
    level = total = max(-(-entries // max_entries(value_size)), 1)
    while level > 1:
        level = -(-level // max_entries(BLOCK_VALUE.itemsize))
        total += level
    return total


def blocks_needed(used: int, mappings: int, nr_data_blocks: int) -> int:
    """Blocks that surely suffice for *used* ones (superblock and trees) and both space maps."""
    bitmaps = -(-nr_data_blocks // ENTRIES_PER_BITMAP)
    # Only counts of three and more are in an overflow tree.
    crowded = min(nr_data_blocks, mappings // 3)
    total = used + bitmaps + nodes_needed(bitmaps, INDEX_ENTRY.itemsize)
    total += nodes_needed(crowded, REF_COUNT.itemsize) + nodes_needed(used, REF_COUNT.itemsize) + 1
    return total + -(-total // (ENTRIES_PER_BITMAP - 1)) + 1
