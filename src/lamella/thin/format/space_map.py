# SPDX-License-Identifier: Apache-2.0
"""How a space map lies on disk: two-bit reference counts in bitmaps, index entries, the map's root.

A space map counts the references to each block. Counts of 0, 1 and 2 are kept in bitmap blocks; a 3
there means that the true count is in an overflow B-tree (block -> u32). The data map's bitmaps are
found by a B-tree of index entries, the metadata map's by one index block.
Sources: ``drivers/md/persistent-data/dm-space-map-common.[ch]``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.checksum import BITMAP_XOR, BLOCK_SIZE, INDEX_XOR, seal_many

if TYPE_CHECKING:
    import numpy.typing as npt

    from lamella.thin.format.arrays import Uint8s, Uint64s

BITMAP_HEADER = 16
"""Uint8s before the counts: csum u32, unused u32, block number u64."""
ENTRIES_PER_BITMAP = (BLOCK_SIZE - BITMAP_HEADER) * 4
"""Counts in one bitmap block (16320)."""
MAX_INDEX_ENTRIES = 255
"""Index entries in the metadata space map's one index block."""
MAX_METADATA_BLOCKS = MAX_INDEX_ENTRIES * ENTRIES_PER_BITMAP
"""Most 4096-byte blocks that metadata can use; a larger device is used only so far (15.88 GiB)."""
OVERFLOW = 3
"""The two-bit count that sends a reader to the overflow tree."""

INDEX_ENTRY = np.dtype([("blocknr", "<u8"), ("nr_free", "<u4"), ("none_free_before", "<u4")])
"""One bitmap's place, its count of free entries, and an entry below which none is free."""
INDEX_HEADER = 16
"""Uint8s before the metadata index's entries: csum u32, padding u32, block number u64."""

REF_COUNT = np.dtype("<u4")
"""Value of the overflow tree."""

_ROOT = struct.Struct("<QQQQ")


@dataclass(frozen=True, slots=True)
class SpaceMapRoot:
    """A space map's root as the superblock holds it (32 of the 128 bytes reserved)."""

    nr_blocks: int
    nr_allocated: int
    bitmap_root: int
    """Root block of the index B-tree (data), or the index block itself (metadata)."""
    ref_count_root: int
    """Root block of the overflow B-tree."""

    SIZE = _ROOT.size

    @classmethod
    def unpack(cls, data: bytes) -> SpaceMapRoot:
        """Read from the first 32 bytes of *data*."""
        return cls(*_ROOT.unpack_from(data))

    def pack(self) -> bytes:
        return _ROOT.pack(self.nr_blocks, self.nr_allocated, self.bitmap_root, self.ref_count_root)


def _tables() -> tuple[Uint8s, Uint8s]:
    """Byte -> its four counts, and the pair's value by count. Bit 2b of a pair is the count's *high* bit."""
    raw = np.arange(256, dtype=np.uint16)[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint16)
    pairs = raw & 3
    swap = np.array([0, 2, 1, 3], dtype=np.uint8)
    return np.ascontiguousarray(swap[pairs]), swap


_COUNTS_OF_BYTE, _SWAPPED = _tables()
_COUNTS_WORD = _COUNTS_OF_BYTE.view("<u4").ravel()


def unpack_bitmaps(blocks: Uint8s) -> Uint8s:
    """The counts (n, 16320), each 0 to 3, in bitmap blocks (n, 4096). Checks nothing."""
    packed = blocks[:, BITMAP_HEADER:]
    counts: Uint8s = _COUNTS_WORD[packed].view(np.uint8)
    return counts.reshape(len(blocks), ENTRIES_PER_BITMAP)


def pack_bitmaps(counts: Uint8s, locations: Uint64s, *, sealed: bool = True) -> Uint8s:
    """Bitmap blocks (n, 4096) for *counts* (n, 16320), each 0 to 3, to be written at *locations* (n,)."""
    pairs = _SWAPPED[counts].reshape(len(counts), -1, 4)
    blocks = np.zeros((len(counts), BLOCK_SIZE), dtype=np.uint8)
    blocks[:, BITMAP_HEADER:] = (
        pairs[:, :, 0] | pairs[:, :, 1] << 2 | pairs[:, :, 2] << 4 | pairs[:, :, 3] << 6
    )
    blocks[:, 8:16] = np.ascontiguousarray(locations, dtype="<u8").view(np.uint8).reshape(-1, 8)
    if sealed:
        seal_many(blocks, BITMAP_XOR)
    return blocks


def block_numbers(blocks: Uint8s) -> Uint64s:
    """The block number that each row of *blocks* (n, 4096) of any kind says it has (bytes 8 to 15)."""
    numbers: Uint64s = np.ascontiguousarray(blocks[:, 8:16]).view("<u8").ravel()
    return numbers


def unpack_metadata_index(block: bytes) -> npt.NDArray[np.void]:
    """All 255 :data:`INDEX_ENTRY` of the metadata space map's index block. Checks nothing."""
    return np.frombuffer(block, dtype=INDEX_ENTRY, count=MAX_INDEX_ENTRIES, offset=INDEX_HEADER)


def pack_metadata_index(entries: npt.NDArray[np.void], location: int) -> bytes:
    """The sealed index block for up to 255 :data:`INDEX_ENTRY`, to be written at block *location*."""
    block = np.zeros((1, BLOCK_SIZE), dtype=np.uint8)
    block[0, 8:16] = np.frombuffer(location.to_bytes(8, "little"), dtype=np.uint8)
    packed = np.ascontiguousarray(entries, dtype=INDEX_ENTRY).view(np.uint8)
    block[0, INDEX_HEADER : INDEX_HEADER + len(packed)] = packed
    seal_many(block, INDEX_XOR)
    return block.tobytes()
