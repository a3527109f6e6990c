# SPDX-License-Identifier: Apache-2.0
"""An active thin-pool device: its table and status, its messages, its metadata, and the device-mapper
devices of its thin devices.

The kernel writes metadata through buffers of its own, so the page cache of the metadata device may be of
any age: it is read past that cache (``O_DIRECT``). What a superblock refers to is not overwritten before
the next superblock is written; so whatever was read between two readings of the same superblock belongs
together. Where that takes too long, the metadata is held (``reserve_metadata_snap``).
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lamella.block import SECTOR, FileDevice
from lamella.devicemapper.table import Linear, Thin, ThinPool, parse_target, sole_target
from lamella.errors import (
    BusyError,
    CorruptError,
    DeviceIOError,
    ExistsError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    Remedy,
    UnsupportedError,
    UsageError,
)
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.health import Facts, diagnose, diagnose_line
from lamella.thin.interface import MetadataView
from lamella.thin.kernel.guard import INTERNAL, Guard
from lamella.thin.kernel.quick_removal import finish_removal
from lamella.thin.metadata.reader import Metadata
from lamella.thin.status import PoolMode, PoolOptions, parse_status, parse_thin_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.devicemapper.client import DeviceInfo, DeviceMapper
    from lamella.errors import Step
    from lamella.thin.status import PoolStatus

    Answer = TypeVar("Answer")

SUSPEND_TIMEOUT = 10.0
"""Seconds to wait for a command of LVM's that has the pool suspended."""
_LOADS = 8
"""How often a table is loaded that the kernel refuses, over more than a second."""
_TRIES = 8
"""How often metadata that changed while it was read is read again, before it is held."""


def stays_suspended(dm: DeviceMapper, name: str) -> bool:
    """Whether the device called *name* is suspended for long. LVM's commands suspend a pool for a moment:
    ``lvextend``, which dmeventd runs too, and ``vgchange -aay``, which udev runs for disks that come."""
    end = time.monotonic() + SUSPEND_TIMEOUT
    while (info := dm.find(name)) is not None and info.suspended:
        if time.monotonic() > end:
            return True
        time.sleep(0.02)
    return False


