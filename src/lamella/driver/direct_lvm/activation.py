# SPDX-License-Identifier: Apache-2.0
"""Activating and deactivating a store's pool as LVM2's own commands would."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from lamella.driver.direct_lvm.group import Disks, check_unused_by_lvm, pool_of
from lamella.errors import CorruptError
from lamella.lvm.disks.disk import open_shared
from lamella.lvm.disks.kernel_active import active_in
from lamella.lvm.format.ids import dm_uuid
from lamella.lvm.format.names import dm_name
from lamella.remedies import hint_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.direct_lvm.record import Record
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session


class PoolActivation:
    """The state of a pool in device-mapper. *warn* is told what a user should know."""

    def __init__(self, disks: Disks, warn: Callable[[str], None]) -> None:
        self.disks = disks
        self.warn = warn

    def activator(self, dm: DeviceMapper) -> KernelActivator:
        """As LVM2's own commands would activate: with its daemon watching the pool, unless set otherwise."""
        from lamella.lvm.activation.activator import KernelActivator

        monitor = self.disks.config.flag("activation/monitoring")
        return KernelActivator(dm, monitor=monitor, warn=self.warn)

    def shared_disks(self) -> Disks:
        """Disks that the kernel may be using: read past the page cache, not locked."""
        return Disks(self.disks.root, open_shared)

    def find(self, record: Record) -> tuple[Session, FoundGroup]:
        """A session on such disks, and the pool's group."""
        return self.shared_disks().find(record.group, record.disks)

    def active(self, dm: DeviceMapper, record: Record) -> str | None:
        """Name of the pool's device-mapper device, if it is active."""
        prefix = dm_uuid(record.group_uuid, record.pool_uuid)
        info = dm.find(dm_name(record.group, record.pool))
        if info is None or not info.live_table or not info.uuid.startswith(prefix):
            return None
        return info.name

    def activate(self, dm: DeviceMapper, record: Record) -> str:
        """Activate the pool, unless it is active; gives its name. Raises what LVM2 refuses."""
        name = self.active(dm, record)
        if name is not None:
            return name
        with self._group_locked(record):
            name = self.active(dm, record)  # LVM2's event-based activation may have activated it meanwhile
            return name if name is not None else self._activate(dm, record)

    def _activate(self, dm: DeviceMapper, record: Record) -> str:
        session, found = self.find(record)
        with session:
            session.check_access(found)
            check_unused_by_lvm(found, *pool_of(found, record.pool))
            self._deactivate(dm, found, record.pool)  # parts that a killed process left
            try:
                self.activator(dm).activate(found, [record.pool])
            except CorruptError as error:
                raise CorruptError(
                    error.message,
                    hint=f"repair its metadata, which keeps the original: lamella repair ({hint_of(error)})",
                ) from error
        return dm_name(record.group, record.pool)

    def deactivate(self, dm: DeviceMapper, record: Record) -> None:
        """Deactivate the pool and its parts. Raises :class:`BusyError` for one that is in use."""
        from lamella.lvm.activation.pv_numbers import wait_for_loop_devices

        if not record.group_uuid:
            return
        prefix = dm_uuid(record.group_uuid)
        # As device-mapper knows them: a device that has no table yet is not in /sys.
        here = [dm.find(name) for name, _, _ in dm.list()]
        if not any(info is not None and info.uuid.startswith(prefix) for info in here):
            return
        with self._group_locked(record):
            session, found = self.find(record)
            with session:
                self._deactivate(dm, found, record.pool)
        wait_for_loop_devices(record.disks)  # again, without LVM's lock

    def deactivate_made(self, record: Record) -> None:
        """Deactivate what LVM2 has activated, by itself, of the group that a set-up made."""
        with self.shared_disks().session(self.disks.listed(record.disks)) as session:
            for found in session.scan.named(record.group):
                if {pv.uuid for pv in found.group.pvs} & set(record.disks.values()):
                    self.deactivate_found(found, record.pool)

    def deactivate_found(self, found: FoundGroup, pool: str) -> None:
        """Deactivate a pool that LVM2 has active, as it does after making one.

        It is read by this process, and activated again later. Raises :class:`BusyError` for one in use.
        """
        if not active_in(found.group.uuid, self.disks.environment.sys_block):
            return
        from lamella.devicemapper.client import DeviceMapper

        with DeviceMapper() as dm:
            self._deactivate(dm, found, pool)

    def _deactivate(self, dm: DeviceMapper, found: FoundGroup, pool: str) -> None:
        from lamella.driver.direct_lvm.setup import parts_of

        activator = self.activator(dm)
        active = activator.active_in(found)
        # The parts by name as well: of a pool that was half activated they may be all that is active.
        activator.deactivate(found, [name for name in parts_of(found.group, pool) if name in active])

    def _group_locked(self, record: Record) -> AbstractContextManager[None]:
        """Keep LVM2's commands off the group, and wait for those that are at work on it."""
        from lamella.lvm.session.locks import group_lock

        if self.disks.locked:
            return nullcontext()
        return group_lock(self.disks.environment.lock_dir, record.group, write=True)
