# SPDX-License-Identifier: Apache-2.0
"""A device whose reads are counted, so that work on it can be reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

    from lamella.block.device import BlockDevice


class CountedDevice(Part):
    """All of *whole*, under its name; *read_bytes* is called with the number of bytes of each read."""

    def __init__(self, whole: BlockDevice, read_bytes: Callable[[int], None]) -> None:
        super().__init__(whole, 0, whole.size, name=whole.name)
        self._read_bytes = read_bytes

    def read(self, offset: int, length: int) -> bytes:
        found = super().read(offset, length)
        self._read_bytes(length)
        return found

    def read_into(self, offset: int, buffer: Buffer) -> None:
        super().read_into(offset, buffer)
        self._read_bytes(memoryview(buffer).nbytes)

    def read_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        wanted = list(requests)
        super().read_many(wanted)
        self._read_bytes(sum(memoryview(buffer).nbytes for _, buffer in wanted))