class ActivePool:
    """What :class:`lamella.thin.kernel.pool.KernelPool` and its volumes build on: the pool that is active
    as device-mapper device *name*.

    *name_of* gives the device-mapper name for a thin device's id; *guard* excludes other processes of
    Lamella, and records what a killed one leaves.
    """

    def __init__(
        self,
        dm: DeviceMapper,
        name: str,
        *,
        name_of: Callable[[int], str] | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.dm = dm
        self.dm_name, self.target, self.info = _pool_behind(dm, name)
        self.name = self.dm_name
        self.chunk_size = self.target.chunk * SECTOR
        options = PoolOptions.from_features(self.target.features)
        self.zeroes = options.zero
        """Whether the kernel zeroes the rest of a partly written new chunk."""
        self.discards = options.discards != "ignore"
        self._name_of = name_of or (lambda dev_id: f"{self.dm_name}-{dev_id}")
        self.guard = guard or Guard()
        self._sent = False
        """Whether the kernel has said yes to a message since the last commit."""
        self._devices: list[FileDevice] = []

    # -- what it is ------------------------------------------------------------------------------

    def status(self) -> PoolStatus:
        """The pool's state now; the kernel commits first."""
        return self._status(flush=True)

    def check_usable(self) -> None:
        """Raise for a pool whose use would hang or fail, with what to do about it."""
        info = self.dm.info(self.dm_name)
        found = self._status(flush=False)
        state = diagnose(found, replace(self._facts, suspended=info.suspended))
        if info.suspended:
            raise BusyError(f"the pool {self.name} {state.summary}", steps=state.steps)
        if found.mode is PoolMode.FAIL:
            raise DeviceIOError(f"the pool {self.name} {state.summary}", steps=state.steps)

    def _status(self, *, flush: bool) -> PoolStatus:
        return parse_status(self.dm.status(self.dm_name, flush=flush)[0].text)

    @property
    def transaction_id(self) -> int:
        found = self._status(flush=False)
        if found.mode is PoolMode.FAIL:
            raise DeviceIOError(
                f"the pool {self.name} has failed: the kernel could not read its metadata back",
                steps=self._advice(found),
            )
        return found.transaction_id

    @property
    def read_only(self) -> bool:
        return self._status(flush=False).mode >= PoolMode.OUT_OF_METADATA_SPACE

    def name_of(self, dev_id: int) -> str:
        """The device-mapper name that thin device *dev_id* has when it is active."""
        return self._name_of(dev_id)

    # -- messages --------------------------------------------------------------------------------

    def _message(self, text: str, doing: str) -> None:
        try:
            self.dm.message(self.dm_name, text)
        except UnsupportedError as error:
            found = self._status(flush=False)
            kinds = {PoolMode.OUT_OF_METADATA_SPACE: NoSpaceError, PoolMode.FAIL: DeviceIOError}
            raise kinds.get(found.mode, ReadOnlyError)(
                f"cannot {doing}: the pool {self.name} {diagnose(found, self._facts).summary}",
                steps=self._advice(found),
            ) from error
        except BusyError as error:
            raise BusyError(f"cannot {doing}: it is active or open", hint="see lsblk") from error
        except ExistsError as error:
            raise ExistsError(f"cannot {doing}: the device exists already") from error
        except NotFoundError as error:
            raise NotFoundError(f"cannot {doing}: the pool {self.name} has no such device") from error
        self._sent = True

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Errors in the block whose cause is the pool's state, not a disk, say so.

        A writer to a pool that is full or read-only gets no more from the kernel than an I/O error.
        """
        try:
            yield
        except (DeviceIOError, NoSpaceError) as error:
            found = self._status(flush=False)
            if found.mode is PoolMode.WRITE:
                raise
            full = found.mode in (PoolMode.OUT_OF_DATA_SPACE, PoolMode.OUT_OF_METADATA_SPACE)
            raise (NoSpaceError if full else DeviceIOError)(
                f"{error.message}: the pool {self.name} {diagnose(found, self._facts).summary}",
                steps=self._advice(found),
            ) from error

    @property
    def _facts(self) -> Facts:
        return Facts(self.chunk_size, kernel=True)

    def _advice(self, found: PoolStatus) -> tuple[Step, ...]:
        return diagnose(found, self._facts).steps or (Remedy.SEE_LOG_AND_CHECK,)

    def reserve_metadata_snap(self) -> None:
        try:
            self._message("reserve_metadata_snap", "hold the metadata")
        except BusyError as error:
            raise BusyError(
                f"the pool {self.name} holds a metadata snapshot already",
                hint=f"another program reads it; or: dmsetup message {self.name} 0 release_metadata_snap",
            ) from error

    def release_metadata_snap(self) -> None:
        try:
            self._message("release_metadata_snap", "release the metadata")
        except UsageError as error:
            raise NotFoundError(f"the pool {self.name} holds no metadata snapshot") from error

    # -- metadata --------------------------------------------------------------------------------

    def metadata_device(self) -> FileDevice:
        """The metadata device for reading, past the page cache; closed with the pool."""
        return self._opened(self.target.metadata)

    def data_device(self) -> FileDevice:
        """The data device for reading, past the page cache; closed with the pool."""
        return self._opened(self.target.data)

    def _opened(self, number: str) -> FileDevice:
        node = block_node(number)
        for device in self._devices:
            if device.path == node:
                device.measure()  # the pool may have grown meanwhile, by us or by dmeventd
                return device
        device = FileDevice(node, read_only=True, direct=True, lock=False)
        self._devices.append(device)
        return device

    def committed(self, read: Callable[[Metadata], Answer]) -> Answer:
        """What *read* makes of the metadata as last committed; it is called again if that changed."""
        self._status(flush=True)
        device = self.metadata_device()
        for _ in range(_TRIES):
            before = device.read(0, BLOCK_SIZE)
            try:
                answer = read(Metadata.open(device))
            except CorruptError:
                if device.read(0, BLOCK_SIZE) == before:
                    raise
                continue
            if device.read(0, BLOCK_SIZE) == before:
                return answer
        with self.metadata_view() as view:
            return read(Metadata.open(view.device, snapshot=view.snapshot))

    @contextmanager
    def metadata_view(self) -> Iterator[MetadataView]:
        """The metadata held as it is now; of a pool that takes no messages, what cannot change anyway."""
        device = self.metadata_device()
        with self.guard.holding():
            try:
                self.reserve_metadata_snap()
            except (ReadOnlyError, NoSpaceError):
                yield MetadataView(device, snapshot=False)
                return
            try:
                yield MetadataView(device, snapshot=True)
            finally:
                with suppress(NotFoundError, ReadOnlyError, NoSpaceError):
                    self.release_metadata_snap()

    # -- devices ---------------------------------------------------------------------------------

    def table_for(self, dev_id: int, size: int) -> Thin:
        """The table line of thin device *dev_id* with *size* bytes."""
        return Thin(0, size // SECTOR, pool=self.info.number, device_id=dev_id)

    def retry_while_suspended(self, load: Callable[[], Answer]) -> Answer:
        """What *load* returns, which loads a thin device's table: the kernel refuses that with EINVAL while
        the pool is suspended."""
        for attempt in range(_LOADS):
            try:
                return load()
            except UsageError:  # EINVAL
                if stays_suspended(self.dm, self.dm_name):
                    self.check_usable()
            # One that is being suspended is not said to be so before its last request is done.
            time.sleep(0.005 * 2**attempt)
        return load()

    def active(self, dev_id: int) -> DeviceInfo | None:
        """The device-mapper device under the name that *dev_id* has, if it is that device; else None.

        Raises :class:`BusyError` where something else has the name.
        """
        name = self.name_of(dev_id)
        info = self.dm.find(name)
        if info is None or not info.live_table:
            return info
        with suppress(NotFoundError):
            line = self.dm.table(name)[0]
            target = parse_target(line.line)
            if finish_removal(self.dm, info, target):
                return None
            if isinstance(target, Thin) and (target.pool, target.device_id) == (self.info.number, dev_id):
                return info
            raise BusyError(
                f"{name} is active, but is not thin device {dev_id} of {self.name}: {line.line}",
                hint=f"remove it: dmsetup remove {name}",
            )
        return None

    def is_internal(self, info: DeviceInfo) -> bool:
        """Whether the device is there only while a process of Lamella has it open."""
        return info.uuid.startswith(INTERNAL)

    def mapped_end(self, name: str) -> int:
        """End in bytes of the last chunk that the active thin device *name* maps."""
        return parse_thin_status(self.dm.status(name)[0].text).end

    def close(self) -> None:
        """Close the devices that were opened for reading. The pool stays active."""
        for device in self._devices:
            device.close()
        self._devices.clear()


def _pool_behind(dm: DeviceMapper, name: str) -> tuple[str, ThinPool, DeviceInfo]:
    """Name, table and device of the pool that *name* is, or that LVM put its layer *name* upon."""
    for _ in range(3):
        info = dm.info(name)
        target = sole_target(dm.table(name))
        if isinstance(target, ThinPool):
            return name, target, info
        if not isinstance(target, Linear) or target.offset:
            break
        below = [other for other, major, minor in dm.list() if f"{major}:{minor}" == target.device]
        if not below:
            break
        name = below[0]
    if target is not None and target.kind == "error":
        state = diagnose_line("", Facts(0, kernel=True), kind="error")
        raise DeviceIOError(f"the pool {name} {state.summary}", steps=state.steps)
    raise CorruptError(
        f"{name} is not an active thin pool", hint=f"see: dmsetup table {name}; deactivate it and try again"
    )


def block_node(number: str) -> str:
    """``/dev`` node of the block device "major:minor". Raises :class:`NotFoundError`."""
    with suppress(OSError):
        for line in (Path("/sys/dev/block") / number / "uevent").read_text().splitlines():
            if line.startswith("DEVNAME="):
                return f"/dev/{line[8:]}"
    raise NotFoundError(f"there is no block device {number}", hint="it was removed; see lsblk")
