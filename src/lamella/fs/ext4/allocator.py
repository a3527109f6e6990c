# SPDX-License-Identifier: Apache-2.0
"""Allocation of blocks and inodes, so that what is written together lies together.

What is free is in libext2fs's bitmaps. Blocks are taken from them in *windows* of a few MiB and handed out
from the window in order, so that a layer's files follow each other on the device whatever directory
they are in: few chunks of the thin pool below are touched. Inodes are handed out lowest first.

Freed blocks are not reused before :meth:`Blocks.release_freed`, so that they can be discarded.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import numpy as np

from lamella.block.ranges import merged
from lamella.errors import NoSpaceError
from lamella.fs.ext4 import library as ext2
from lamella.fs.ext4.io_manager import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.fs.ext4.filesystem import Ext4

WINDOW_BYTES: Final = 8 << 20
LARGEST_WINDOW_BYTES: Final = 64 << 20
DISCARD_UNIT: Final = 64 << 10
"""Smallest piece in bytes worth discarding: the smallest chunk of a thin pool."""
PENDING_LIMIT: Final = 100_000
_SEGMENT: Final = 1 << 22
"""Blocks whose bitmap is looked at in one go."""


class Blocks:
    """The free blocks of an open file system."""

    def __init__(self, filesystem: Ext4) -> None:
        self._filesystem = filesystem
        self._library = filesystem.library
        self._window = WINDOW_BYTES // filesystem.block_size
        self._largest = LARGEST_WINDOW_BYTES // filesystem.block_size
        self._next = 0
        self._end = 0
        self._runs = self._search()
        self._short: list[tuple[int, int]] = []
        self._run = (0, 0)
        self._pending: list[tuple[int, int]] = []
        self._freed: list[tuple[int, int]] = []
        self.taken = 0
        """Blocks handed out so far."""

    def take(self, count: int) -> list[tuple[int, int]]:
        """*count* blocks as (first, length) runs, mostly one. Raises :class:`NoSpaceError`."""
        start = self._next
        if start + count <= self._end:
            self._next = start + count
            self.taken += count
            return [(start, count)]
        runs: list[tuple[int, int]] = []
        missing = count
        try:
            while missing:
                if self._next == self._end:
                    self._refill(missing)
                length = min(missing, self._end - self._next)
                runs.append((self._next, length))
                self._next += length
                missing -= length
        except BaseException:
            for first, length in runs:
                self.free(first, length)
            raise
        self.taken += count
        return runs

    def take_one(self) -> int:
        """One block."""
        return self.take(1)[0][0]

    def free(self, first: int, length: int) -> None:
        """Free a run, not to be reused before :meth:`release_freed`."""
        self._pending.append((first, length))
        if len(self._pending) >= PENDING_LIMIT:
            self.release_freed()

    def release_freed(self) -> None:
        """Mark everything freed since the last call as free, for reuse."""
        filesystem = self._filesystem
        if not self._pending:
            return
        for first, length in merged(sorted(self._pending)):
            filesystem.channel.forget(first * filesystem.block_size, length * filesystem.block_size)
            self._library.block_alloc_stats_range(filesystem.handle, first, length, -1)
            self._freed.append((first, length))
        self._pending.clear()
        if len(self._freed) > PENDING_LIMIT:
            self._freed = list(merged(sorted(self._freed)))

    def close_window(self) -> None:
        """Free what is left of the window."""
        if self._end > self._next:
            length = self._end - self._next
            self._library.block_alloc_stats_range(self._filesystem.handle, self._next, length, -1)
        self._next = self._end = 0
        self._runs, self._short, self._run = self._search(), [], (0, 0)

    def discard_freed(self) -> int:
        """Discard on the device what was freed and is free now, in whole units; returns the bytes."""
        filesystem = self._filesystem
        size = filesystem.block_size
        step = max(1, DISCARD_UNIT // size)
        total = 0
        units: set[int] = set()
        for first, length in self._freed:
            units.update(range(first // step, -(-(first + length) // step)))
            if len(units) > PENDING_LIMIT * 10:
                total += self._discard_units(sorted(units), step)
                units.clear()
        total += self._discard_units(sorted(units), step)
        self._freed.clear()
        return total

    def _discard_units(self, units: list[int], step: int) -> int:
        filesystem = self._filesystem
        free: list[tuple[int, int]] = []
        for unit in units:
            first = unit * step
            if first < int(filesystem.super.first_data_block) + 1 or first + step > filesystem.blocks_count:
                continue
            if self._is_free(first, step):
                free.append((first, step))
        total = 0
        for first, length in merged(sorted(free)):
            filesystem.channel.forget(first * filesystem.block_size, length * filesystem.block_size)
            filesystem.device.discard(first * filesystem.block_size, length * filesystem.block_size)
            total += length * filesystem.block_size
        return total

    def _refill(self, missing: int) -> None:
        """Get a new window: the next part of a long free run, or else the longest run that is left."""
        want = min(max(missing, self._window), self._largest)
        for _ in range(3):
            first, length = self._next_run()
            length = min(length, want)
            if length and self._is_free(first, length):
                break
            # Nothing is left, or the library has taken blocks there itself: search again.
            self.release_freed()
            self._runs, self._short, self._run = self._search(), [], (0, 0)
        else:
            raise NoSpaceError(
                f"the ext4 file system in {self._filesystem.name} is full: "
                f"all its {self._filesystem.blocks_count} blocks are in use",
                hint="make it larger (dm.basesize, or --size of a container)",
            )
        self._library.block_alloc_stats_range(self._filesystem.handle, first, length, 1)
        self._next, self._end = first, first + length
        self._run = (first + length, self._run[1] - length)

    def _next_run(self) -> tuple[int, int]:
        """The current free run, or the next; its length is 0 when there is none."""
        if not self._run[1]:
            run = next(self._runs, None)
            if run is None and self._short:
                run = self._short.pop()
            self._run = run or (0, 0)
        return self._run

    def _is_free(self, first: int, length: int) -> bool:
        return bool(self._library.test_block_bitmap_range2(self._filesystem.fields.block_map, first, length))

    def _search(self) -> Iterator[tuple[int, int]]:
        """All free runs of at least a window, in order; shorter ones go to ``_short``, longest last."""
        filesystem = self._filesystem
        start = int(filesystem.super.first_data_block)
        while start < filesystem.blocks_count:
            count = min(_SEGMENT, filesystem.blocks_count - start)
            bits = ctypes.create_string_buffer(count // 8 + 1)
            code = self._library.get_block_bitmap_range2(filesystem.fields.block_map, start, count, bits)
            filesystem.check(code, "read the block bitmap of")
            used = np.unpackbits(np.frombuffer(bits.raw, dtype=np.uint8), bitorder="little")[:count]
            edges = np.flatnonzero(np.diff(used, prepend=1, append=1))
            for first, stop in edges.reshape(-1, 2).tolist():
                if stop - first >= self._window:
                    yield start + first, stop - first
                else:
                    self._short.append((start + first, stop - first))
            start += count
        self._short.sort(key=lambda run: run[1])


class Inodes:
    """The free inodes of an open file system."""

    def __init__(self, filesystem: Ext4) -> None:
        self._filesystem = filesystem
        self._library = filesystem.library
        self._group = 0
        self._free: list[int] = []
        self._wrapped = False
        self._per_block = filesystem.block_size // filesystem.inode_size
        self._used_to = 0
        """In the current group: index of the first inode whose table block has never been used."""
        self._fresh = bytearray(-(-filesystem.inodes_count // 8) + 1)

    def take(self, *, directory: bool) -> int:
        """A free inode's number, marked as used. Raises :class:`NoSpaceError`."""
        while not self._free:
            self._next_group()
        number = self._free.pop()
        index = (number - 1) % self._filesystem.inodes_per_group
        if index >= self._used_to:
            self._begin_table_block(index)
        self._library.inode_alloc_stats2(self._filesystem.handle, number, 1, int(directory))
        self._fresh[number >> 3] |= 1 << (number & 7)
        return number

    def free(self, number: int, *, directory: bool) -> None:
        """Free an inode."""
        self._library.inode_alloc_stats2(self._filesystem.handle, number, -1, int(directory))
        self._fresh[number >> 3] &= ~(1 << (number & 7))

    def is_fresh(self, number: int) -> bool:
        """Whether this allocator has handed it out (so it is of this session, not of a lower layer)."""
        return bool(self._fresh[number >> 3] & 1 << (number & 7))

    def _begin_table_block(self, index: int) -> None:
        """Zero the table block of the first inode in it; with descriptor checksums nothing has yet."""
        filesystem = self._filesystem
        last = index // self._per_block
        first = -(-self._used_to // self._per_block)
        place = filesystem.inode_tables[self._group]
        for block in range(first, last + 1):
            offset = (place + block) * filesystem.block_size
            if filesystem.block_size == PAGE:
                filesystem.channel.edit(offset // PAGE, new=True)
            else:
                filesystem.channel.write(offset, bytes(filesystem.block_size))
        self._used_to = (last + 1) * self._per_block

    def _next_group(self) -> None:
        """Collect the free inodes of the next group that has any, lowest last."""
        filesystem, library = self._filesystem, self._library
        per_group = filesystem.inodes_per_group
        while self._group < len(filesystem.inode_tables):
            group = self._group
            if not library.bg_free_inodes_count(filesystem.handle, group):
                self._group += 1
                continue
            bits = ctypes.create_string_buffer(per_group // 8 + 1)
            code = library.get_inode_bitmap_range2(
                filesystem.fields.inode_map, group * per_group + 1, per_group, bits
            )
            filesystem.check(code, "read the inode bitmap of")
            used = np.unpackbits(np.frombuffer(bits.raw, dtype=np.uint8), bitorder="little")[:per_group]
            free = np.flatnonzero(used == 0)
            if group == 0:
                free = free[free >= filesystem.first_inode - 1]
            if not free.size:
                self._group += 1
                continue
            self._free = (free[::-1] + (group * per_group + 1)).tolist()
            self._used_to = per_group
            if filesystem.super.has_group_csum:
                unused = library.bg_itable_unused(filesystem.handle, group)
                if library.bg_flags(filesystem.handle, group) & ext2.BG_INODE_UNINIT:
                    unused = per_group
                self._used_to = -(-(per_group - unused) // self._per_block) * self._per_block
            return
        if self._wrapped:
            raise NoSpaceError(
                f"the ext4 file system in {filesystem.name} has no free inode left of its "
                f"{filesystem.inodes_count}",
                hint="make it larger, or with more inodes (dm.mkfsarg=-i 8192)",
            )
        self._wrapped = True  # once more from the start: some may have been freed
        self._group = 0
