# SPDX-License-Identifier: Apache-2.0
"""The few Linux calls that Python's ``os`` lacks, and what an ``OSError`` means to a user.

Request numbers are those of ``linux/fs.h``; fallocate's flags those of ``linux/falloc.h``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from lamella.errors import (
    BusyError,
    DeviceIOError,
    ExistsError,
    LamellaError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    UsageError,
)

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator

BLKGETSIZE64 = 0x80081272
BLKSSZGET = 0x1268
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F
FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02


@cache
def _libc() -> ctypes.CDLL:
    import ctypes  # most commands never need it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    libc.fallocate.restype = ctypes.c_int
    return libc


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    """Deallocate a range of a file; it then reads as zeros. Raises ``OSError``."""
    import ctypes

    if _libc().fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def data_ranges(descriptor: int, offset: int, end: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of what a file stores from *offset* to *end*, holes left out. Raises ``OSError``."""
    while offset < end:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if start >= end:
            return
        offset = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
        if start < offset:
            yield start, offset - start


def block_device_size(descriptor: int) -> int:
    """Size in bytes of an open block device. Raises ``OSError``."""
    answer = fcntl.ioctl(descriptor, BLKGETSIZE64, bytes(8))
    return int(struct.unpack("=Q", answer)[0])


def logical_block_size(descriptor: int) -> int:
    """Smallest unit in bytes that an open block device reads or writes. Raises ``OSError``."""
    answer = fcntl.ioctl(descriptor, BLKSSZGET, bytes(4))
    return int(struct.unpack("=I", answer)[0])


def discard_blocks(descriptor: int, offset: int, length: int) -> None:
    """BLKDISCARD; both numbers in bytes and multiples of the logical block size. Raises ``OSError``."""
    fcntl.ioctl(descriptor, BLKDISCARD, struct.pack("=QQ", offset, length))


def zero_blocks(descriptor: int, offset: int, length: int) -> None:
    """BLKZEROOUT; both numbers in bytes and multiples of the logical block size. Raises ``OSError``."""
    fcntl.ioctl(descriptor, BLKZEROOUT, struct.pack("=QQ", offset, length))


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data* where the file stands. Raises ``OSError``; part of it may be written then."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def explain(error: OSError, doing: str, name: str) -> LamellaError:
    """The :class:`LamellaError` that stands for *error*, met while *doing* something to *name*."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    message = f"cannot {doing} {name}: {reason}"
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ENXIO:
            return NotFoundError(message, hint="check the path")
        case errno.EACCES | errno.EPERM:
            return PermissionDeniedError(message, hint="run as the owner of the file, or as root")
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return NoSpaceError(message, hint="free some space on its file system, then try again")
        case errno.EROFS:
            return ReadOnlyError(message, hint="the file system or device is read-only; make it writable")
        case errno.EBUSY | errno.EAGAIN | errno.ETXTBSY:
            return BusyError(message, hint="another program uses it; stop that first (see lsof or lsblk)")
        case errno.EEXIST:
            return ExistsError(message, hint="choose another name, or remove it first")
        case errno.EISDIR:
            return UsageError(message, hint="give a file or a block device")
        case errno.ENAMETOOLONG | errno.ELOOP:
            return UsageError(message, hint="give a shorter path with fewer links")
        case errno.EMFILE | errno.ENFILE:
            return BusyError(message, hint="too many files are open; allow more, as with: ulimit -n 1024")
        case errno.EBADF:
            return DeviceIOError(message, hint="it was closed before Lamella started")
    return DeviceIOError(message, hint="look at the kernel's log (dmesg) for the device's state")


@contextmanager
def explaining(doing: str, name: str) -> Iterator[None]:
    """Raise an ``OSError`` of the block as what :func:`explain` makes of it.

    Not that a pipe's reader is gone: who writes to a pipe that was closed ends silently, as by SIGPIPE.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise explain(error, doing, name) from error
