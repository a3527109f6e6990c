# SPDX-License-Identifier: Apache-2.0
"""Named devices on a thin pool: the base device, a snapshot per layer, a snapshot per container.

Authority for names, numbers, checks and wording: moby v24.0.9,
``daemon/graphdriver/devmapper/deviceset.go``. What keeps the pool and ``state.db`` in step is
:mod:`lamella.driver.fence`.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.driver import fence
from lamella.driver.state import BASE, Device
from lamella.errors import (
    BusyError,
    CorruptError,
    ExistsError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    UsageError,
)
from lamella.fs.entry import Entry, Kind
from lamella.fs.ext4.grow import grow_ext4
from lamella.fs.ext4.make import make_ext4
from lamella.fs.ext4.superblock import filesystem_uuid
from lamella.fs.ext4.tree import Tree
from lamella.thin.checksum import BLOCK_SIZE
from lamella.thin.pool import Pool, PoolOptions
from lamella.thin.space_map_format import MAX_METADATA_BLOCKS
from lamella.units import human_size

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from lamella.driver.backend import PoolBackend, PoolDevices
    from lamella.driver.options import Options
    from lamella.driver.state import State
    from lamella.thin.volume import Volume

MAX_DEVICE_ID = (1 << 24) - 1
"""Device ids have 24 bits."""

POOL_OPTIONS = PoolOptions(zero=False, error_if_no_space=True)
"""As Docker's pools, without zeroing: every volume is opened with ``zero_fresh``, which zeroes only
the parts of a fresh chunk that are not written. And nobody can add space while this process holds
the pool, so a full pool is an error at once instead of after a wait."""

VERIFICATION_FAILED = "devmapper: Base Device UUID and Filesystem verification failed: "

DIFFERENT_POOL = (
    "the pool's devices are not the ones this store was set up with (restored, copied or made anew): put the "
    "right ones back; or, if the images can be loaded again, clear the store with 'lamella teardown --force' "
    "and set it up anew. Nothing was changed"
)


class DeviceSet:
    """The open pool of a store and its named devices. Use :meth:`create` or :meth:`open`."""

    def __init__(
        self,
        state: State,
        backend: PoolBackend,
        options: Options,
        devices: PoolDevices,
        pool: Pool,
    ) -> None:
        self.state = state
        self.backend = backend
        self.options = options
        self.devices = devices
        self.pool = pool
        self.warnings: list[str] = []
        self._open_volumes: dict[str, int] = {}

    # -- making and opening ----------------------------------------------------------------------

    @classmethod
    def create(cls, state: State, backend: PoolBackend, options: Options) -> DeviceSet:
        """Make the pool's devices, format the pool, and make the base device with its file system."""
        backend.create(options)
        devices = backend.open()
        try:
            pool = Pool.create(
                devices.metadata,
                devices.data,
                chunk_size=backend.chunk_size(options),
                options=POOL_OPTIONS,
            )
            made = cls(state, backend, options, devices, pool)
            made._create_base()
        except BaseException:
            devices.close()
            raise
        return made

    @classmethod
    def open(
        cls,
        state: State,
        backend: PoolBackend,
        options: Options,
        *,
        read_only: bool = False,
        grow: bool = False,
    ) -> DeviceSet:
        """Open the pool, verify that it is this store's, and end a transaction that was cut short.

        *grow* makes the pool as large as the options ask for, before anything else is written to it.
        Raises :class:`CorruptError` where the base device's UUID or the transaction id tell of a
        different pool, with nothing changed.
        """
        devices = backend.open(read_only=read_only)
        try:
            start = devices.metadata.read(0, min(BLOCK_SIZE, devices.metadata.size))
            if len(start) == BLOCK_SIZE and not any(start):
                # As lvconvert leaves it. The kernel would format it here, and then miss the base device.
                raise _lacks_base(state, backend)
            pool = Pool.open(devices.metadata, devices.data, options=POOL_OPTIONS, read_only=read_only)
            made = cls(state, backend, options, devices, pool)
            made.verify_base()
            fence.compare(pool, state)
            if grow:
                made.warnings += backend.grow(devices, options)
            made._take_note_of_sizes(read_only=read_only)
            if not read_only:
                fence.settle(pool, state, discard=options.discard_on_delete)
                made.retry_deletions()
        except BaseException:
            devices.close()
            raise
        return made

    def close(self) -> None:
        """Close the pool and its devices. Everything finished is durable already."""
        try:
            self.pool.close()
        finally:
            self.devices.close()

    def get(self, name: str) -> Device:
        """The device called *name*, unless it is being deleted. Raises :class:`NotFoundError`."""
        device = self.state.device(name)
        if device is None or device.deleted:
            raise NotFoundError(f"devmapper: Unknown device {name}", hint="see: lamella check")
        return device

    # -- the base device -------------------------------------------------------------------------

    def _create_base(self) -> None:
        options = self.options

        def fill(volume: Volume) -> None:
            make_ext4(volume, mkfs_args=options.mkfs_args)
            with Tree.open(volume) as tree:
                # An image that says nothing of its root gets the same one everywhere: root's, 0755, 1970.
                tree.put(Entry(b"", Kind.DIRECTORY, 0o755))
            self.state.set_pool(base_uuid=filesystem_uuid(volume), base_filesystem=options.filesystem)

        device_id = self._free_device_id()
        self._create(
            Device(BASE, device_id, options.base_size, 0, initialized=True),
            lambda: self.pool.create_thin(device_id),
            fill,
            None,
        )

    def verify_base(self) -> None:
        """Compare the base device's file system with the one remembered, in Docker's words."""
        failed = VERIFICATION_FAILED
        facts = self.state.pool()
        base = self.state.device(BASE)
        if base is None:
            raise CorruptError(f"{failed}devmapper: Unknown device base", hint="run lamella setup again")
        if base.device_id not in self.pool.devices():
            raise _lacks_base(self.state, self.backend)
        with self.pool.open_volume(base.device_id, base.size, read_only=True) as volume:
            try:
                uuid = filesystem_uuid(volume)
            except (CorruptError, NotFoundError) as error:
                raise CorruptError(f"{failed}{error.message}", hint=self._different_pool()) from error
        if uuid != facts.base_uuid:
            raise CorruptError(
                f"{failed}devmapper: Current Base Device UUID:{uuid} does not match with stored UUID:"
                f"{facts.base_uuid}. Possibly using a different thin pool than last invocation",
                hint=self._different_pool(),
            )

    def _different_pool(self) -> str:
        return self.backend.differences() + DIFFERENT_POOL

    def grow_base(self, size: int) -> None:
        """Make the base device *size* bytes, for layers to come; existing ones keep their size.

        It is done on a snapshot that then takes the base's place, so that a crash leaves the old one.
        """
        old = self.get(BASE)
        if size < old.size:
            raise UsageError(
                f"devmapper: Base device size cannot be smaller than {human_size(old.size)}",
                hint=f"give dm.basesize={old.size} or more, or leave it out",
            )
        if size == old.size:
            return
        device_id = self._free_device_id()
        retired = Device(secrets.token_hex(32), old.device_id, old.size, old.transaction_id, deleted=True)

        def record(_: sqlite3.Connection, __: Device) -> None:
            self.state.put_device(retired)

        self._create(
            Device(BASE, device_id, size, 0, initialized=True),
            lambda: self.pool.create_snap(device_id, old.device_id),
            grow_ext4,
            record,
        )
        self.retry_deletions()

    # -- devices ---------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        parent: str,
        *,
        size: int | None = None,
        fill: Callable[[Volume], object] | None = None,
        record: Callable[[sqlite3.Connection, Device], None] | None = None,
    ) -> Device:
        """Make device *name*, a snapshot of device *parent*, in one transaction.

        Parameters: *size* in bytes, at least the parent's (the file system is grown to it); *fill*
        changes the new volume; *record* adds rows to ``state.db`` that appear together with the
        device. If anything fails, the pool and ``state.db`` are as they were, and the error goes on.
        """
        origin = self.get(parent)
        if self.state.device(name) is not None:
            raise ExistsError(f"devmapper: device {name} already exists", hint="choose another name")
        size = origin.size if size is None else size
        if size < origin.size:
            raise UsageError(
                f"devmapper: Container size cannot be smaller than {human_size(origin.size)}",
                hint="leave the size out to get the image's own",
            )
        if size % 512:
            raise UsageError(f"a size of {size} bytes is no multiple of 512", hint="round it up")
        self.check_free_space()
        device_id = self._free_device_id()

        def grow_and_fill(volume: Volume) -> None:
            if size > origin.size:
                grow_ext4(volume)
            if fill:
                fill(volume)

        return self._create(
            Device(name, device_id, size, 0),
            lambda: self.pool.create_snap(device_id, origin.device_id),
            grow_and_fill,
            record,
        )

    def _create(
        self,
        device: Device,
        make: Callable[[], None],
        fill: Callable[[Volume], object] | None,
        record: Callable[[sqlite3.Connection, Device], None] | None,
    ) -> Device:
        with fence.creating(
            self.pool, self.state, device, record, discard=self.options.discard_on_delete
        ) as made:
            make()
            if fill:
                volume = self.pool.open_volume(device.device_id, device.size, zero_fresh=True)
                try:
                    fill(volume)
                finally:
                    volume.close()
        return made

    @contextmanager
    def volume(self, name: str, *, read_only: bool = True) -> Iterator[Volume]:
        """Device *name* opened; changes are durable when the block ends, and gone if it fails."""
        device = self.get(name)
        volume = self.pool.open_volume(
            device.device_id, device.size, read_only=read_only, zero_fresh=None if read_only else True
        )
        self._open_volumes[name] = self._open_volumes.get(name, 0) + 1
        try:
            yield volume
        except BaseException:
            volume.close()
            if not read_only:
                self.pool.abort()
                if self.options.discard_on_delete:
                    self.pool.trim()
            raise
        else:
            volume.close()
            if not read_only:
                self.pool.commit()
        finally:
            self._open_volumes[name] -= 1
            if not self._open_volumes[name]:
                del self._open_volumes[name]

    def delete(
        self, names: Iterable[str], *, record: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        """Delete devices; with *record*'s changes to ``state.db``, this is decided in one step.

        A device that is open is deleted later, when it is not (deferred deletion); without
        ``dm.use_deferred_deletion`` that is a :class:`BusyError` and nothing is changed.
        """
        names = list(names)
        busy = [name for name in names if name in self._open_volumes]
        if busy and not self.options.deferred_deletion:
            raise BusyError(
                f"devmapper: Device {busy[0]} is busy", hint="close it, or turn deferred deletion on"
            )
        with self.state.transaction() as connection:
            if record:
                record(connection)
            for name in names:
                self.state.mark_deleted(name)
        self.retry_deletions()

    def retry_deletions(self) -> None:
        """Delete in the pool what is marked as deleted and not open; what cannot be now waits."""
        doomed = [d for d in self.state.devices(deleted=True) if d.hash not in self._open_volumes]
        if not doomed:
            return
        try:
            fence.delete(self.pool, self.state, doomed, discard=self.options.discard_on_delete)
        except (BusyError, NoSpaceError, ReadOnlyError) as error:
            if not self.options.deferred_deletion:
                raise
            self.warnings.append(f"{len(doomed)} devices will be deleted later: {error.message}")

    # -- space -----------------------------------------------------------------------------------

    def check_free_space(self) -> None:
        """Refuse, as Docker does before a snapshot, to go below the minimum free space."""
        percent = self.options.min_free_percent
        if not percent:
            return
        status = self.pool.status()
        for what, advice, used, total in (
            ("data", "free space", status.used_data, status.total_data),
            ("metadata", "free metadata space", status.used_metadata, status.total_metadata),
        ):
            least = max(1, total * percent // 100)
            if total - used < least:
                raise NoSpaceError(
                    f"devmapper: Thin Pool has {total - used} free {what} blocks which is less than minimum "
                    f"required {least} free {what} blocks. Create more {advice} in thin pool or use "
                    "dm.min_free_space option to change behavior.",
                    hint=f"remove images or containers, or grow the pool: {self.backend.how_to_grow(what)}",
                )

    def _take_note_of_sizes(self, *, read_only: bool) -> None:
        """Use all of devices that have grown: as the options ask, or by LVM's commands."""
        status = self.pool.status()
        chunks = self.devices.data.size // self.pool.chunk_size
        blocks = min(self.devices.metadata.size // BLOCK_SIZE, MAX_METADATA_BLOCKS)
        if chunks <= status.total_data and blocks <= status.total_metadata:
            return
        if read_only:
            self.warnings.append(
                "the pool has been grown; the next command that changes the store puts that to use"
            )
            return
        try:
            self.pool.resize_metadata()
            self.pool.resize_data()
        except ReadOnlyError as error:  # it needs a check, and may still be read
            self.warnings.append(error.message)

    # -- device ids ------------------------------------------------------------------------------

    def _free_device_id(self) -> int:
        """The next free id after the one given out last, in a circle of 24 bits."""
        used = {device.device_id for device in self.state.devices()} | set(self.pool.devices())
        if len(used) > MAX_DEVICE_ID:
            raise NoSpaceError(
                "devmapper: Unable to find a free device ID", hint="remove images or containers"
            )
        number = self.state.pool().next_device_id
        while True:
            number = (number + 1) & MAX_DEVICE_ID
            if number not in used:
                return number

    def strangers(self) -> tuple[list[int], list[Device]]:
        """Device ids in the pool that ``state.db`` does not know, and its devices that the pool lacks."""
        note = self.state.note()
        pending = {number for _, number in note.devices} if note else set()
        known = self.state.devices()
        in_pool = set(self.pool.devices())
        unknown = sorted(in_pool - {device.device_id for device in known} - pending)
        lost = [d for d in known if d.device_id not in in_pool and d.device_id not in pending]
        return unknown, lost


def _lacks_base(state: State, backend: PoolBackend) -> CorruptError:
    base = state.device(BASE)
    number = f" {base.device_id}" if base else ""
    return CorruptError(
        f"{VERIFICATION_FAILED}devicemapper: Error running deviceCreate (ActivateDevice) dm_task_run failed",
        hint=f"the pool has no device{number}, which is the base device: {backend.differences()}"
        f"{DIFFERENT_POOL}",
    )
