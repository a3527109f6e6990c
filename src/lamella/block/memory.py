# SPDX-License-Identifier: Apache-2.0
"""A block device in memory: for scratch work and for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import BlockDevice
from lamella.errors import ReadOnlyError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class MemoryDevice(BlockDevice):
    """*size* zero bytes, or the given *content*, held in memory; gone when closed."""

    def __init__(self, size: int | None = None, *, content: bytes = b"", name: str = "memory") -> None:
        self.name = name
        self.size = len(content) if size is None else size
        self.read_only = False
        self.content = bytearray(self.size)
        self.content[: len(content)] = content

    def read(self, offset: int, length: int) -> bytes:
        self.check_range(offset, length)
        return bytes(self.content[offset : offset + length])

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        self.check_range(offset, len(view))
        view[:] = self.content[offset : offset + len(view)]

    def write(self, offset: int, data: Buffer) -> None:
        if self.read_only:
            raise ReadOnlyError(f"{self.name} is open for reading only", hint="open it for writing")
        view = memoryview(data).cast("B")
        self.check_range(offset, len(view))
        self.content[offset : offset + len(view)] = view

    def flush(self) -> None:
        """Nothing to do: memory has no cache to flush."""

    @property
    def discard_zeroes(self) -> bool:
        return True

    def discard(self, offset: int, length: int) -> None:
        self.write(offset, bytes(length))

    def resize(self, size: int) -> None:
        """Make it larger (with zeros) or smaller."""
        if size > self.size:
            self.content.extend(bytes(size - self.size))
        else:
            del self.content[size:]
        self.size = size
