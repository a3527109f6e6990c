# SPDX-License-Identifier: Apache-2.0
"""Where a file's blocks are: extent trees of any depth (ext4) and block maps (ext2, ext3), checked.

The formats are those of ``fs/ext4/ext4_extents.h`` and of ext2's twelve direct and three indirect
blocks. Every tree of metadata blocks is walked with its order enforced, so that one that leads back
into itself is found instead of followed.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from lamella.fs.ext4.superblock import crc32c

if TYPE_CHECKING:
    from lamella.fs.ext4.read_inode import Inode, OnDisk

_MAGIC: Final = 0xF30A
_MAX_DEPTH: Final = 5
_UNWRITTEN: Final = 32768
_HEADER: Final = Struct("<HHHHI")
_EXTENT: Final = Struct("<IHHI")
_INDEX: Final = Struct("<IIHH")


class Run(NamedTuple):
    """Blocks of a file that follow each other on the device."""

    logical: int
    """First block in the file."""
    physical: int
    """First block on the device."""
    length: int
    """In blocks."""


class BlockMap(NamedTuple):
    """All of an inode's blocks."""

    runs: list[Run]
    """In the file's order, neighbours joined; holes and unwritten extents left out: they read as zeros."""
    nodes: list[int]
    """The metadata blocks in which the map itself lies."""


def block_map(disk: OnDisk, inode: Inode) -> BlockMap:
    """The blocks of an inode whose data is not inline. Raises :class:`CorruptError`."""
    if inode.has_extents:
        return _Extents(disk, inode).result
    return _Indirect(disk, inode).result


class _Extents:
    def __init__(self, disk: OnDisk, inode: Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._what = f"inode {inode.number}"
        self._next = 0
        self.result = BlockMap([], [])
        self._node(inode.block, None)

    def _node(self, data: bytes, depth_wanted: int | None) -> None:
        magic, count, most, depth, _ = _HEADER.unpack_from(data)
        room = (len(data) - 12) // 12
        if (
            magic != _MAGIC
            or count > most
            or most > room
            or depth > _MAX_DEPTH
            or (depth_wanted is not None and depth != depth_wanted)
        ):
            raise self._disk.corrupt(f"{self._what} has a bad extent header")
        if depth_wanted is not None and self._disk.checksummed:
            tail = 12 + 12 * most
            stored = int.from_bytes(data[tail : tail + 4], "little")
            if tail + 4 > len(data) or crc32c(self._inode.seed, data[:tail]) != stored:
                raise self._disk.corrupt(f"{self._what} has an extent block that fails its checksum")
        for at in range(12, 12 + 12 * count, 12):
            if depth:
                logical, low, high, _ = _INDEX.unpack_from(data, at)
                if logical < self._next:
                    raise self._disk.corrupt(f"{self._what} has extents out of order at its block {logical}")
                block = low | high << 32
                before = self._next
                # Each child must bring its extents further on in the file; so none is ever met twice.
                self.result.nodes.append(block)
                self._node(self._disk.read_block(block, self._what), depth - 1)
                if self._next == before:
                    raise self._disk.corrupt(f"{self._what} has an empty extent block {block}")
                continue
            logical, length, high, low = _EXTENT.unpack_from(data, at)
            unwritten = length > _UNWRITTEN
            if unwritten:
                length -= _UNWRITTEN
            if not length or logical < self._next:
                raise self._disk.corrupt(f"{self._what} has an impossible extent at its block {logical}")
            self._next = logical + length
            physical = low | high << 32
            self._disk.check_blocks(physical, length, self._what)
            if not unwritten:
                _append(self.result.runs, logical, physical, length)


class _Indirect:
    """Block maps: pointers of 32 bits, 0 for a hole, through up to three levels of blocks of pointers."""

    def __init__(self, disk: OnDisk, inode: Inode) -> None:
        self._disk = disk
        self._what = f"inode {inode.number}"
        self._per_block = disk.block_size // 4
        self._seen: set[int] = set()
        self._end = -(-inode.size // disk.block_size)
        self.result = BlockMap([], [])
        pointers = np.frombuffer(inode.block, "<u4")
        if not inode.size:
            return
        self._leaf(pointers[:12], 0)
        logical = 12
        for level in (1, 2, 3):
            if pointers[11 + level]:
                self._level(int(pointers[11 + level]), level, logical)
            logical += int(self._per_block**level)

    def _level(self, block: int, level: int, logical: int) -> None:
        if block in self._seen:
            raise self._disk.corrupt(f"{self._what} uses its indirect block {block} twice")
        self._seen.add(block)
        self.result.nodes.append(block)
        pointers = np.frombuffer(self._disk.read_block(block, self._what), "<u4")
        if level == 1:
            self._leaf(pointers, logical)
            return
        step = self._per_block ** (level - 1)
        for index in np.flatnonzero(pointers).tolist():
            self._level(int(pointers[index]), level - 1, logical + index * step)

    def _leaf(self, pointers: np.ndarray[tuple[int], np.dtype[np.uint32]], logical: int) -> None:
        used = np.flatnonzero(pointers)
        used = used[used < self._end - logical]
        if not used.size:
            return
        blocks = pointers[used].astype(np.int64)
        breaks = np.flatnonzero((np.diff(used) != 1) | (np.diff(blocks) != 1)) + 1
        starts = np.concatenate(([0], breaks))
        lengths = np.diff(np.concatenate((starts, [used.size])))
        firsts = zip(used[starts].tolist(), blocks[starts].tolist(), lengths.tolist(), strict=True)
        for index, physical, length in firsts:
            self._disk.check_blocks(physical, length, self._what)
            _append(self.result.runs, logical + index, physical, length)


def _append(runs: list[Run], logical: int, physical: int, length: int) -> None:
    if runs:
        last = runs[-1]
        if last.logical + last.length == logical and last.physical + last.length == physical:
            runs[-1] = Run(last.logical, last.physical, last.length + length)
            return
    runs.append(Run(logical, physical, length))
