# SPDX-License-Identifier: Apache-2.0
"""What the two engines have in common: how the thin devices of an open pool are made, read and written.

:mod:`lamella.driver.user_engine` maps the pool's blocks in this process, :mod:`lamella.driver.kernel_engine`
has the kernel do it; :mod:`lamella.driver.engines` chooses. They differ in what can be rolled back: the first
commits when it is told to, the second with every message, so there a writer works on a snapshot.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from lamella.driver import transactions
from lamella.errors import CorruptError, NoSpaceError, NotFoundError, UsageError
from lamella.fs.kinds import of_kind
from lamella.thin.format.limits import MAX_DEVICE_ID

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lamella.devicemapper.client import DeviceInfo
    from lamella.driver.backend import PoolBackend, PoolDevices
    from lamella.driver.options import Options
    from lamella.driver.state import Device, State
    from lamella.fs.filesystem import FileSystem
    from lamella.thin.interface import ThinPool, ThinVolume

    Record = Callable[[sqlite3.Connection, Device], None]


class DeviceUse(NamedTuple):
    """Who uses a device outside this process."""

    info: DeviceInfo | None = None
    """The kernel's device, if it is active."""
    is_open: bool = False
    may_be_open: bool = False
    """Whether somebody may have it open whom the engine cannot see."""


