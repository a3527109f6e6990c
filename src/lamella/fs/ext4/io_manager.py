# SPDX-License-Identifier: Apache-2.0
"""libext2fs's ``io_manager`` over a :class:`BlockDevice`, with a write-back cache.

The library reads and writes single blocks of metadata, many times over. Here each becomes a page of a
cache in Python; dirty pages reach the device in sorted, merged batches. Code of ours that edits
metadata itself (inodes, directory blocks) uses the same pages, so both always see one truth.

An exception inside a callback cannot cross the C library. It is kept, the library is told "failed", and
:meth:`Channel.check` raises it again, as itself, once the library call has come back.
"""

from __future__ import annotations

import ctypes
from ctypes import string_at
from typing import TYPE_CHECKING, Any, Final

from lamella.errors import CorruptError
from lamella.fs.ext4 import library as ext2

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.block import BlockDevice

PAGE: Final = 4096
"""Bytes in a page of the cache, whatever the file system's block size."""
CACHE_LIMIT: Final = 24 << 20
"""Most bytes that the cache holds before it writes back and drops its oldest half."""
MERGE_LIMIT: Final = 1 << 20
"""Most bytes in one merged write."""


class Channel:
    """An open device as libext2fs sees it: give :attr:`manager` to ``ext2fs_open2``.

    *fresh* promises that nothing on the device means anything yet (a file system is being made): pages
    count as zeros until they have been written. *cache_limit* is in bytes.
    """

    def __init__(self, device: BlockDevice, *, fresh: bool = False, cache_limit: int = CACHE_LIMIT) -> None:
        self.device = device
        self.block_size = 1024
        self.failure: BaseException | None = None
        self._page_limit = max(64, cache_limit // PAGE)
        self._pages: dict[int, bytearray] = {}
        self._dirty: set[int] = set()
        self._written: set[int] | None = set() if fresh else None
        self._abandoned = False
        self._channel = ext2.IoChannel()
        self._name = b"lamella"
        self._callbacks = self._make_callbacks()
        self._manager = ext2.IoManager(
            magic=ext2.ET_MAGIC_IO_MANAGER, name=b"Lamella block device", **self._callbacks
        )
        self.manager = ctypes.addressof(self._manager)

    # -- what our own code uses ------------------------------------------------------------------

    def page(self, number: int, *, new: bool = False) -> bytearray:
        """Page *number* (of :data:`PAGE` bytes) for reading; *new* makes it zeros without reading it.

        Use it before the next call: a page asked for later may push this one out of the cache.
        """
        page = self._pages.get(number)
        if page is None:
            self._make_room()
            page = bytearray(PAGE)
            if not new and (self._written is None or number in self._written):
                start = number * PAGE
                if start + PAGE <= self.device.size:
                    self.device.read_into(start, page)
                else:
                    page[: self.device.size - start] = self.device.read(start, self.device.size - start)
            self._pages[number] = page
        elif new:
            page[:] = bytes(PAGE)
        return page

    def edit(self, number: int, *, new: bool = False) -> bytearray:
        """As :meth:`page`, but for changing: it will be written back."""
        page = self.page(number, new=new)
        self._dirty.add(number)
        return page

    def read(self, offset: int, length: int) -> bytes:
        """*length* bytes from byte *offset* of the device."""
        number, within = divmod(offset, PAGE)
        if within + length <= PAGE:
            return bytes(memoryview(self.page(number))[within : within + length])
        if length >= 4 * PAGE and within == 0 and length % PAGE == 0 and self._written is None:
            self._read_ahead(number, length // PAGE)
        pieces = []
        while length:
            take = min(length, PAGE - within)
            pieces.append(self.page(number)[within : within + take])
            number, within, length = number + 1, 0, length - take
        return b"".join(pieces)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put *data* at byte *offset*; it reaches the device with the next :meth:`write_back`."""
        number, within = divmod(offset, PAGE)
        done, length = 0, len(data)
        while done < length:
            take = min(length - done, PAGE - within)
            if take == PAGE:
                page = self._pages.get(number)
                if page is None:
                    self._make_room()
                    self._pages[number] = bytearray(data[done : done + PAGE])
                else:
                    page[:] = data[done : done + PAGE]
                self._dirty.add(number)
            else:
                self.edit(number)[within : within + take] = data[done : done + take]
            done, number, within = done + take, number + 1, 0

    def forget(self, offset: int, length: int) -> None:
        """Drop pages that are about to be overwritten on the device itself, or have been freed.

        What a page at the edge has outside the range (with blocks smaller than a page) is written first.
        """
        end = offset + length
        first, last = offset // PAGE, -(-end // PAGE)
        for edge, partly in ((first, offset % PAGE), (last - 1, end % PAGE)):
            if partly and edge in self._dirty:
                self.device.write(edge * PAGE, self._cut(edge, bytes(self._pages[edge])))
                self._dirty.discard(edge)
                if self._written is not None:
                    self._written.add(edge)
        if last - first > len(self._pages):
            for number in [number for number in self._pages if first <= number < last]:
                del self._pages[number]
                self._dirty.discard(number)
            return
        for number in range(first, last):
            if self._pages.pop(number, None) is not None:
                self._dirty.discard(number)

    def write_back(self) -> None:
        """Write every dirty page to the device, neighbours merged. Does not flush the device."""
        if not self._dirty:
            return
        numbers = sorted(self._dirty)
        pieces: list[tuple[int, bytes | bytearray]] = []
        run: list[bytearray] = []
        start = numbers[0]
        for number in numbers:
            if number != start + len(run) or len(run) * PAGE >= MERGE_LIMIT:
                pieces.append((start * PAGE, self._cut(start, b"".join(run))))
                start, run = number, []
            run.append(self._pages[number])
        pieces.append((start * PAGE, self._cut(start, b"".join(run))))
        self.device.write_many(pieces)
        if self._written is not None:
            self._written |= self._dirty
        self._dirty.clear()

    def abandon(self) -> None:
        """Drop what is dirty without writing it: the change is abandoned."""
        self._abandoned = True
        self._dirty.clear()
        self._pages.clear()

    def check(self) -> None:
        """Raise the exception of a callback since the last check, if there was one."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    # -- inside ----------------------------------------------------------------------------------

    def _cut(self, start: int, data: bytes) -> bytes:
        """*data* for page *start* without what reaches past the end of the device."""
        room = self.device.size - start * PAGE
        return data if len(data) <= room else data[:room]

    def _make_room(self) -> None:
        if len(self._pages) < self._page_limit:
            return
        self.write_back()
        for number in list(self._pages)[: self._page_limit // 2]:
            del self._pages[number]

    def _read_ahead(self, first: int, count: int) -> None:
        """Bring *count* pages in by one read, as far as they are missing."""
        if count > self._page_limit // 4 or any(first + step in self._pages for step in range(count)):
            return
        if (first + count) * PAGE > self.device.size:
            return
        self._make_room()
        data = self.device.read(first * PAGE, count * PAGE)
        for step in range(count):
            self._pages[first + step] = bytearray(data[step * PAGE : (step + 1) * PAGE])

    # -- what libext2fs calls: struct_io_manager in ext2fs/ext2_io.h ----------------------------------

    def _make_callbacks(self) -> dict[str, Any]:
        return {
            "open": ext2.OPEN(self._guarded(self._opened)),
            "close": ext2.CLOSE(self._guarded(self._closed)),
            "set_blksize": ext2.SET_BLKSIZE(self._guarded(self._set_block_size)),
            "read_blk": ext2.TRANSFER(self._guarded(self._read_blocks)),
            "write_blk": ext2.TRANSFER(self._guarded(self._write_blocks)),
            "flush": ext2.FLUSH(self._guarded(self._flushed)),
            "write_byte": ext2.TRANSFER(self._guarded(self._write_bytes)),
            "set_option": ext2.SET_OPTION(self._guarded(_ignore)),  # those of unix_io mean nothing here
            "read_blk64": ext2.TRANSFER64(self._guarded(self._read_blocks)),
            "write_blk64": ext2.TRANSFER64(self._guarded(self._write_blocks)),
            "discard": ext2.RANGE(self._guarded(_ignore)),  # the writer discards what is worth it
            "cache_readahead": ext2.RANGE(self._guarded(_ignore)),
            "zeroout": ext2.RANGE(self._guarded(self._zero_blocks)),
        }

    def _guarded(self, work: Callable[..., None]) -> Callable[..., int]:
        """A callback that keeps an exception for :meth:`check`; ctypes would print it and go on."""

        def call(*arguments: Any) -> int:
            try:
                work(*arguments)
            except BaseException as error:
                if self.failure is None:
                    self.failure = error
                return ext2.ET_SHORT_READ
            return 0

        return call

    def _opened(self, name: bytes, flags: int, result: Any) -> None:
        channel = self._channel
        channel.magic = ext2.ET_MAGIC_IO_CHANNEL
        channel.manager = self.manager
        channel.name = self._name
        channel.block_size = self.block_size
        channel.refcount = 1
        channel.flags = 0
        result[0] = ctypes.addressof(channel)

    def _closed(self, channel: int) -> None:
        self._channel.refcount -= 1
        if self._channel.refcount <= 0:
            self._flushed(channel)

    def _flushed(self, channel: int) -> None:
        if not self._abandoned:
            self.write_back()

    def _set_block_size(self, channel: int, size: int) -> None:
        self.block_size = self._channel.block_size = size

    def _range_of(self, block: int, count: int) -> tuple[int, int]:
        """(offset, length) in bytes; a negative count is a number of bytes (ext2_io.h's convention)."""
        offset, length = block * self.block_size, -count if count < 0 else count * self.block_size
        if offset + length > self.device.size:
            raise CorruptError(
                f"the ext4 file system in {self.device.name} points to byte {offset}, past the device's end",
                hint="run `e2fsck -fn` on it",
            )
        return offset, length

    def _read_blocks(self, channel: int, block: int, count: int, data: int) -> None:
        offset, length = self._range_of(block, count)
        ctypes.memmove(data, self.read(offset, length), length)

    def _write_blocks(self, channel: int, block: int, count: int, data: int) -> None:
        offset, length = self._range_of(block, count)
        if length == PAGE and offset % PAGE == 0:
            number = offset // PAGE
            page = self._pages.get(number)
            if page is not None:
                new = string_at(data, PAGE)
                if page != new:  # the library writes all bitmaps, changed or not
                    page[:] = new
                    self._dirty.add(number)
                return
        self.write(offset, string_at(data, length))

    def _write_bytes(self, channel: int, offset: int, count: int, data: int) -> None:
        self.write(offset, string_at(data, count))

    def _zero_blocks(self, channel: int, block: int, count: int) -> None:
        offset, length = block * self.block_size, count * self.block_size
        if length <= 64 * PAGE:
            self.write(offset, bytes(length))
        else:
            self.forget(offset, length)
            self.device.write_zeros(offset, length)


def _ignore(*_arguments: object) -> None:
    """For calls that are advice only."""
