# SPDX-License-Identifier: Apache-2.0
"""Named devices on a thin pool: the base device, a snapshot per layer, a snapshot per container.

Authority for names, numbers, checks and wording: moby v24.0.9,
``daemon/graphdriver/devmapper/deviceset.go``. What keeps the pool and ``state.db`` in step is
:mod:`lamella.driver.transactions`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lamella import logs
from lamella.driver import transactions
from lamella.driver.backend import PoolDevices
from lamella.driver.open_devices import OpenDevices
from lamella.driver.state import BASE, Device
from lamella.errors import (
    CorruptError,
    ExistsError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    UsageError,
)
from lamella.fs.kinds import of_kind
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.space_map import MAX_METADATA_BLOCKS
from lamella.units import human_size

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.backend import PoolBackend
    from lamella.driver.kernel_devices import KernelDevices
    from lamella.driver.options import Options
    from lamella.driver.state import State
    from lamella.thin.interface import ThinVolume

log = logs.logger(__name__)

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


class DeviceSet(OpenDevices):
    """The open pool of a store and its named devices. Use :meth:`create` or :meth:`open`."""

    # -- making and opening ----------------------------------------------------------------------

    @classmethod
    def create(cls, state: State, backend: PoolBackend, options: Options) -> DeviceSet:
        """Make the pool's devices, format the pool, and make the base device with its file system.

        The backend says which engine it is for.
        """
        with backend.exclusive(options):
            backend.create(options)
            made = cls._create_pool(state, backend, options)
        try:
            made._create_base()
        except BaseException:
            made._give_up()
            raise
        return made

    @classmethod
    def _create_pool(cls, state: State, backend: PoolBackend, options: Options) -> DeviceSet:
        devices = backend.open()
        try:
            pool = Pool.create(
                devices.metadata,
                devices.data,
                chunk_size=backend.chunk_size(options),
                options=POOL_OPTIONS,
            )
            if backend.engine != "kernel":
                return cls(state, backend, options, devices, pool)
            pool.close()
        except BaseException:
            devices.close()
            raise
        devices.close()
        return cls._open_kernel(state, backend, options)

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

        *grow* makes the pool as large as the options ask for, before anything else is written to it. With
        the kernel's engine the pool is activated if it is not yet, and stays so. With *read_only* it is left
        as it is, and read by this process, where this process can read the file systems in it.
        Raises :class:`CorruptError` where the base device's UUID or the transaction id tell of a
        different pool, with nothing changed.
        """
        if backend.engine == "kernel":
            made = cls._open_kernel(state, backend, options, read_only=read_only)
        else:
            made = cls._open_user(state, backend, options, read_only=read_only)
        try:
            made.verify_base()
            transactions.compare(made.pool, state)
            if grow and made.kernel is not None:
                made.warnings += backend.grow_active(made.kernel.dm, options)
            elif grow:
                made.warnings += backend.grow(made.devices, options)
            made._take_note_of_sizes(read_only=read_only)
            if made.kernel is not None:
                made.kernel.tidy(alone=not read_only)
                if not read_only:
                    from lamella.driver.reconcile import sweep

                    made.warnings += sweep(made.kernel, state)
            if not read_only:
                transactions.settle(made.pool, state, discard=options.discard_on_delete)
                made.retry_deletions()
        except BaseException:
            made._give_up()
            raise
        return made

    @classmethod
    def _open_user(
        cls, state: State, backend: PoolBackend, options: Options, *, read_only: bool
    ) -> DeviceSet:
        devices = backend.open_inactive() if backend.engine == "kernel" else backend.open(read_only=read_only)
        try:
            _refuse_unformatted(devices, state, backend)
            pool = Pool.open(devices.metadata, devices.data, options=POOL_OPTIONS, read_only=read_only)
        except BaseException:
            devices.close()
            raise
        return cls(state, backend, options, devices, pool)

    @classmethod
    def _open_kernel(
        cls, state: State, backend: PoolBackend, options: Options, *, read_only: bool = False
    ) -> DeviceSet:
        """The pool in the kernel, activated if need be.

        Whoever only looks changes nothing: not the pool, which an activation puts in order before, nor what
        the kernel has. A pool that is not active is then read by this process, if that can.
        """
        from lamella.devicemapper.client import DeviceMapper
        from lamella.driver.kernel_devices import KernelDevices
        from lamella.driver.reconcile import wake

        dm = DeviceMapper()
        try:
            name = backend.active(dm)
            if name is None and read_only and _read_here(state, options):
                made = cls._open_user(state, backend, options, read_only=True)
                dm.close()
                return made
            name = name or _activate(dm, state, backend)
            wake(dm, state.path.parent, name, alone=not read_only)
            kernel = KernelDevices(dm, state.path.parent, state, name)
            kernel.pool.check_usable()
            devices = PoolDevices(kernel.pool.metadata_device(), kernel.pool.data_device())
        except BaseException:
            dm.close()
            raise
        return cls(state, backend, options, devices, kernel.pool, kernel)

    def close(self) -> None:
        """Close the pool and its devices. Everything finished is durable already."""
        try:
            self.pool.close()
        finally:
            self._give_up()

    def _give_up(self) -> None:
        """Close the pool's devices, without a word to the pool."""
        self.devices.close()
        if self.kernel is not None:
            self.kernel.close()

    # -- the base device -------------------------------------------------------------------------

    def _create_base(self) -> None:
        options = self.options

        def fill(volume: ThinVolume) -> None:
            self.filesystem.make(volume, options.mkfs_args)
            uuid = self.filesystem.uuid(volume)
            self.state.set_pool(base_uuid=uuid, base_filesystem=options.filesystem)

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
        try:
            opened = self.pool.open_volume(base.device_id, base.size, read_only=True)
        except NotFoundError as error:
            raise _lacks_base(self.state, self.backend) from error
        with opened as volume:
            try:
                uuid = self.filesystem.uuid(volume)
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
        self._create(
            Device(BASE, device_id, size, 0, initialized=True),
            lambda: self.pool.create_snap(device_id, old.device_id),
            self.filesystem.grow,
            self._retiring(old),
        )
        self.retry_deletions()

    def grow(self, name: str, size: int) -> None:
        """Make device *name* and its file system *size* bytes, all of it or nothing; nobody may have it open.

        Raises :class:`BusyError` naming who has it open, and :class:`UsageError` for a smaller size.
        """
        old = self.get(name)
        if size < old.size:
            raise UsageError(
                f"devmapper: Container size cannot be smaller than {human_size(old.size)}",
                hint="a file system can only be made larger; copy its files into a new container instead",
            )
        self.check_free_space()

        def recover_and_grow(volume: ThinVolume) -> None:
            self._recover(volume)
            self.filesystem.grow(volume)

        if self.kernel is not None:
            with self._replacing(old, size=size) as volume:
                self.filesystem.grow(volume)
        else:
            device_id = self._free_device_id()
            self._create(
                replace(old, device_id=device_id, size=size),
                lambda: self.pool.create_snap(device_id, old.device_id),
                recover_and_grow,
                self._retiring(old),
            )
        self.retry_deletions()

    # -- devices ---------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        parent: str,
        *,
        size: int | None = None,
        fill: Callable[[ThinVolume], object] | None = None,
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
        log.info("device %s (id %d): a snapshot of %s (id %d)", name, device_id, parent, origin.device_id)

        def grow_and_fill(volume: ThinVolume) -> None:
            if size > origin.size:
                self.filesystem.grow(volume)
            if fill:
                fill(volume)

        return self._create(
            Device(name, device_id, size, 0),
            lambda: self.pool.create_snap(device_id, origin.device_id),
            grow_and_fill if fill or size > origin.size else None,
            record,
        )

    # -- in the kernel ---------------------------------------------------------------------------

    def activate_pool(self) -> Path:
        """The pool's node, which is there when the pool is open. Raises :class:`UsageError` as below."""
        from lamella.devicemapper.nodes import mapper_path

        return mapper_path(self._kernel().pool.dm_name)

    def activate(self, name: str) -> Path:
        """The node under ``/dev/mapper`` of device *name*, which is made if it is not there.

        Raises :class:`UsageError` in the user engine.
        """
        return self._kernel().activate(self.get(name))

    def deactivate(self, name: str, *, deferred: bool = False) -> bool:
        """Take device *name* out of the kernel; *deferred*: when nobody has it open any more.

        Gives whether it is gone. Raises :class:`BusyError` naming who has it open.
        """
        return self._kernel().deactivate(self.get(name), deferred=deferred)

    def _kernel(self) -> KernelDevices:
        if self.kernel is None:
            raise UsageError("the user engine makes no device nodes", hint="use --engine kernel, as root")
        return self.kernel

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
        log.info(
            "pool grown: data %d to %d chunks, metadata %d to %d blocks",
            status.total_data,
            chunks,
            status.total_metadata,
            blocks,
        )
        try:
            self.pool.resize_metadata()
            self.pool.resize_data()
        except ReadOnlyError as error:  # it needs a check, and may still be read
            self.warnings.append(error.message)


