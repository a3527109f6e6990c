# SPDX-License-Identifier: Apache-2.0
"""The two space maps of a running pool: where their bitmaps lie, and how a commit writes them.

The data map keeps its bitmaps' places in a B-tree. The metadata map has one index block, and counts the
very blocks that it is written to: writing a bitmap changes a bitmap. Each page is therefore given its
new block first, until no page changes any more, and only then are the contents made.
Sources: ``dm-space-map-disk.c``, ``dm-space-map-metadata.c`` and ``dm-space-map-common.c`` in the kernel's
``drivers/md/persistent-data``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.engine.btree_update import TreeWriter
from lamella.thin.engine.space_map import Page, SpaceMap
from lamella.thin.format.checksum import BLOCK_SIZE, INDEX_XOR
from lamella.thin.format.space_map import (
    ENTRIES_PER_BITMAP,
    INDEX_ENTRY,
    MAX_INDEX_ENTRIES,
    REF_COUNT,
    SpaceMapRoot,
    pack_bitmaps,
    pack_metadata_index,
    unpack_metadata_index,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from lamella.thin.engine.block_cache import BlockStore

_BLANK_BATCH = 1024


class MetadataSpaceMap(SpaceMap):
    """Counts of the metadata device's own blocks."""

    what = "metadata block"
    searches_again = True

    def __init__(self, blocks: BlockStore, root: SpaceMapRoot) -> None:
        self.overflow_writer = TreeWriter(blocks, self, REF_COUNT)
        super().__init__(blocks, self.overflow_writer, root)

    @classmethod
    def create(cls, blocks: BlockStore, size: int) -> MetadataSpaceMap:
        """The map of a device of *size* blocks being formatted: only block 0, the superblock, is in use."""
        made = cls(blocks, SpaceMapRoot(0, 0, 0, 0))
        made._index = np.zeros(0, dtype=INDEX_ENTRY)
        made.extend(size)
        superblock = made.allocate_one()
        assert superblock == 0
        made.ref_count_root = made.overflow_writer.make_empty()
        return made

    def load_index(self) -> npt.NDArray[np.void]:
        bitmaps = -(-self.size // ENTRIES_PER_BITMAP)
        if bitmaps > MAX_INDEX_ENTRIES:
            raise self.blocks.corrupt(0, f"counts {self.size} metadata blocks, more than the format allows")
        block = self.blocks.raw(self.bitmap_root, INDEX_XOR)
        return unpack_metadata_index(block.tobytes())[:bitmaps].copy()

    def extend(self, size: int) -> None:
        """The device now has *size* blocks."""
        for number in self.extend_index(size):
            self._pages[number] = Page(np.zeros(ENTRIES_PER_BITMAP, dtype=np.uint32))
            self._touch(number)

    def flush(self) -> None:
        """Give everything that changed to the block store. Nothing may be allocated or freed after it."""
        self.record_allocated()
        if not self._dirty:
            return
        self.ref_count_root = self.overflow_writer.update(self.ref_count_root, *self.large_counts()).root
        old_index, self.bitmap_root = self.bitmap_root, self.allocate_one()
        if old_index:
            self.release((old_index,))
        places: dict[int, int] = {}
        self.record_allocated()
        while len(places) < len(self._dirty):
            for number in [number for number in self._dirty if number not in places]:
                places[number] = self.allocate_one()
                old = int(self.index[number]["blocknr"])
                if old:
                    self.release((old,))
            self.record_allocated()
        self.put_bitmaps(places)
        packed = pack_metadata_index(self.index, self.bitmap_root)
        self.blocks.put_raw(self.bitmap_root, np.frombuffer(packed, dtype=np.uint8), INDEX_XOR)


class DataSpaceMap(SpaceMap):
    """Counts of the data device's chunks."""

    what = "data block"
    searches_again = False

    def __init__(self, blocks: BlockStore, metadata: MetadataSpaceMap, root: SpaceMapRoot) -> None:
        self.metadata = metadata
        self.overflow_writer = TreeWriter(blocks, metadata, REF_COUNT)
        self.index_tree = TreeWriter(blocks, metadata, INDEX_ENTRY)
        self._index_changed: set[int] = set()
        super().__init__(blocks, self.overflow_writer, root)

    @classmethod
    def create(cls, blocks: BlockStore, metadata: MetadataSpaceMap, size: int) -> DataSpaceMap:
        """The map of a data device of *size* chunks, all of them free."""
        made = cls(blocks, metadata, SpaceMapRoot(0, 0, 0, 0))
        made._index = np.zeros(0, dtype=INDEX_ENTRY)
        made.bitmap_root = made.index_tree.make_empty()
        made.ref_count_root = made.overflow_writer.make_empty()
        made.extend(size)
        return made

    def load_index(self) -> npt.NDArray[np.void]:
        keys, entries = self.index_tree.read_range(self.bitmap_root)
        bitmaps = -(-self.size // ENTRIES_PER_BITMAP)
        if len(keys) < bitmaps or not np.array_equal(keys[:bitmaps], np.arange(bitmaps, dtype=np.uint64)):
            raise self.blocks.corrupt(self.bitmap_root, "is the root of a space map that lacks bitmaps")
        return entries[:bitmaps].copy()

    def extend(self, size: int) -> None:
        """The device now has *size* chunks.

        The new bitmaps, all zero, go to disk at once: a 16 TiB device has 16,448 of them, and they lie
        in blocks that nothing refers to before the commit.
        """
        numbers = self.extend_index(size)
        self._index_changed.update(numbers)
        for start in range(0, len(numbers), _BLANK_BATCH):
            part = numbers[start : start + _BLANK_BATCH]
            places = self.metadata.allocate(len(part)).astype(np.uint64)
            empty = np.zeros((len(part), ENTRIES_PER_BITMAP), dtype=np.uint8)
            rows = pack_bitmaps(empty, places)
            self.blocks.device.write_many(
                (int(block) * BLOCK_SIZE, memoryview(rows[row])) for row, block in enumerate(places)
            )
            self.index["blocknr"][part.start : part.stop] = places

    def flush(self) -> None:
        """Give everything that changed to the block store."""
        self.record_allocated()
        if self._dirty:
            counts = self.large_counts()
            self.ref_count_root = self.overflow_writer.update(self.ref_count_root, *counts).root
            places: dict[int, int] = {}
            for number in sorted(self._dirty):
                old = int(self.index[number]["blocknr"])
                if self.metadata.is_new(old):
                    places[number] = old
                else:
                    places[number] = self.metadata.allocate_one()
                    self.metadata.release((old,))
            self.put_bitmaps(places)
            self._index_changed.update(places)
        if self._index_changed:
            keys = np.array(sorted(self._index_changed), dtype=np.uint64)
            entries = self.index[keys.astype(np.int64)]
            self.bitmap_root = self.index_tree.update(self.bitmap_root, keys, entries).root
            self._index_changed.clear()
