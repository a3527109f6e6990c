# SPDX-License-Identifier: Apache-2.0
"""The log that QEMU's ``blklogwrites`` keeps of a disk's requests, and disks as a power cut leaves them.

The format is that of the kernel's dm-log-writes (``Documentation/admin-guide/device-mapper/log-writes.rst``):
the first sector holds a header, then each request has one that describes it, and its data after that.
"""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block import FileDevice

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

SECTOR = 512
ATOM = 4096
"""Bytes that a disk writes whole or not at all (as one with 4 KiB sectors does)."""
MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Request:
    """One request. *offset* and *length* in bytes of the disk; *where*: of its data in the log."""

    offset: int
    length: int
    flags: int
    where: int

    @property
    def is_flush(self) -> bool:
        return bool(self.flags & FLUSH)


class WriteLog:
    """An open log. A request with incomplete data, because QEMU was killed, is left out."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        magic, _, _, sector = struct.unpack("<QQQI", self._file.read(28))
        if magic != MAGIC or sector != SECTOR:
            raise ValueError(f"{path} is no log of blklogwrites with sectors of {SECTOR} bytes")
        self.requests = list(self._read(os.fstat(self._file.fileno()).st_size))

    def _read(self, size: int) -> Iterator[Request]:
        at = SECTOR
        while at + SECTOR <= size:
            self._file.seek(at)
            sector, count, flags, _ = struct.unpack("<QQQQ", self._file.read(32))
            if not count and not flags:
                return  # not written any more
            at += SECTOR
            length = count * SECTOR
            if not flags & DISCARD:
                if at + length > size:
                    return
                yield Request(sector * SECTOR, length, flags, at)
                at += length
            else:
                yield Request(sector * SECTOR, length, flags, -1)

    def data(self, request: Request, start: int = 0, length: int | None = None) -> bytes:
        """The bytes that *request* writes."""
        self._file.seek(request.where + start)
        return self._file.read(request.length - start if length is None else length)

    def close(self) -> None:
        self._file.close()

    def disk_after(self, base: Path, target: Path, count: int, chooser: random.Random) -> int:
        """Make *target* what a cut after *count* requests leaves of the disk that was *base*.

        Everything up to the last flush is there; of what was written after it, *chooser* takes about half, in
        pieces of ``ATOM`` bytes. Gives how many requests were not sure to be there.
        """
        copy_sparse(base, target)
        flushes = [number for number in range(count) if self.requests[number].is_flush]
        sure = flushes[-1] + 1 if flushes else 0
        with FileDevice(target) as disk:
            for number, request in enumerate(self.requests[:count]):
                if number < sure or request.flags & FUA:
                    self._apply(disk, request, 0, request.length)
                    continue
                for start in range(0, request.length, ATOM):
                    if chooser.random() < 0.5:
                        self._apply(disk, request, start, min(ATOM, request.length - start))
        return count - sure

    def _apply(self, disk: FileDevice, request: Request, start: int, length: int) -> None:
        if request.flags & DISCARD:
            disk.discard(request.offset + start, length)
        elif length:
            disk.write(request.offset + start, self.data(request, start, length))


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a disk as a sparse file."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)