class DeviceEngine(ABC):
    """The thin devices of an open pool. What concerns the kernel alone does nothing unless overridden."""

    in_kernel = False
    """Whether the kernel maps the pool's blocks, and its devices have nodes."""
    writes_in_place: bool
    """Whether :meth:`writing` changes the device itself. Else a snapshot takes its place, and the device that
    was there is marked as deleted."""

    shared = False
    """Whether other threads use the pool meanwhile. Work that takes long is then done on a device that is
    marked as deleted until it is complete, outside of any transaction, and two short ones are around it
    (``docs/decisions/155-long-work-outside-of-transactions.md``)."""

    def __init__(self, state: State, options: Options, pool: ThinPool, pool_devices: PoolDevices) -> None:
        self.open_names: Counter[str] = Counter()
        """How often each device is open in this process, by name."""
        self.state = state
        self.options = options
        self.pool = pool
        self.pool_devices = pool_devices

    @cached_property
    def filesystem(self) -> FileSystem:
        """What is in all devices, and how it is read and written."""
        return of_kind(
            self.state.pool().base_filesystem or self.options.filesystem,
            mount_options=self.options.mount_options,
            max_retries=self.options.xfs_nospace_max_retries,
        )

    @abstractmethod
    def description(self) -> str:
        """The engine, in words for ``lamella info``."""

    def close(self) -> None:
        """Close the pool and its devices. Everything finished is durable already."""
        try:
            self.pool.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the pool's devices without committing or closing the pool."""
        self.pool_devices.close()

    @abstractmethod
    def grow_pool(self, backend: PoolBackend) -> list[str]:
        """Make the pool's devices as large as the options ask for; gives warnings."""

    # -- creating --------------------------------------------------------------------------------

    def create(
        self,
        device: Device,
        origin: Device | None,
        fill: Callable[[ThinVolume], object] | None = None,
        record: Record | None = None,
    ) -> Device:
        """Create *device* in one transaction: a snapshot of *origin*, or empty, then changed by *fill*.

        *record* adds rows to ``state.db`` that appear together with the device. If anything fails, the pool
        and ``state.db`` are as they were, and the error is raised.
        """
        if self.shared and fill:
            with self.making(device, origin, record) as (made, volume):
                fill(volume)
            return made
        if origin is not None and not fill:
            device = replace(device, mapped=origin.mapped)
        # An unfilled snapshot maps what its origin does, even if that is not known: it may be written to.
        with self.state.lock, self.creating(device, record, count=fill is not None) as made:
            self._create_in_pool(device, origin)
            if fill:
                with self.filling(device) as volume:
                    fill(volume)
        return made

    def _create_in_pool(self, device: Device, origin: Device | None) -> None:
        if origin is None:
            self.pool.create_thin(device.device_id)
        else:
            self.pool.create_snap(device.device_id, origin.device_id)

    @contextmanager
    def making(
        self, device: Device, origin: Device | None, record: Record | None = None
    ) -> Iterator[tuple[Device, ThinVolume]]:
        """Create *device* beside other threads' work: the block fills its volume.

        Until the block has ended, the device is recorded under a name of its own, as deleted: so it is
        removed if the block fails, and if the process dies. Gives it as it will be recorded.
        """
        draft = replace(device, hash=secrets.token_hex(32), deleted=True, mapped=0)
        self.hold_open(draft.hash)  # so that nobody deletes it yet
        try:
            with self.state.lock:
                draft = replace(draft, device_id=self.free_device_id())
                with self.creating(draft) as draft:
                    self._create_in_pool(draft, origin)
            made = replace(
                device, device_id=draft.device_id, transaction_id=draft.transaction_id, mapped=None
            )
            with self.filling(made) as volume:
                yield made, volume
            with self.state.lock:
                self._publish(draft, made, record)
        finally:
            self.let_go(draft.hash)

    def _publish(self, draft: Device, made: Device, record: Record | None) -> None:
        """Give *draft*, which is complete, its name."""
        mapped = self.pool.mapped_chunks(made.device_id)
        with self.state.transaction() as connection:
            self.state.drop_device(draft.hash)
            old = self.state.device(made.hash)
            if old is not None and old.deleted:
                raise NotFoundError(
                    f"device {made.hash} was removed while its successor was being written",
                    hint="see what there is: lamella ps, lamella images",
                )
            self.state.put_device(replace(made, mapped=mapped))
            if record:
                record(connection, made)

    def creating(
        self, device: Device, record: Record | None = None, *, count: bool = True
    ) -> AbstractContextManager[Device]:
        """The transaction in which the block creates *device*; see :func:`transactions.creating`."""
        return transactions.creating(
            self.pool, self.state, device, record, discard=self.options.discard_on_delete, count=count
        )

    @contextmanager
    def filling(self, device: Device) -> Iterator[ThinVolume]:
        """A volume that the open transaction has created, opened for writing."""
        with self.pool.open_volume(
            device.device_id, device.size, zero_fresh=self.filesystem.written_here
        ) as volume:
            yield volume
            if not self.pool.can_abort:
                volume.flush()  # else the transaction's commit does it, together with the transaction id

    @contextmanager
    def _filling_snapshot(self, device: Device, origin: Device) -> Iterator[ThinVolume]:
        """A snapshot of *origin*, with its journal replayed, for the block to change."""
        self.pool.create_snap(device.device_id, origin.device_id)
        with self.filling(device) as volume:
            self._replay_journal(volume)
            yield volume

    def retire(self, old: Device) -> Record:
        """What records that *old*, whose place another device takes, is to be deleted."""
        retired = replace(old, hash=secrets.token_hex(32), deleted=True)
        return lambda _, __: self.state.put_device(retired)

    # -- opening ---------------------------------------------------------------------------------

    def hold_open(self, name: str) -> None:
        """Record that device *name* is in use in this process, until :meth:`let_go`: it is not deleted."""
        with self.state.lock:
            self.open_names[name] += 1

    def let_go(self, name: str) -> None:
        """End one use of device *name*."""
        with self.state.lock:
            self.open_names[name] -= 1
            if not self.open_names[name]:
                del self.open_names[name]

    @abstractmethod
    def reading(self, device: Device) -> AbstractContextManager[ThinVolume]:
        """The device as a mount would show it, with its journal replayed, for reading only."""

    @abstractmethod
    def writing(self, device: Device) -> AbstractContextManager[ThinVolume]:
        """The device for writing: durable when the block ends, and unchanged if it fails."""

    @abstractmethod
    def replacing(self, device: Device, size: int) -> AbstractContextManager[ThinVolume]:
        """A snapshot of the device with *size* bytes, which takes its place when the block succeeds.

        The device that was there is marked as deleted.
        """

    def _replacement(self, device: Device, size: int) -> Device:
        return replace(device, device_id=self.free_device_id(), size=size, mapped=None)

    def needs_recovery(self, volume: ThinVolume) -> bool:
        """Whether the file system was not unmounted."""
        try:
            return self.filesystem.condition(volume).needs_recovery
        except (CorruptError, NotFoundError):
            return False  # whoever reads it says what is wrong with it

    def _replay_journal(self, volume: ThinVolume) -> None:
        if self.needs_recovery(volume):
            self.filesystem.recover(volume)

    # -- users and removal -----------------------------------------------------------------------

    @abstractmethod
    def use_of(self, device: Device | None) -> DeviceUse:
        """Who uses the device, None for one that ``state.db`` lacks, outside this process."""

    def refuse_used(self, device: Device, doing: str) -> None:  # noqa: B027 - the kernel's engine knows more
        """Raise :class:`BusyError`, naming who it is, if another process has the device open."""

    def removing(self, devices: Sequence[tuple[Device, DeviceInfo]]) -> AbstractContextManager[object]:
        """Remove the nodes of devices that are being deleted while the block runs, where there are any."""
        return nullcontext()

    def remove_later(self, device: Device) -> None:  # noqa: B027
        """Have the device's node removed when its last user closes it, if the options ask for that."""

    def wait_until_removed(self, removed: Iterable[DeviceInfo]) -> None:  # noqa: B027
        """Wait until the kernel has forgotten the names of devices that it was told to remove."""

    def reconcile(self, *, read_only: bool) -> list[str]:
        """Clean up what killed processes left and what was changed externally; gives what had to stay."""
        return []

    # -- device nodes ----------------------------------------------------------------------------

    def pool_node(self) -> Path:
        """The pool's node under ``/dev/mapper``. Raises :class:`UsageError` in the user engine."""
        raise self._no_nodes()

    def activate(self, device: Device) -> Path:
        """The device's node under ``/dev/mapper``, made if need be. Raises :class:`UsageError` likewise."""
        raise self._no_nodes()

    def deactivate(self, device: Device, *, deferred: bool = False) -> bool:
        """Remove the device's node, *deferred*: when it is closed; whether it is gone.

        Raises :class:`BusyError` naming who has it open, and :class:`UsageError` in the user engine.
        """
        raise self._no_nodes()

    def resize_active(self, device: Device, size: int) -> None:
        """Make an active device *size* bytes while it is in use. Raises :class:`UsageError` likewise."""
        raise self._no_nodes()

    def is_suspended(self) -> bool:
        """Whether the kernel has the pool suspended."""
        return False

    def _no_nodes(self) -> UsageError:
        return UsageError("the user-space engine has no device nodes", hint="use --engine kernel, as root")

    # -- device ids ------------------------------------------------------------------------------

    def free_device_id(self) -> int:
        """The next free id after the one given out last; after the largest comes 0."""
        number = self.state.pool().next_device_id
        for _ in range(MAX_DEVICE_ID + 1):
            number = (number + 1) & MAX_DEVICE_ID
            if not self.state.has_device_id(number) and not self.pool.has_device(number):
                return number
        raise NoSpaceError("devmapper: Unable to find a free device ID", hint="remove images or containers")

    def temporary_ids(self) -> set[int]:
        """Ids of the temporary snapshots in the pool, also those that killed processes left."""
        return set()
