# SPDX-License-Identifier: Apache-2.0
"""One block device as a regular file: its attributes, and the requests that need the device."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from lamella import clock
from lamella.block import FileDevice
from lamella.services.fuse import protocol
from lamella.services.fuse.failures import Failures, Refused
from lamella.thin.engine.volume import Volume
from lamella.thin.interface import ThinVolume

if TYPE_CHECKING:
    from lamella.block import BlockDevice

_SMALL = 16 << 10
"""Bytes up to which a read that makes its own buffer costs less than one into ours: devices have a short
way for it."""


class ServedFile:
    """A file of the file system. Its methods are called by several threads at once."""

    def __init__(self, node: int, name: str, device: BlockDevice, *, read_only: bool) -> None:
        self.node = node
        self.name = name
        self.device = device
        self.read_only = read_only or device.read_only
        self.failures = Failures(f"file {name} over {device.name}")
        self.changed = clock.now_ns()
        self.openers: dict[int, int] = {}
        """The thread that opened it, by open handle."""

    @property
    def attributes(self) -> protocol.Attributes:
        """What stat(2) shows."""
        mode = stat.S_IFREG | (0o400 if self.read_only else 0o600)
        size = self.device.size
        return protocol.Attributes(self.node, mode, size, min(self._allocated(), size), self.changed)

    def _allocated(self) -> int:
        """Bytes that are allocated to it, as far as the device knows without looking for them."""
        device = self.device
        if isinstance(device, Volume):
            return device.mapped_chunks * device.chunk_size
        if isinstance(device, FileDevice) and not device.is_block_device:
            return os.fstat(device.fileno()).st_blocks * 512
        return device.size

    @property
    def unit(self) -> int:
        """Bytes that are allocated together. The loop driver discards in these units."""
        return self.device.chunk_size if isinstance(self.device, ThinVolume) else protocol.PAGE

    def read(self, offset: int, size: int, buffer: memoryview) -> bytes | memoryview:
        """Up to *size* bytes from *offset*, none at the end; in *buffer*, or elsewhere if that is cheaper."""
        device = self.device
        if offset + size > device.size:
            size = device.size - offset
            if size <= 0:
                return b""
        if size <= _SMALL:
            return device.read(offset, size)
        view = buffer[:size]
        device.read_into(offset, view)
        return view

    def write(self, offset: int, data: memoryview) -> int:
        """How many bytes of *data* were written, fewer at the end. Raises :class:`Refused` beyond it."""
        device = self.device
        if self.read_only:
            raise Refused(errno.EROFS)
        if offset + len(data) > device.size:
            data = data[: max(device.size - offset, 0)]
            if not data:
                raise Refused(errno.EFBIG)
        device.write(offset, data)
        self.changed = clock.now_ns()
        return len(data)

    def zero(self, offset: int, length: int) -> None:
        """Make the range, as far as the file reaches, read as zeros, and give back what it can of it."""
        device = self.device
        length = max(min(length, device.size - offset), 0)
        if not length:
            return
        if device.discard_zeroes:
            device.discard(offset, length)
        else:
            device.write_zeros(offset, length)
        self.changed = clock.now_ns()

    def seek(self, offset: int, whence: int) -> int:
        """Where the next data (``SEEK_DATA``) or hole (``SEEK_HOLE``) begins. Raises :class:`Refused`."""
        size = self.device.size
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise Refused(errno.EINVAL)
        if offset >= size:
            raise Refused(errno.ENXIO)
        start, length = next(iter(self.device.data_ranges(offset)), (size, 0))
        if whence == os.SEEK_HOLE:
            return offset if start > offset else start + length
        if not length:
            raise Refused(errno.ENXIO)
        return start
