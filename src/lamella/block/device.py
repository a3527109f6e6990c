# SPDX-License-Identifier: Apache-2.0
"""The one interface that every layer of storage offers to the layer above it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from lamella.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

SECTOR = 512
"""Bytes in a sector, the unit in which device-mapper and LVM count."""


class BlockDevice(Closing):
    """A fixed number of bytes that can be read, written, flushed and discarded at byte offsets.

    Offsets and lengths are in bytes. Any offset and length inside the device is accepted;
    implementations with a coarser unit do their own read-modify-write. A request that reaches
    past the end raises ``ValueError`` (it is a caller's bug), never a short read or write. What
    the operating system fails is raised as :class:`lamella.errors.DeviceIOError` or
    :class:`lamella.errors.NoSpaceError`, with the device's name.

    A write is durable only after a later :meth:`flush` has returned.
    """

    name: str
    """What an error message calls the device: its path, or "device 3 of pool X"."""
    size: int
    """Bytes; changes only by an explicit resize."""
    read_only: bool

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly *length* bytes from *offset*."""
        buffer = bytearray(length)
        self.read_into(offset, buffer)
        return bytes(buffer)

    @abstractmethod
    def read_into(self, offset: int, buffer: Buffer) -> None:
        """Fill *buffer* (writable) from *offset*, without an extra copy where possible."""

    @abstractmethod
    def write(self, offset: int, data: Buffer) -> None:
        """Write all of *data* at *offset*."""

    @abstractmethod
    def flush(self) -> None:
        """Return once everything written before is durable."""

    @abstractmethod
    def discard(self, offset: int, length: int) -> None:
        """Deallocate the range. Where the device can, it then reads as zeros (``discard_zeroes``)."""

    def write_many(self, pieces: Iterable[tuple[int, Buffer]]) -> None:
        """Write several (offset, data) pieces; neighbours may be merged into one request.

        No order among the pieces is promised before the next :meth:`flush`.
        """
        for offset, data in pieces:
            self.write(offset, data)

    def read_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        """Fill several (offset, writable buffer) requests."""
        for offset, buffer in requests:
            self.read_into(offset, buffer)

    def write_zeros(self, offset: int, length: int) -> None:
        """Make the range read as zeros, by the cheapest means that the device has."""
        step = 1 << 20
        zeros = bytes(min(step, length))
        while length:
            take = min(step, length)
            self.write(offset, zeros if take == len(zeros) else zeros[:take])
            offset += take
            length -= take

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of ranges that may hold non-zero bytes, in order, not touching.

        Everything else inside the asked range reads as zeros. The default says "all of it".
        """
        end = self.size if length is None else offset + length
        if end > offset:
            yield offset, end - offset

    @property
    def discard_zeroes(self) -> bool:
        """Whether a discarded range is sure to read as zeros."""
        return False

    def close(self) -> None:
        """Close the device. Does not flush; closing twice is harmless."""

    def check_range(self, offset: int, length: int) -> None:
        """Raise ``ValueError`` unless the range lies inside the device."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{self.name}: {length} bytes at {offset} reach outside its {self.size} bytes")
