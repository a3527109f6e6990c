# SPDX-License-Identifier: Apache-2.0
"""File contents on their way to the device: gathered in one buffer, written in large aligned pieces.

Files whose blocks follow each other share a write, and writes end at multiples of the buffer's size,
so that a chunk of the thin pool below is mostly overwritten whole, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from lamella.fs.ext4.filesystem import Ext4

BUFFER: Final = 2 << 20
"""Bytes; a multiple of every usual chunk size."""


class Source(Protocol):
    """Where a file's bytes come from: fills a buffer, returns how many bytes it gave."""

    def read_into(self, buffer: memoryview, /) -> int: ...


class DataWriter:
    """Writes block runs of file data. Between :meth:`begin` and the end of a run, put all its bytes."""

    def __init__(self, filesystem: Ext4) -> None:
        self._filesystem = filesystem
        self._device = filesystem.device
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self.block_size = filesystem.block_size
        self._zeros = bytes(filesystem.block_size)
        self._start = 0
        self._fill = 0
        self._limit = BUFFER
        self.written = 0
        """Bytes handed to the device so far."""

    def begin(self, block: int) -> None:
        """Go on at *block*: further bytes belong there."""
        offset = block * self._filesystem.block_size
        if offset != self._start + self._fill:
            self.flush()
            self._restart(offset)

    def put(self, source: Source, length: int) -> None:
        """Take *length* bytes from *source*."""
        while length:
            room = self._limit - self._fill
            if not room:
                self.flush()
                room = self._limit
            take = min(room, length)
            fill = self._fill
            got = source.read_into(self._view[fill : fill + take])
            if got != take:
                raise ValueError(f"a payload gave {got} bytes where {take} were promised")
            self._fill = fill + take
            length -= take

    def put_bytes(self, data: bytes) -> None:
        """Take *data*."""
        done = 0
        while done < len(data):
            if self._fill == self._limit:
                self.flush()
            take = min(self._limit - self._fill, len(data) - done)
            self._view[self._fill : self._fill + take] = data[done : done + take]
            self._fill += take
            done += take

    def pad(self, length: int) -> None:
        """Take *length* zeros."""
        while length:
            take = min(length, len(self._zeros))
            self.put_bytes(self._zeros[:take])
            length -= take

    def flush(self) -> None:
        """Write what is gathered to the device."""
        fill = self._fill
        if fill:
            self._filesystem.channel.forget(self._start, fill)
            self._device.write(self._start, self._view[:fill])
            self.written += fill
            self._restart(self._start + fill)

    def _restart(self, offset: int) -> None:
        self._start = offset
        self._fill = 0
        self._limit = BUFFER - offset % BUFFER
