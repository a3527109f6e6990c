# SPDX-License-Identifier: Apache-2.0
"""Named devices on a thin pool: the base device, a snapshot per layer, a snapshot per container.

Authority for names, numbers, checks and wording: moby v24.0.9,
``daemon/graphdriver/devmapper/deviceset.go``. What keeps the pool and ``state.db`` in step is
:mod:`lamella.driver.transactions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella import logs
from lamella.closing import on_error
from lamella.driver import base_device, engines, transactions
from lamella.driver.open_devices import OpenDevices
from lamella.driver.state import BASE, Device
from lamella.errors import CorruptError, ExistsError, NoSpaceError, ReadOnlyError, UsageError
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.space_map import MAX_METADATA_BLOCKS
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.driver.backend import PoolBackend
    from lamella.driver.device_engine import Record
    from lamella.driver.options import Options
    from lamella.driver.state import State
    from lamella.thin.interface import ThinVolume

log = logs.logger(__name__)


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
            made = cls(state, backend, options, engines.format_pool(state, backend, options))
        with on_error(made.engine.abandon):
            made._create_base()
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
        shared: bool = False,
    ) -> DeviceSet:
        """Open the pool, verify that it is this store's, and finish an interrupted transaction.

        *grow* makes the pool as large as the options ask for, before anything else is written to it. With
        the kernel's engine the pool is activated if it is not yet, and stays so. With *read_only* it is left
        as it is, and read by this process, where this process can read the file systems in it. A *shared*
        one is used by several threads.
        Raises :class:`CorruptError` where the base device's UUID or the transaction id belong to a
        different pool, with nothing changed.
        """
        engine = engines.open_pool(state, backend, options, read_only=read_only, shared=shared)
        made = cls(state, backend, options, engine)
        with on_error(engine.abandon):
            made.verify_base()
            transactions.compare(made.pool, state)
            if grow:
                made.warnings += engine.grow_pool(backend)
            made._use_grown_devices(read_only=read_only)
            made.warnings += engine.reconcile(read_only=read_only)
            if not read_only:
                transactions.finish_interrupted(made.pool, state, discard=options.discard_on_delete)
                made.retry_deletions()
        return made

    def close(self) -> None:
        """Close the pool and its devices. Everything finished is durable already."""
        self.engine.close()

    # -- the base device -------------------------------------------------------------------------

    def _create_base(self) -> None:
        options = self.options

        def fill(volume: ThinVolume) -> None:
            self.filesystem.make(volume, options.mkfs_args)
            uuid = self.filesystem.uuid(volume)
            self.state.set_pool(base_uuid=uuid, base_filesystem=options.filesystem)

        base = Device(BASE, self.engine.free_device_id(), options.base_size, 0, initialized=True)
        self.engine.create(base, None, fill)

    def make_base_anew(self) -> None:
        """Replace the base device, which is damaged, by a new one of its size, with the same UUID."""
        old = self.get(BASE)
        uuid = self.state.pool().base_uuid
        same = self.filesystem.uuid_args(uuid)
        log.info("the base device is damaged (%s): making it anew", self.damage(BASE))

        def fill(volume: ThinVolume) -> None:
            self.filesystem.make(volume, [*self.options.mkfs_args, *same])

        base = Device(BASE, self.engine.free_device_id(), old.size, 0, initialized=True)
        self.engine.create(base, None, fill, self.engine.retire(old))
        self.retry_deletions()

    def verify_base(self) -> None:
        """Raise :class:`CorruptError` unless the pool's base device is the one that this store recorded."""
        base_device.verify(self.pool, self.filesystem, self.state, self.backend)

    def grow_base(self, size: int) -> None:
        """Make the base device *size* bytes, for layers to come; existing ones keep their size.

        It is done on a snapshot that then takes the base's place, so that a crash leaves the old one.
        """
        old = self.get(BASE)
        base_device.refuse_smaller(self.state, size)
        if size == old.size:
            return
        base = Device(BASE, self.engine.free_device_id(), size, 0, initialized=True)
        self.engine.create(base, old, self.filesystem.grow, self.engine.retire(old))
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
        self.keep_damage(name)
        old = self.get(name)
        with self.deleting_drafts(), self.engine.replacing(old, size) as volume:
            self.filesystem.grow(volume)
        self.retry_deletions()

    # -- devices ---------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        parent: str,
        *,
        size: int | None = None,
        fill: Callable[[ThinVolume], object] | None = None,
        record: Record | None = None,
    ) -> Device:
        """Make device *name*, a snapshot of device *parent*, in one transaction.

        Parameters: *size* in bytes, at least the parent's (the file system is grown to it); *fill*
        changes the new volume; *record* adds rows to ``state.db`` that appear together with the
        device. If anything fails, the pool and ``state.db`` are as they were, and the error goes on.
        """
        with self.state.lock:
            origin = self._usable_origin(name, parent)
            size = origin.size if size is None else size
            if size < origin.size:
                raise UsageError(
                    f"devmapper: Container size cannot be smaller than {human_size(origin.size)}",
                    hint="leave the size out to get the image's own",
                )
            if size % 512:
                raise UsageError(f"a size of {size} bytes is not a multiple of 512", hint="round it up")
            self.check_free_space()
            device = Device(name, self.engine.free_device_id(), size, 0)
            log.info(
                "device %s (id %d): a snapshot of %s (id %d)",
                name,
                device.device_id,
                parent,
                origin.device_id,
            )
            if size == origin.size and not fill:
                return self.engine.create(device, origin, None, record)

        def grow_and_fill(volume: ThinVolume) -> None:
            if size > origin.size:
                self.filesystem.grow(volume)
            if fill:
                fill(volume)

        with self.deleting_drafts():
            return self.engine.create(device, origin, grow_and_fill, record)

    def _usable_origin(self, name: str, parent: str) -> Device:
        """The device *parent*, of which *name* is to be a snapshot."""
        origin = self.get(parent)
        damage = self.damage(parent)
        if damage:
            raise CorruptError(
                f"device {parent}, of which a snapshot is wanted, is damaged: {damage}",
                hint="load or pull the image again, which unpacks the layer anew; see: lamella check",
            )
        if self.state.device(name) is not None:
            raise ExistsError(f"devmapper: device {name} already exists", hint="choose another name")
        return origin

    # -- in the kernel ---------------------------------------------------------------------------

    @property
    def in_kernel(self) -> bool:
        """Whether the kernel maps the pool's blocks: devices have nodes then, and may be mounted."""
        return self.engine.in_kernel

    def activate_pool(self) -> Path:
        """The pool's node, which is there when the pool is open. Raises :class:`UsageError` as below."""
        return self.engine.pool_node()

    def activate(self, name: str, *, frozen: bool = False) -> Path:
        """The node under ``/dev/mapper`` of device *name*, which is made if it is not there.

        Unless it is *frozen*, it may be written to, and how many chunks it maps is not known from then on.
        Raises :class:`UsageError` in the user engine.
        """
        if self.in_kernel and not frozen and self.get(name).mapped is not None:
            self.keep_damage(name)
            with self.state.transaction():
                self.state.set_mapped({name: None})
        return self.engine.activate(self.get(name))

    def deactivate(self, name: str, *, deferred: bool = False) -> bool:
        """Remove the node of device *name*; *deferred*: when nobody has it open any more.

        Gives whether it is gone. Raises :class:`BusyError` naming who has it open.
        """
        return self.engine.deactivate(self.get(name), deferred=deferred)

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

    def _use_grown_devices(self, *, read_only: bool) -> None:
        """Resize the pool to its devices, which have grown: as the options ask, or by LVM's commands."""
        status = self.pool.status()
        chunks = self.devices.data.size // self.pool.chunk_size
        blocks = min(self.devices.metadata.size // BLOCK_SIZE, MAX_METADATA_BLOCKS)
        if chunks <= status.total_data and blocks <= status.total_metadata:
            return
        if read_only:
            self.warnings.append(
                "the pool has been grown; the next command that changes the store uses the new space"
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
