# SPDX-License-Identifier: Apache-2.0
"""One thin device through the kernel: a block device over its ``/dev/dm-N``.

The node is read and written through its page cache, so that the kernel writes in the background. The cache
lasts as long as the node is open: the kernel drops it at the last close. Opening verifies that the node is
still the device of that name, since a device number may be reused.

A pool with ``skip_block_zeroing``, as Docker makes them, shows what lay in a new chunk before, wherever a
write does not cover it. So with *zero_fresh* this writes zeros over the rest of each chunk that it
provisions, before :meth:`KernelVolume.flush` returns; until then such a rest is never read from the device.
To know which chunks are new it reads the device's mappings once. The device is activated with whole
chunks, so that not even the part of the last chunk past its end keeps old bytes.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.block import FileDevice, holders
from lamella.block.ranges import gaps, merged
from lamella.closing import on_error
from lamella.devicemapper.nodes import QUIET_COOKIE
from lamella.errors import BusyError, ExistsError, NotFoundError, Remedy, UsageError
from lamella.thin.interface import ThinVolume
from lamella.thin.kernel.guard import INTERNAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from lamella.devicemapper.client import DeviceInfo
    from lamella.thin.kernel.active_pool import ActivePool

_ZEROS = bytes(1 << 20)
_PARTIAL_LIMIT = 4096
"""Chunks that are new and not whole yet, at which they are filled up without waiting for a flush."""
_OPENING_TRIES = 50


class KernelVolume(ThinVolume):
    """A thin device that is open. Made by :meth:`lamella.thin.kernel.pool.KernelPool.open_volume`."""

    def __init__(
        self, pool: ActivePool, dev_id: int, size: int, *, read_only: bool, zero_fresh: bool
    ) -> None:
        self.pool = pool
        self.dev_id = dev_id
        self.size = size
        self.read_only = read_only
        self.chunk_size = pool.chunk_size
        self.dm_name = pool.name_of(dev_id)
        self.name = f"thin device {dev_id} of {pool.name}"
        self._pads = zero_fresh and not read_only and not pool.zeroes
        self._chunks = -(-size // self.chunk_size)
        self._mapped: bytearray | None = None
        """For each chunk: whether the device maps it, as far as reads and writes here are concerned."""
        self._partial: dict[int, list[tuple[int, int]]] = {}
        """New chunks that are not whole yet: what was written, as (start, length) in the chunk, in order."""
        self._file: FileDevice | None = None
        self._open()
        with on_error(self.close):
            self._require_mapped()

    # -- opening and closing ---------------------------------------------------------------------

    def _open(self) -> None:
        """Find the device or make it, and open it; another reader may make or remove it meanwhile."""
        for attempt in range(_OPENING_TRIES):
            info = self._active(last=attempt >= _OPENING_TRIES // 2)
            if info is None:
                time.sleep(0.001 * attempt)
                continue
            try:
                file = FileDevice(info.node, read_only=self.read_only, lock=not self.read_only)
            except NotFoundError:
                continue
            except BusyError as error:
                raise BusyError(f"{self.dm_name} is busy", hint="it is mounted or open; see lsblk") from error
            now = self.pool.dm.find(self.dm_name)
            if now is not None and os.makedev(now.major, now.minor) == os.fstat(file.fileno()).st_rdev:
                self._file = file
                return
            file.close()
        raise BusyError(
            f"{self.dm_name} is created and removed repeatedly",
            hint="another program activates and removes it; see dmsetup ls",
        )

    def _active(self, *, last: bool) -> DeviceInfo | None:
        """The device, created if necessary; None while another process is creating or removing it.

        *last*: after so many attempts a half-made device is what a killed process left.
        """
        pool = self.pool
        info = pool.active(self.dev_id)
        if info is not None:
            usable = info.live_table and (self.read_only or not info.read_only)
            if usable:
                return info
            if not (pool.is_internal(info) if info.live_table else last):
                return None
            try:
                pool.dm.remove(self.dm_name, cookie=QUIET_COOKIE)
            except NotFoundError:
                pass
            except BusyError as error:  # a reader, who is soon done; or one who is not
                if last:
                    raise holders.explained(error, info.major, info.minor) from error.__cause__
                return None
        table = [pool.table_for(self.dev_id, self._chunks * self.chunk_size)]
        name, uuid, read_only = self.dm_name, INTERNAL + self.dm_name, self.read_only

        def make() -> DeviceInfo:
            return pool.dm.create_with_table(name, table, uuid, read_only=read_only, cookie=QUIET_COOKIE)

        try:
            return pool.retry_while_suspended(make)
        except (ExistsError, BusyError):
            return None
        except UsageError:  # a pool that has failed takes no devices any more; only dmesg has the reason
            pool.check_usable()
            raise
        except NotFoundError as error:
            raise NotFoundError(
                f"the pool {pool.name} has no thin device {self.dev_id}", steps=[Remedy.SEE_CHECK]
            ) from error

    @property
    def file(self) -> FileDevice:
        """The open node."""
        if self._file is None:
            raise UsageError(f"{self.name} is closed", hint="open it again")
        return self._file

    def fileno(self) -> int:
        """The node's descriptor."""
        return self.file.fileno()

    @contextmanager
    def lent(self) -> Iterator[str]:
        """The node's path, for the kernel to mount or another program to write within the block.

        Within the block the node is not open exclusively, which would prevent a mount.
        """
        self.flush()
        claimed = self.file
        self._file = FileDevice(claimed.path, read_only=self.read_only, lock=False)
        claimed.close()
        self._mapped = None  # the other user provisions chunks that are not known here
        try:
            yield self.file.path
        finally:
            if not self.read_only:
                free = self.file
                self._file = FileDevice(free.path)  # refused if something is still mounted
                free.close()

    def close(self) -> None:
        """Close the node, and remove the device if it was created here and is not open elsewhere.

        Does not fill up new chunks: call :meth:`flush` first if the device is kept.
        """
        if self._file is None:
            return
        self._file.close()
        self._file = None
        info = self.pool.dm.find(self.dm_name)
        if info is None or not self.pool.is_internal(info):
            return
        for attempt in range(5):
            try:
                self.pool.dm.remove(self.dm_name, cookie=QUIET_COOKIE)
                return
            except NotFoundError:
                return
            except BusyError:  # another reader, who will remove it; or a scan (udev)
                time.sleep(0.005 * attempt)

    # -- which chunks are there ------------------------------------------------------------------

    def _load_mapped(self) -> bytearray:
        if self._mapped is None:
            if not self.read_only:
                with self.pool.explaining():
                    self.file.flush()  # what was written is mapped only then
            self._mapped = bytearray(self._chunks)
            keys = self.pool.committed(lambda metadata: metadata.mappings(self.dev_id)[0])
            for chunk in keys.tolist():
                if chunk < self._chunks:
                    self._mapped[chunk] = 1
        return self._mapped

    def _require_mapped(self) -> None:
        """Before a write: which chunks are new has to be known while they are."""
        if self._pads:
            self._load_mapped()

    def _runs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """(first chunk, end) of the runs of mapped chunks from *first* until before *last*."""
        mapped = self._load_mapped()
        at = mapped.find(1, first, last)
        while at >= 0:
            end = mapped.find(0, at, last)
            end = last if end < 0 else end
            yield at, end
            at = mapped.find(1, end, last)

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """As the base class says: the chunks that are mapped."""
        length = self.size - offset if length is None else length
        self.check_range(offset, length)
        end, size = offset + length, self.chunk_size
        for first, last in self._runs(offset // size, -(-end // size)):
            start, stop = max(first * size, offset), min(last * size, end)
            yield start, stop - start

    def _note_write(self, offset: int, length: int) -> None:
        """Remember what a write covers of chunks that are new."""
        mapped, size = self._mapped, self.chunk_size
        if mapped is None or not length:
            return
        end = offset + length
        first, last = offset // size, (end - 1) // size
        if mapped.find(0, first, last + 1) < 0 and not self._partial:
            return
        for chunk in range(first, last + 1):
            known = self._partial.get(chunk)
            if mapped[chunk] and known is None:
                continue
            mapped[chunk] = 1
            if not self._pads:
                continue
            begin = chunk * size
            low = max(offset - begin, 0)
            covered = list(merged(sorted([*(known or ()), (low, min(end - begin, size) - low)])))
            if covered == [(0, size)]:
                self._partial.pop(chunk, None)
            else:
                self._partial[chunk] = covered
        if len(self._partial) > _PARTIAL_LIMIT:
            self._fill_up()

    def _fill_up(self) -> None:
        """Write zeros over what is not written of new chunks."""
        zeros, room = memoryview(_ZEROS), self.file.size
        self.file.write_many(
            (at, zeros[: min(end - at, len(zeros), room - at)])
            for chunk, covered in self._partial.items()
            for start, end in (
                (chunk * self.chunk_size + low, chunk * self.chunk_size + low + length)
                for low, length in gaps(covered, self.chunk_size)
            )
            for at in range(start, min(end, room), len(zeros))
        )
        self._partial.clear()

    # -- reading and writing ---------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        self.check_range(offset, length)
        if not self._partial:
            return self.file.read(offset, length)
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        self.check_range(offset, len(view))
        self.file.read_into(offset, view)
        if not self._partial:
            return
        size, end = self.chunk_size, offset + len(view)
        for chunk in range(offset // size, -(-end // size)):
            covered = self._partial.get(chunk)
            if covered is None:
                continue
            for low, length in gaps(covered, size):
                start, stop = max(chunk * size + low, offset), min(chunk * size + low + length, end)
                if start < stop:
                    view[start - offset : stop - offset] = bytes(stop - start)

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self.check_range(offset, len(view))
        self._require_mapped()
        with self.pool.explaining():
            self.file.write(offset, view)
        self._note_write(offset, len(view))

    def write_many(self, pieces: Iterable[tuple[int, Buffer]]) -> None:
        views = [(offset, memoryview(data).cast("B")) for offset, data in pieces]
        for offset, view in views:
            self.check_range(offset, len(view))
        self._require_mapped()
        with self.pool.explaining():
            self.file.write_many(views)
        for offset, view in views:
            self._note_write(offset, len(view))

    def write_zeros(self, offset: int, length: int) -> None:
        """Whole chunks are unmapped, or left alone where they are; the rest is written."""
        self.check_range(offset, length)
        end, size = offset + length, self.chunk_size
        first, last = -(-offset // size), end // size
        if not self.pool.discards or last <= first:
            self._write_zeros(offset, end)
            return
        self._write_zeros(offset, first * size)
        self.discard(first * size, (last - first) * size)
        self._write_zeros(last * size, end)

    def _write_zeros(self, offset: int, end: int) -> None:
        """Write zeros, but only to what is mapped: the rest reads as zeros."""
        if end <= offset:
            return
        size = self.chunk_size
        for first, last in list(self._runs(offset // size, -(-end // size))):
            start, stop = max(first * size, offset), min(last * size, end)
            for at in range(start, stop, len(_ZEROS)):
                self.write(at, memoryview(_ZEROS)[: min(stop - at, len(_ZEROS))])

    def discard(self, offset: int, length: int) -> None:
        """Unmap the whole chunks in the range. The parts of chunks at its ends are left alone."""
        self.check_range(offset, length)
        size = self.chunk_size
        first, last = -(-offset // size), (offset + length) // size
        if not self.pool.discards or last <= first:
            return
        mapped = self._load_mapped()
        for start, stop in list(self._runs(first, last)):
            self.file.discard(start * size, (stop - start) * size)
            mapped[start:stop] = bytes(stop - start)
        for chunk in [chunk for chunk in self._partial if first <= chunk < last]:
            del self._partial[chunk]

    def discard_all(self) -> None:
        """Unmap everything; for a device that is about to be deleted."""
        end = min(self.pool.mapped_end(self.dm_name), self.file.size)
        step = 1 << 34
        for start in range(0, end, step):
            self.file.discard(start, min(step, end - start))

    def flush(self) -> None:
        """Write what is in the page cache, and have the kernel commit: all of it is durable then."""
        if self.read_only:
            return
        with self.pool.explaining():
            if self._partial:
                self._fill_up()
            self.file.flush()