def _activate(dm: DeviceMapper, state: State, backend: PoolBackend) -> str:
    """Activate the pool, unless it is that of a store which was formatted anew; gives its name."""
    with backend.exclusive():
        name = backend.active(dm)  # LVM2's event-based activation may have been at it
        if name is not None:
            return name
        devices = backend.open_inactive()
        try:
            _refuse_unformatted(devices, state, backend)
        finally:
            devices.close()
        return backend.activate(dm)


def _read_here(state: State, options: Options) -> bool:
    """Whether this process reads the file systems in the pool, without a kernel that mounts them."""
    return of_kind(state.pool().base_filesystem or options.filesystem).written_here


def _refuse_unformatted(devices: PoolDevices, state: State, backend: PoolBackend) -> None:
    start = devices.metadata.read(0, min(BLOCK_SIZE, devices.metadata.size))
    if len(start) == BLOCK_SIZE and not any(start):
        # As lvconvert leaves it. The kernel would format it here, and then miss the base device.
        raise _lacks_base(state, backend)


def _lacks_base(state: State, backend: PoolBackend) -> CorruptError:
    base = state.device(BASE)
    number = f" {base.device_id}" if base else ""
    return CorruptError(
        f"{VERIFICATION_FAILED}devicemapper: Error running deviceCreate (ActivateDevice) dm_task_run failed",
        hint=f"the pool has no device{number}, which is the base device: {backend.differences()}"
        f"{DIFFERENT_POOL}",
    )
