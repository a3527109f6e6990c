# SPDX-License-Identifier: Apache-2.0
"""Devices with injected errors, and one that discards all writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block import MemoryDevice
from lamella.errors import DeviceIOError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer


class FailingDevice(MemoryDevice):
    """Memory whose writes fail where :attr:`fails` says so of (offset, length); the rest on demand."""

    fails: Callable[[int, int], bool] | None = None
    fail_reads = False
    fail_flushes = False

    def _error(self, doing: str) -> DeviceIOError:
        return DeviceIOError(f"cannot {doing} {self.name}: Input/output error")

    def write(self, offset: int, data: Buffer) -> None:
        if self.fails is not None and self.fails(offset, memoryview(data).nbytes):
            raise self._error("write")
        super().write(offset, data)

    def read(self, offset: int, length: int) -> bytes:
        if self.fail_reads:
            raise self._error("read")
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        if self.fail_reads:
            raise self._error("read")
        super().read_into(offset, buffer)

    def flush(self) -> None:
        if self.fail_flushes:
            raise self._error("flush")


class NowhereDevice(MemoryDevice):
    """A device of any size that discards writes and reads as zeros."""

    def __init__(self, size: int) -> None:
        super().__init__(0, name="nowhere")
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        self.check_range(offset, length)
        return bytes(length)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        self.check_range(offset, len(view))
        view[:] = bytes(len(view))

    def write(self, offset: int, data: Buffer) -> None:
        self.check_range(offset, memoryview(data).nbytes)

    def write_zeros(self, offset: int, length: int) -> None:
        self.check_range(offset, length)

    def discard(self, offset: int, length: int) -> None:
        self.check_range(offset, length)

    def resize(self, size: int) -> None:
        self.size = size
