# SPDX-License-Identifier: Apache-2.0
"""A block device over a plain (sparse) file or a raw block device."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from typing import TYPE_CHECKING

from lamella.block import system
from lamella.block.atomic_file import sync_directory
from lamella.block.device import SECTOR, BlockDevice
from lamella.block.udev_lock import lock_beside_udev
from lamella.errors import BusyError, DeviceIOError, ReadOnlyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

IOV_MAX = 1024
DIRECT_ALIGNMENT = 4096
MERGE_LIMIT = 8 << 20
"""Most bytes in one merged request: larger ones gain nothing and hold memory."""


def _bounce(length: int) -> memoryview:
    """Memory for a direct request, which begins at a page. It goes with its last view: one that an error's
    traceback still holds would keep it from being closed."""
    return memoryview(mmap.mmap(-1, max(length, 1)))


class FileDevice(BlockDevice):
    """A file or block device, opened once and locked for as long as it is open.

    Writers hold an exclusive ``flock`` (and ``O_EXCL`` on block devices, which the kernel refuses
    while the device is mounted or part of device-mapper); readers hold a shared one. So two
    programs never write the same pool, and a reader never sees a pool change under it.

    Parameters: *path*; *read_only*; *direct* bypasses the page cache (requests are then aligned to
    4096 bytes through a bounce buffer); *lock* False leaves locking to the caller.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        direct: bool = False,
        lock: bool = True,
    ) -> None:
        self.path = os.fspath(path)
        self.name = self.path
        self.read_only = read_only
        self.direct = direct
        self._descriptor = -1
        with system.explaining("open", self.path):
            mode = os.stat(self.path).st_mode
        self.is_block_device = stat.S_ISBLK(mode)
        if not (self.is_block_device or stat.S_ISREG(mode)):
            raise UsageError(f"{self.path} is neither a file nor a block device", hint="give one of these")
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
        if direct:
            flags |= os.O_DIRECT
        if self.is_block_device and lock and not read_only:
            flags |= os.O_EXCL
        try:
            self._descriptor = os.open(self.path, flags)
            if lock:
                self._lock()
            self.size = self._measure()
            self._unit = system.logical_block_size(self._descriptor) if self.is_block_device else 1
        except OSError as error:
            self.close()
            raise system.explain(error, "open", self.path) from error
        except BaseException:
            self.close()
            raise
        if direct:
            self._unit = max(self._unit, DIRECT_ALIGNMENT)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], size: int, *, direct: bool = False, lock: bool = True
    ) -> FileDevice:
        """Make a new sparse file of exactly *size* bytes (mode 0600) and open it. It must not exist."""
        name = os.fspath(path)
        if size <= 0:
            raise UsageError(f"cannot create {name} with {size} bytes", hint="give a size above zero")
        with system.explaining("create", name):
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            except BaseException:
                os.unlink(name)
                raise
            finally:
                os.close(descriptor)
            sync_directory(os.path.dirname(name) or ".")
        return cls(name, direct=direct, lock=lock)

    def _measure(self) -> int:
        if self.is_block_device:
            return system.block_device_size(self._descriptor)
        return os.fstat(self._descriptor).st_size

    def _lock(self) -> None:
        if self.is_block_device and not self.read_only:
            lock_beside_udev(self._descriptor, self.path)
            return
        how = fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"{self.path} is in use by another program", hint="wait for it to finish, or stop it"
            ) from error

    def fileno(self) -> int:
        """The open descriptor, for callers that hand the file to the kernel."""
        return self._descriptor

    # -- reading ---------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        self.check_range(offset, length)
        if not self.direct:
            try:
                data = os.pread(self._descriptor, length, offset)
            except OSError as error:
                raise system.explain(error, f"read {length} bytes at {offset} of", self.name) from error
            if len(data) == length:
                return data
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        self.check_range(offset, len(view))
        if self.direct:
            start, end = self._outward(offset, len(view))
            whole = _bounce(end - start)
            self._read_fully(start, whole[: min(end, self.size) - start])
            view[:] = whole[offset - start : offset - start + len(view)]
            return
        self._read_fully(offset, view)

    def _read_fully(self, offset: int, view: memoryview) -> None:
        done = 0
        try:
            while done < len(view):
                got = os.preadv(self._descriptor, [view[done:]], offset + done)
                if got == 0:
                    raise DeviceIOError(
                        f"cannot read {self.name}: it ends at {offset + done}, before its {self.size} bytes",
                        hint="it was truncated while open; restore it from a copy",
                    )
                done += got
        except OSError as error:
            raise system.explain(error, f"read {len(view)} bytes at {offset} of", self.name) from error

    # -- writing ---------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError(f"{self.name} is open for reading only", hint="open it for writing")

    def write(self, offset: int, data: Buffer) -> None:
        self._check_writable()
        view = memoryview(data).cast("B")
        self.check_range(offset, len(view))
        if self.direct:
            start, end = self._outward(offset, len(view))
            whole = _bounce(end - start)
            if start != offset or end != offset + len(view):
                self._read_fully(start, whole[: min(end, self.size) - start])
            whole[offset - start : offset - start + len(view)] = view
            self._write_fully(start, [whole[: min(end, self.size) - start]])
            return
        self._write_fully(offset, [view])

    def write_many(self, pieces: Iterable[tuple[int, Buffer]]) -> None:
        self._check_writable()
        ordered = sorted(
            ((offset, memoryview(data).cast("B")) for offset, data in pieces), key=lambda p: p[0]
        )
        run: list[memoryview] = []
        start = end = 0
        for offset, view in ordered:
            self.check_range(offset, len(view))
            if self.direct:
                self.write(offset, view)
                continue
            if run and (offset != end or len(run) == IOV_MAX or end - start >= MERGE_LIMIT):
                self._write_fully(start, run)
                run = []
            if not run:
                start = offset
            run.append(view)
            end = offset + len(view)
        if run:
            self._write_fully(start, run)

    def _write_fully(self, offset: int, views: list[memoryview]) -> None:
        try:
            while views:
                put = os.pwritev(self._descriptor, views, offset)
                offset += put
                while views and put >= len(views[0]):
                    put -= len(views[0])
                    views = views[1:]
                if views and put:
                    views = [views[0][put:], *views[1:]]
        except OSError as error:
            raise system.explain(error, f"write at {offset} of", self.name) from error

    def flush(self) -> None:
        if self.read_only:
            return
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise system.explain(error, "flush", self.name) from error

    # -- giving space back -----------------------------------------------------------------------

    @property
    def discard_zeroes(self) -> bool:
        return not self.is_block_device

    def discard(self, offset: int, length: int) -> None:
        """Punch a hole in a file, or BLKDISCARD whole logical blocks of a device.

        A file system or device that cannot is no error: discarding is advice. But a hole that a
        file refuses is written as zeros, because a file promises ``discard_zeroes``.
        """
        self._check_writable()
        self.check_range(offset, length)
        if not length:
            return
        try:
            if self.is_block_device:
                start, end = self._inward(offset, length)
                if end > start:
                    system.discard_blocks(self._descriptor, start, end - start)
            else:
                system.punch_hole(self._descriptor, offset, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS):
                raise system.explain(error, "discard part of", self.name) from error
            if not self.is_block_device:
                super().write_zeros(offset, length)

    def write_zeros(self, offset: int, length: int) -> None:
        self._check_writable()
        self.check_range(offset, length)
        if not self.is_block_device:
            self.discard(offset, length)
            return
        start, end = self._inward(offset, length)
        if end <= start:
            super().write_zeros(offset, length)
            return
        super().write_zeros(offset, start - offset)
        try:
            system.zero_blocks(self._descriptor, start, end - start)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
                raise system.explain(error, "zero part of", self.name) from error
            super().write_zeros(start, end - start)
        super().write_zeros(end, offset + length - end)

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """As the base class says; a file's holes are left out (SEEK_DATA, SEEK_HOLE)."""
        end = self.size if length is None else offset + length
        if self.is_block_device:
            if end > offset:
                yield offset, end - offset
            return
        with system.explaining("find the data in", self.name):
            yield from system.data_ranges(self._descriptor, offset, end)

    # -- shape -----------------------------------------------------------------------------------

    def _outward(self, offset: int, length: int) -> tuple[int, int]:
        """The range widened to whole units."""
        unit = self._unit
        return offset // unit * unit, -(-(offset + length) // unit) * unit

    def _inward(self, offset: int, length: int) -> tuple[int, int]:
        """The whole units inside the range."""
        unit = max(self._unit, SECTOR)
        return -(-offset // unit) * unit, (offset + length) // unit * unit

    def resize(self, size: int) -> None:
        """Make a file larger or smaller (sparse); the new size of a block device is only read."""
        self._check_writable()
        with system.explaining("resize", self.name):
            if not self.is_block_device:
                os.ftruncate(self._descriptor, size)
                os.fsync(self._descriptor)
            self.size = self._measure()
        if self.size < size:
            raise UsageError(f"{self.name} has {self.size} bytes, not {size}", hint="grow the device first")

    def measure(self) -> None:
        """Read the size again, where something else may have changed it."""
        with system.explaining("measure", self.name):
            self.size = self._measure()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
