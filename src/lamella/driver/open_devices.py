# SPDX-License-Identifier: Apache-2.0
"""The devices of an open pool by name: making, opening for reading or writing, and deleting them.

What differs between the engines is here: one can go back, in the other a writer works on a snapshot.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from lamella.block.ranges import merged
from lamella.driver import transactions
from lamella.errors import BusyError, CorruptError, LamellaError, NoSpaceError, NotFoundError, ReadOnlyError
from lamella.fs.kinds import of_kind
from lamella.thin.format.limits import MAX_DEVICE_ID

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from lamella.devicemapper.client import DeviceInfo
    from lamella.driver.backend import PoolBackend, PoolDevices
    from lamella.driver.kernel_devices import KernelDevices
    from lamella.driver.options import Options
    from lamella.driver.state import Device, State
    from lamella.fs.filesystem import FileSystem
    from lamella.thin.interface import ThinPool, ThinVolume

"""Device ids have 24 bits."""


class Look(NamedTuple):
    """What a look at a device has shown."""

    name: str
    device: Device | None
    info: DeviceInfo | None
    """The kernel's device, if it is active."""
    is_open: bool


class OpenDevices:
    """The named devices of an open pool; :class:`lamella.driver.device_set.DeviceSet` adds the rest."""

    def __init__(
        self,
        state: State,
        backend: PoolBackend,
        options: Options,
        devices: PoolDevices,
        pool: ThinPool,
        kernel: KernelDevices | None = None,
    ) -> None:
        self.state = state
        self.backend = backend
        self.options = options
        self.devices = devices
        self.pool = pool
        self.kernel = kernel
        """The store's devices in the kernel, if the pool is there."""
        self.warnings: list[str] = []
        self._open_volumes: dict[str, int] = {}

    def get(self, name: str) -> Device:
        """The device called *name*, unless it is being deleted. Raises :class:`NotFoundError`."""
        device = self.state.device(name)
        if device is None or device.deleted:
            raise NotFoundError(f"devmapper: Unknown device {name}", hint="see: lamella check")
        return device

    @cached_property
    def filesystem(self) -> FileSystem:
        """What is in all devices, and how it is read and written."""
        return of_kind(
            self.state.pool().base_filesystem or self.options.filesystem,
            mount_options=self.options.mount_options,
            max_retries=self.options.xfs_nospace_max_retries,
        )

    # -- making ----------------------------------------------------------------------------------

    def _retiring(self, old: Device) -> Callable[[sqlite3.Connection, Device], None]:
        """What records that *old*, whose place another device takes, is to be deleted."""
        retired = replace(old, hash=secrets.token_hex(32), deleted=True)
        return lambda _, __: self.state.put_device(retired)

    def _create(
        self,
        device: Device,
        make: Callable[[], None],
        fill: Callable[[ThinVolume], object] | None,
        record: Callable[[sqlite3.Connection, Device], None] | None,
    ) -> Device:
        with self._making(device, record) as made:
            make()
            if fill:
                self._fill(device, fill)
        return made

    @contextmanager
    def _making(
        self, device: Device, record: Callable[[sqlite3.Connection, Device], None] | None
    ) -> Iterator[Device]:
        if self.kernel is not None:
            self.kernel.making(device)
        try:
            with transactions.creating(
                self.pool, self.state, device, record, discard=self.options.discard_on_delete
            ) as made:
                yield made
        finally:
            if self.kernel is not None:
                self.kernel.made(device)

    def _fill(self, device: Device, fill: Callable[[ThinVolume], object]) -> None:
        volume = self.pool.open_volume(device.device_id, device.size, zero_fresh=self.filesystem.written_here)
        try:
            fill(volume)
            if not self.pool.can_abort:
                volume.flush()  # else the fence's commit does it, together with the transaction id
        finally:
            volume.close()

    # -- opening devices -------------------------------------------------------------------------

    @contextmanager
    def volume(self, name: str, *, read_only: bool = True) -> Iterator[ThinVolume]:
        """Device *name* opened; changes are durable when the block ends, and gone if it fails.

        A file system that was not unmounted is seen as a mount would show it: its journal is replayed, for a
        writer on the device, for a reader in memory. In the kernel's engine a writer works on a snapshot that
        takes the device's place at the end; a reader of a device that is mounted reads a snapshot of this
        moment. A writer of a device that somebody has open gets a :class:`BusyError`.
        """
        device = self.get(name)
        self._open_volumes[name] = self._open_volumes.get(name, 0) + 1
        try:
            if read_only:
                with self._reading(device) as volume:
                    yield volume
            elif self.kernel is not None:
                with self._replacing(device) as volume:
                    yield volume
            else:
                with self._writing(device) as volume:
                    yield volume
        finally:
            self._open_volumes[name] -= 1
            if not self._open_volumes[name]:
                del self._open_volumes[name]
        if not read_only and self.kernel is not None:
            self.retry_deletions()

    @contextmanager
    def _reading(self, device: Device) -> Iterator[ThinVolume]:
        with ExitStack() as stack:
            device_id = device.device_id
            kernel = self.kernel
            if kernel is not None:
                info = kernel.used(device)
                if info is not None and not kernel.pool.is_internal(info):
                    device_id = stack.enter_context(kernel.temporaries.snapshot(device_id, self._used_ids))
            volume: ThinVolume = self.pool.open_volume(device_id, device.size, read_only=True)
            stack.callback(volume.close)
            if self._unclean(volume):
                if self.filesystem.written_here:
                    from lamella.driver.journal_overlay import Recovered

                    volume = Recovered(volume)
                elif kernel is not None:
                    # The kernel replays its log when it is mounted, so on a snapshot that may be written.
                    volume.close()
                    if device_id == device.device_id:
                        device_id = stack.enter_context(
                            kernel.temporaries.snapshot(device_id, self._used_ids)
                        )
                    volume = self.pool.open_volume(device_id, device.size, zero_fresh=False)
                    stack.callback(volume.close)
            yield volume

    @contextmanager
    def _writing(self, device: Device) -> Iterator[ThinVolume]:
        """The device itself, in an engine that can go back."""
        volume = self.pool.open_volume(device.device_id, device.size, zero_fresh=True)
        try:
            self._recover(volume)
            yield volume
        except BaseException:
            volume.close()
            self.pool.abort()
            if self.options.discard_on_delete:
                self.pool.trim()
            raise
        else:
            volume.close()
            self.pool.commit()

    @contextmanager
    def _replacing(self, device: Device, *, size: int = 0) -> Iterator[ThinVolume]:
        """A snapshot of the device, of *size* bytes if given; it takes its place when the block ends well."""
        kernel = self.kernel
        assert kernel is not None
        was_active = kernel.is_active(device)
        kernel.refuse_used(device, f"write to device {device.hash}")
        fresh = replace(device, device_id=self._free_device_id(), size=size or device.size)
        with self._making(fresh, self._retiring(device)):
            self.pool.create_snap(fresh.device_id, device.device_id)
            volume = self.pool.open_volume(
                fresh.device_id, fresh.size, zero_fresh=self.filesystem.written_here
            )
            try:
                self._recover(volume)
                yield volume
                volume.flush()
            finally:
                volume.close()
            if was_active:
                kernel.deactivate(device)
        if was_active:
            kernel.activate(fresh)

    def _unclean(self, volume: ThinVolume) -> bool:
        try:
            return self.filesystem.condition(volume).needs_recovery
        except (CorruptError, NotFoundError):
            return False  # whoever reads it says what is wrong with it

    def _recover(self, volume: ThinVolume) -> None:
        if self._unclean(volume):
            self.filesystem.recover(volume)

    def differing_ranges(self, lower: ThinVolume, upper: ThinVolume) -> list[tuple[int, int]]:
        """(offset, length) in bytes of what two open volumes do not share, in order, in whole chunks."""
        found = list(self.pool.differing_ranges(lower.dev_id, upper.dev_id))
        for volume in (lower, upper):
            replayed = getattr(volume, "replayed", None)
            if replayed is not None:
                found += replayed()
        size = self.pool.chunk_size
        return [(first * size, length * size) for first, length in merged(sorted(found))]

    # -- deleting --------------------------------------------------------------------------------

    def delete(
        self,
        names: Iterable[str],
        *,
        record: Callable[[sqlite3.Connection], None] | None = None,
        when_open: Callable[[str], None] | None = None,
    ) -> None:
        """Delete devices; with *record*'s changes to ``state.db``, this is decided in one step.

        *when_open* is called before with the name of each that somebody may have open: to refuse, or to
        close it. A device that is open then is deleted later, when it is not (deferred deletion); without
        ``dm.use_deferred_deletion`` that is a :class:`BusyError` and nothing is changed.
        """
        names = list(names)
        looks = {name: self._look(name) for name in names}
        for name in names:
            if when_open is not None and (self.kernel is None or looks[name].is_open):
                when_open(name)
                looks[name] = self._look(name)
        busy = [look for look in looks.values() if look.is_open]
        if busy and not self.options.deferred_deletion:
            if self.kernel is not None and busy[0].device is not None:
                self.kernel.refuse_used(busy[0].device, f"delete device {busy[0].name}")
            raise BusyError(
                f"devmapper: Device {busy[0].name} is busy", hint="close it, or turn deferred deletion on"
            )

        def decide(connection: sqlite3.Connection) -> None:
            if record:
                record(connection)
            for name in names:
                self.state.mark_deleted(name)

        self._delete_marked(decide, [look for look in looks.values() if not look.is_open])

    def retry_deletions(self) -> None:
        """Delete in the pool what is marked as deleted and not open; what cannot be now waits."""
        if self.state.devices(deleted=True):
            self._delete_marked()

    def _delete_marked(
        self, decide: Callable[[sqlite3.Connection], None] | None = None, free: Sequence[Look] = ()
    ) -> None:
        """Delete what is marked, some of it by *decide*; nobody has any of *free* open."""
        note = None
        try:
            transactions.settle(self.pool, self.state, discard=self.options.discard_on_delete)
        except (BusyError, NoSpaceError, ReadOnlyError) as error:
            if not self.options.deferred_deletion:
                raise
            if decide:
                with self.state.transaction() as connection:
                    decide(connection)
            self._put_off(self.state.devices(deleted=True), error)
            return
        with self._leaving(free), self.state.transaction() as connection:
            if decide:
                decide(connection)
            marked = self.state.devices(deleted=True)
            known = {look.name for look in free}
            doomed = [each for each in marked if each.hash in known or not self._is_open(each.hash)]
            if doomed:
                note = transactions.note_deletion(self.pool, self.state, doomed)
        if self.kernel is not None and self.options.deferred_removal:
            for device in marked:
                if device not in doomed and device.hash not in self._open_volumes:
                    self.kernel.deactivate(device, deferred=True)
        if note is None:
            return
        try:
            waiting = transactions.delete(self.pool, self.state, note, discard=self.options.discard_on_delete)
        except (BusyError, NoSpaceError, ReadOnlyError) as error:
            if not self.options.deferred_deletion:
                raise
            self._put_off(doomed, error)
            return
        if self.kernel is not None:
            self.kernel.wait_until_gone(
                look.info for look in free if look.info is not None and look.name not in waiting
            )
        if waiting:
            self.warnings.append(f"{len(waiting)} devices will be deleted later: they are in use")

    def _leaving(self, looks: Sequence[Look]) -> AbstractContextManager[object]:
        """Within the block they leave the kernel, where there is nothing else to do to them before."""
        if self.kernel is None or self.options.discard_on_delete:
            return nullcontext()
        active = [
            (look.device, look.info) for look in looks if look.device is not None and look.info is not None
        ]
        return self.kernel.leaving(active)

    def _put_off(self, devices: Sequence[Device], error: LamellaError) -> None:
        if devices:
            self.warnings.append(f"{len(devices)} devices will be deleted later: {error.message}")

    def _is_open(self, name: str) -> bool:
        """Whether somebody has device *name* open: here or, in the kernel, anybody."""
        return self._look(name).is_open

    def _look(self, name: str) -> Look:
        device = self.state.device(name)
        info = None
        if self.kernel is not None and device is not None:
            with suppress(BusyError):  # the name is somebody else's, so it is not active
                info = self.kernel.pool.active(device.device_id)
        return Look(
            name, device, info, name in self._open_volumes or bool(info is not None and info.open_count)
        )

    # -- device ids ------------------------------------------------------------------------------

    def _free_device_id(self) -> int:
        """The next free id after the one given out last, in a circle of 24 bits."""
        number = self.state.pool().next_device_id
        for _ in range(MAX_DEVICE_ID + 1):
            number = (number + 1) & MAX_DEVICE_ID
            if not self.state.has_device_id(number) and not self.pool.has_device(number):
                return number
        raise NoSpaceError("devmapper: Unable to find a free device ID", hint="remove images or containers")

    def _used_ids(self) -> set[int]:
        return {device.device_id for device in self.state.devices()} | self.pool.device_ids()

    def strangers(self) -> tuple[list[int], list[Device]]:
        """Device ids in the pool that ``state.db`` does not know, and its devices that the pool lacks."""
        note = self.state.note()
        pending = {number for _, number in note.devices} if note else set()
        known = self.state.devices()
        in_pool = self.pool.device_ids()
        if self.backend.engine == "kernel":
            from lamella.driver.temporary_snapshots import Temporaries

            # Also while the pool is out of the kernel: the next command that writes removes them.
            pending |= Temporaries(self.state.path.parent).ids()
        unknown = sorted(in_pool - {device.device_id for device in known} - pending)
        lost = [d for d in known if d.device_id not in in_pool and d.device_id not in pending]
        return unknown, lost
