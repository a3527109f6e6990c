# SPDX-License-Identifier: Apache-2.0
"""Where a file's blocks are, by its extent tree (ext4) or its block map (ext2, ext3), and its bytes there.

A block map is that of ext2: twelve direct and three indirect blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella.fs.ext4.extents import MAX_BLOCKS, Run, append, read_extents
from lamella.fs.ext4.inode import EXTENTS_FL, get_flags, inode_seed
from lamella.fs.reader import PIECE, zeros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.block import BlockDevice
    from lamella.fs.ext4.geometry import Geometry
    from lamella.fs.ext4.inode import Inode


class BlockMap(NamedTuple):
    """All of an inode's blocks."""

    runs: list[Run]
    """In the file's order, neighbours joined; holes left out."""
    nodes: list[int]
    """The metadata blocks in which the map itself lies."""


class Claims:
    """Counts the blocks of the inodes that were read, each inode once.

    No two inodes of a sound file system share a block. A damaged one in which thousands of directories or
    files have one map would be read once for each: work that grows with the square of its size.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._pages: dict[int, bytearray] = {}
        self._blocks = 0

    def add(self, number: int, found: BlockMap) -> None:
        """Count inode *number*. Raises :class:`CorruptError` for far more blocks than there are."""
        page, place = divmod(number, _PAGE)
        seen = self._pages.setdefault(page, bytearray(_PAGE))
        if seen[place]:
            return
        seen[place] = 1
        self._blocks += len(found.nodes) + sum(run.length for run in found.runs)
        if self._blocks > 2 * self._geometry.blocks_count:  # twice: a mounted one may change meanwhile
            raise self._geometry.corrupt(
                f"the inodes up to inode {number} have more blocks than it has: some are used more than once"
            )


_PAGE = 4096


def block_map(geometry: Geometry, inode: Inode) -> BlockMap:
    """The blocks with the data of an inode that is not inline. Raises :class:`CorruptError`.

    Left out are unwritten extents, which read as zeros, and of a block map what is past the file's end.
    """
    what = f"inode {inode.number}"
    if inode.has_extents:
        return BlockMap(*read_extents(geometry, what, inode.block, inode.seed, unwritten=False))
    return _Indirect(geometry, what, inode.block, -(-inode.size // geometry.block_size)).result


def allocated_blocks(geometry: Geometry, number: int, raw: bytes | bytearray) -> BlockMap:
    """All blocks that an inode has, given raw, also those that do not hold data (yet)."""
    what, block = f"inode {number}", bytes(raw[40:100])
    if get_flags(raw) & EXTENTS_FL:
        seed = inode_seed(geometry.seed, number, raw)
        return BlockMap(*read_extents(geometry, what, block, seed, unwritten=True))
    return _Indirect(geometry, what, block, MAX_BLOCKS).result


def read_runs(device: BlockDevice, block_size: int, runs: list[Run], start: int, end: int) -> Iterator[bytes]:
    """The bytes *start* to *end* of a file with these runs, in pieces of at most 1 MiB, holes as zeros."""
    position = start
    for run in runs:
        first = run.logical * block_size
        stop = min(first + run.length * block_size, end)
        if stop <= position:
            continue
        yield from zeros(min(first, end) - position)
        position = max(position, first)
        while position < stop:
            take = min(PIECE, stop - position)
            yield device.read(run.physical * block_size + position - first, take)
            position += take
        if position >= end:
            break
    yield from zeros(end - position)


class _Indirect:
    """Block maps: pointers of 32 bits, 0 for a hole, through up to three levels of blocks of pointers."""

    def __init__(self, geometry: Geometry, what: str, block: bytes, end: int) -> None:
        self._geometry = geometry
        self._what = what
        self._per_block = geometry.block_size // 4
        self._seen: set[int] = set()
        self._end = end
        self.result = BlockMap([], [])
        pointers = np.frombuffer(block, "<u4")
        if not end:
            return
        self._leaf(pointers[:12], 0)
        logical = 12
        for level in (1, 2, 3):
            if pointers[11 + level]:
                self._level(int(pointers[11 + level]), level, logical)
            logical += int(self._per_block**level)

    def _level(self, block: int, level: int, logical: int) -> None:
        if block in self._seen:
            raise self._geometry.corrupt(f"{self._what} uses its indirect block {block} twice")
        self._seen.add(block)
        self.result.nodes.append(block)
        pointers = np.frombuffer(self._geometry.read_block(block, self._what), "<u4")
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
            self._geometry.check_blocks(physical, length, self._what)
            append(self.result.runs, logical + index, physical, length)
