# SPDX-License-Identifier: Apache-2.0
"""A part of another block device, as a device of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import BlockDevice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer


class Part(BlockDevice):
    """The *length* bytes from *start* of *whole*. Closing it leaves *whole* open."""

    def __init__(self, whole: BlockDevice, start: int, length: int, *, name: str | None = None) -> None:
        whole.check_range(start, length)
        self.whole = whole
        self.start = start
        self.size = length
        self.read_only = whole.read_only
        self.name = name or f"bytes {start} to {start + length} of {whole.name}"

    def read(self, offset: int, length: int) -> bytes:
        self.check_range(offset, length)
        return self.whole.read(self.start + offset, length)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        self.check_range(offset, memoryview(buffer).nbytes)
        self.whole.read_into(self.start + offset, buffer)

    def read_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        self.whole.read_many(self._shifted(requests))

    def write(self, offset: int, data: Buffer) -> None:
        self.check_range(offset, memoryview(data).nbytes)
        self.whole.write(self.start + offset, data)

    def write_many(self, pieces: Iterable[tuple[int, Buffer]]) -> None:
        self.whole.write_many(self._shifted(pieces))

    def _shifted(self, requests: Iterable[tuple[int, Buffer]]) -> Iterator[tuple[int, Buffer]]:
        for offset, buffer in requests:
            self.check_range(offset, memoryview(buffer).nbytes)
            yield self.start + offset, buffer

    def flush(self) -> None:
        self.whole.flush()

    @property
    def discard_zeroes(self) -> bool:
        return self.whole.discard_zeroes

    def discard(self, offset: int, length: int) -> None:
        self.check_range(offset, length)
        self.whole.discard(self.start + offset, length)

    def write_zeros(self, offset: int, length: int) -> None:
        self.check_range(offset, length)
        self.whole.write_zeros(self.start + offset, length)

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        asked = self.size - offset if length is None else length
        self.check_range(offset, asked)
        for start, found in self.whole.data_ranges(self.start + offset, asked):
            yield start - self.start, found
