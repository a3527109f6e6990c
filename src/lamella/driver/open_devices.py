# SPDX-License-Identifier: Apache-2.0
"""The devices of an open pool by name: opening them for reading or writing, and deleting them."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

from lamella.block.ranges import merged
from lamella.driver import transactions
from lamella.errors import BusyError, LamellaError, NoSpaceError, NotFoundError, ReadOnlyError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from lamella.devicemapper.client import DeviceInfo
    from lamella.driver.backend import PoolBackend
    from lamella.driver.device_engine import DeviceEngine
    from lamella.driver.options import Options
    from lamella.driver.state import Device, State
    from lamella.fs.filesystem import FileSystem
    from lamella.thin.interface import ThinVolume


class NamedUse(NamedTuple):
    """Who uses the device called *name*, in this process or outside it."""

    name: str
    device: Device | None
    info: DeviceInfo | None
    """The kernel's device, if it is active."""
    is_open: bool
    may_be_open: bool
    """Whether somebody may have it open whom its engine cannot see."""


class OpenDevices:
    """The named devices of an open pool; :class:`lamella.driver.device_set.DeviceSet` adds the rest."""

    def __init__(self, state: State, backend: PoolBackend, options: Options, engine: DeviceEngine) -> None:
        self.state = state
        self.backend = backend
        self.options = options
        self.engine = engine
        self.pool = engine.pool
        self.devices = engine.pool_devices
        self.warnings: list[str] = []

    def get(self, name: str) -> Device:
        """The device called *name*, unless it is being deleted. Raises :class:`NotFoundError`."""
        device = self.state.device(name)
        if device is None or device.deleted:
            raise NotFoundError(f"devmapper: Unknown device {name}", hint="see: lamella check")
        return device

    def damage(self, name: str) -> str:
        """What is missing of device *name*, in words; "" for one that is whole, as far as is known.

        A repair records what it could not save. Other programs' repairs (``thin_repair``,
        ``lvconvert --repair``) do not: the thin device is gone then, or maps fewer chunks than are recorded.
        """
        device = self.state.device(name)
        if device is None:
            return "it is not in state.db"
        if device.damage:
            return device.damage
        if not self.pool.has_device(device.device_id):
            return f"thin device {device.device_id} is not in the pool"
        mapped = self.pool.mapped_chunks(device.device_id) if device.mapped is not None else None
        if mapped is None or device.mapped is None or mapped >= device.mapped:
            return ""
        return (
            f"thin device {device.device_id} maps {mapped} chunks, of the {device.mapped} that it had: the "
            "others were lost outside of Lamella"
        )

    def keep_damage(self, name: str) -> None:
        """Record the damage of device *name* before it is changed: what it maps then says nothing."""
        device, damage = self.state.device(name), self.damage(name)
        if device is not None and damage and not device.damage and self.pool.has_device(device.device_id):
            with self.state.transaction():
                self.state.set_damage({name: damage})

    def record_mapped(self, names: Iterable[str]) -> None:
        """Record how many chunks these devices map, where it is not known: older stores lack it."""
        found = {}
        for name in names:
            device = self.state.device(name)
            if device is not None and device.mapped is None and not device.damage:
                found[name] = self.pool.mapped_chunks(device.device_id)
        if found:
            with self.state.transaction():
                self.state.set_mapped(found)

    @property
    def filesystem(self) -> FileSystem:
        """What is in all devices, and how it is read and written."""
        return self.engine.filesystem

    # -- opening ---------------------------------------------------------------------------------

    @contextmanager
    def volume(self, name: str, *, read_only: bool = True) -> Iterator[ThinVolume]:
        """Device *name* opened; changes are durable when the block ends, and gone if it fails.

        A file system that was not unmounted is seen as a mount would show it: its journal is replayed, for a
        writer on the device, for a reader in memory. In the kernel's engine a writer works on a snapshot that
        takes the device's place at the end; a reader of a device that is mounted reads a snapshot of this
        moment. A writer of a device that somebody has open gets a :class:`BusyError`.
        """
        with self.state.lock:
            if not read_only:
                self.keep_damage(name)
            device = self.get(name)
            self.engine.hold_open(name)
        try:
            with (
                self.deleting_drafts(),
                self.engine.reading(device) if read_only else self.engine.writing(device) as volume,
            ):
                yield volume
        finally:
            self.engine.let_go(name)
        if not read_only and not self.engine.writes_in_place:
            self.retry_deletions()

    @contextmanager
    def deleting_drafts(self) -> Iterator[None]:
        """If the block fails, delete the device that it was making beside other threads; else, later."""
        try:
            yield
        except BaseException:
            if self.engine.shared:
                with suppress(LamellaError):
                    self.retry_deletions()
            raise

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
        with self.state.lock, self._alone_in_kernel():
            self._delete(list(names), record, when_open)

    def _alone_in_kernel(self) -> AbstractContextManager[object]:
        """Keep readers out in the kernel's engine, whose nodes they have open; else only commits do that."""
        return self.state.alone() if self.engine.in_kernel else nullcontext()

    def _delete(
        self,
        names: Sequence[str],
        record: Callable[[sqlite3.Connection], None] | None,
        when_open: Callable[[str], None] | None,
    ) -> None:
        uses = {name: self._use_of(name) for name in names}
        for name in names:
            if when_open is not None and uses[name].may_be_open:
                when_open(name)
                uses[name] = self._use_of(name)
        busy = [use for use in uses.values() if use.is_open]
        if busy and not self.options.deferred_deletion:
            if busy[0].device is not None:
                self.engine.refuse_used(busy[0].device, f"delete device {busy[0].name}")
            raise BusyError(
                f"devmapper: Device {busy[0].name} is busy", hint="close it, or turn deferred deletion on"
            )

        def decide(connection: sqlite3.Connection) -> None:
            if record:
                record(connection)
            for name in names:
                self.state.mark_deleted(name)

        self._delete_marked(decide, [use for use in uses.values() if not use.is_open])

    def retry_deletions(self) -> None:
        """Delete in the pool what is marked as deleted and not open; what cannot be now waits."""
        with self.state.lock:
            if self.state.devices(deleted=True):
                with self._alone_in_kernel():
                    self._delete_marked()

    def _delete_marked(
        self, decide: Callable[[sqlite3.Connection], None] | None = None, free: Sequence[NamedUse] = ()
    ) -> None:
        """Delete what is marked, some of it by *decide*; nobody has any of *free* open."""
        note = None
        try:
            transactions.finish_interrupted(self.pool, self.state, discard=self.options.discard_on_delete)
        except (BusyError, NoSpaceError, ReadOnlyError) as error:
            if not self.options.deferred_deletion:
                raise
            if decide:
                with self.state.transaction() as connection:
                    decide(connection)
            self._put_off(self.state.devices(deleted=True), error)
            return
        active = [(use.device, use.info) for use in free if use.device is not None and use.info is not None]
        with self.engine.removing(active), self.state.transaction() as connection:
            if decide:
                decide(connection)
            marked = self.state.devices(deleted=True)
            known = {use.name for use in free}
            doomed = [each for each in marked if each.hash in known or not self._use_of(each.hash).is_open]
            if doomed:
                note = transactions.note_deletion(self.pool, self.state, doomed)
        for device in marked:
            if device not in doomed and device.hash not in self.engine.open_names:
                self.engine.remove_later(device)
        if note is None:
            return
        try:
            waiting = transactions.delete(self.pool, self.state, note, discard=self.options.discard_on_delete)
        except (BusyError, NoSpaceError, ReadOnlyError) as error:
            if not self.options.deferred_deletion:
                raise
            self._put_off(doomed, error)
            return
        self.engine.wait_until_removed(info for device, info in active if device.hash not in waiting)
        if waiting:
            self.warnings.append(f"{len(waiting)} devices will be deleted later: they are in use")

    def delete_unnamed(self, devices: Sequence[Device]) -> set[int]:
        """Delete thin devices that have no row, in one transaction; gives the ids of those that are open."""
        discard = self.options.discard_on_delete
        with self.state.lock:
            transactions.finish_interrupted(self.pool, self.state, discard=discard)
            with self.state.transaction():
                note = transactions.note_deletion(self.pool, self.state, devices)
            left = transactions.delete(self.pool, self.state, note, discard=discard)
        return {device.device_id for device in devices if device.hash in left}

    def _put_off(self, devices: Sequence[Device], error: LamellaError) -> None:
        if devices:
            self.warnings.append(f"{len(devices)} devices will be deleted later: {error.message}")

    def _use_of(self, name: str) -> NamedUse:
        device = self.state.device(name)
        info, is_open, may_be_open = self.engine.use_of(device)
        here = name in self.engine.open_names
        return NamedUse(name, device, info, here or is_open, here or may_be_open)

    def unknown_devices(self) -> tuple[list[int], list[Device]]:
        """Device ids in the pool that ``state.db`` does not have, and its devices that the pool lacks."""
        note = self.state.note()
        pending = {number for _, number in note.devices} if note else set()
        known = self.state.devices()
        in_pool = self.pool.device_ids()
        pending |= self.engine.temporary_ids()
        unknown = sorted(in_pool - {device.device_id for device in known} - pending)
        lost = [d for d in known if d.device_id not in in_pool and d.device_id not in pending]
        return unknown, lost
