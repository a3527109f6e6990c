# SPDX-License-Identifier: Apache-2.0
"""The kernel's engine: device-mapper maps the pool's blocks and commits with every message.

So a writer works on a snapshot, which takes the device's place in the transaction that ends the work; and a
reader of a device that is mounted reads a temporary snapshot.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Self

from lamella.devicemapper.nodes import mapper_path
from lamella.driver import reconcile
from lamella.driver.backend import PoolDevices
from lamella.driver.base_device import refuse_unformatted
from lamella.driver.device_engine import DeviceEngine, DeviceUse
from lamella.driver.kernel_devices import KernelDevices
from lamella.errors import BusyError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from lamella.devicemapper.client import DeviceInfo, DeviceMapper
    from lamella.driver.backend import PoolBackend
    from lamella.driver.device_engine import Record
    from lamella.driver.options import Options
    from lamella.driver.state import Device, State
    from lamella.thin.interface import ThinVolume


class KernelEngine(DeviceEngine):
    """The thin devices of a pool that is active in the kernel. Use :meth:`open`."""

    in_kernel = True
    writes_in_place = False

    def __init__(
        self, state: State, options: Options, pool_devices: PoolDevices, kernel: KernelDevices
    ) -> None:
        super().__init__(state, options, kernel.pool, pool_devices)
        self.kernel = kernel

    @classmethod
    def open(
        cls,
        dm: DeviceMapper,
        active: str | None,
        state: State,
        backend: PoolBackend,
        options: Options,
        *,
        read_only: bool,
    ) -> Self:
        """Use the pool called *active*, or activate it first. *dm* is closed with what is made."""
        name = active or _activate(dm, state, backend)
        root = state.path.parent
        reconcile.resume_suspended(dm, root, name, alone=not read_only)
        kernel = KernelDevices(dm, root, state, name)
        kernel.pool.check_usable()
        devices = PoolDevices(kernel.pool.metadata_device(), kernel.pool.data_device())
        return cls(state, options, devices, kernel)

    def description(self) -> str:
        version = ".".join(map(str, self.kernel.dm.version))
        return f"kernel engine, device-mapper {version}"

    def abandon(self) -> None:
        super().abandon()
        self.kernel.close()

    def grow_pool(self, backend: PoolBackend) -> list[str]:
        return backend.grow_active(self.kernel.dm, self.options)

    @contextmanager
    def creating(
        self, device: Device, record: Record | None = None, *, count: bool = True
    ) -> Iterator[Device]:
        with self.kernel.naming(device), super().creating(device, record, count=count) as made:
            yield made

    # -- opening ---------------------------------------------------------------------------------

    @contextmanager
    def reading(self, device: Device) -> Iterator[ThinVolume]:
        with ExitStack() as stack:
            device_id = device.device_id
            info = self.kernel.used(device)
            if info is not None and not self.kernel.pool.is_internal(info):
                device_id = stack.enter_context(self._temporary_snapshot(device))
            volume: ThinVolume = self.pool.open_volume(device_id, device.size, read_only=True)
            stack.callback(volume.close)
            if self.needs_recovery(volume):
                if self.filesystem.written_here:
                    from lamella.driver.journal_overlay import JournalOverlay

                    volume = JournalOverlay(volume)
                else:
                    # The kernel replays its log when it is mounted, so on a snapshot that may be written.
                    volume.close()
                    if device_id == device.device_id:
                        device_id = stack.enter_context(self._temporary_snapshot(device))
                    volume = self.pool.open_volume(device_id, device.size, zero_fresh=False)
                    stack.callback(volume.close)
            yield volume

    def _temporary_snapshot(self, device: Device) -> AbstractContextManager[int]:
        return self.kernel.temporaries.snapshot(device.device_id, self._used_ids)

    def _used_ids(self) -> set[int]:
        return {device.device_id for device in self.state.devices()} | self.pool.device_ids()

    def writing(self, device: Device) -> AbstractContextManager[ThinVolume]:
        return self.replacing(device, device.size)

    @contextmanager
    def replacing(self, device: Device, size: int) -> Iterator[ThinVolume]:
        """As for every engine; an active device is active again. Raises :class:`BusyError` if it is open."""
        was_active = self.kernel.is_active(device)
        self.refuse_used(device, f"write to device {device.hash}")
        fresh = self._replacement(device, size)
        if self.shared:

            def exchange(connection: sqlite3.Connection, made: Device) -> None:
                if was_active:
                    self.kernel.deactivate(device)  # raises if somebody has opened it meanwhile
                self.retire(device)(connection, made)

            with self.making(fresh, device, exchange) as (fresh, volume):
                self._replay_journal(volume)
                yield volume
        else:
            with self.creating(fresh, self.retire(device)):
                with self._filling_snapshot(fresh, device) as volume:
                    yield volume
                if was_active:
                    self.kernel.deactivate(device)
        if was_active:
            with self.state.transaction():
                self.state.set_mapped({device.hash: None})  # whoever uses it may discard
            self.kernel.activate(fresh)

    # -- users and removal -----------------------------------------------------------------------

    def use_of(self, device: Device | None) -> DeviceUse:
        if device is None:
            return DeviceUse()
        info = None
        with suppress(BusyError):  # the name is another device's, so it is not active
            info = self.kernel.pool.active(device.device_id)
        is_open = bool(info is not None and info.open_count)
        return DeviceUse(info, is_open, is_open)

    def refuse_used(self, device: Device, doing: str) -> None:
        self.kernel.refuse_used(device, doing)

    def removing(self, devices: Sequence[tuple[Device, DeviceInfo]]) -> AbstractContextManager[object]:
        # With discards, deleting needs the device once more.
        return nullcontext() if self.options.discard_on_delete else self.kernel.removing(devices)

    def remove_later(self, device: Device) -> None:
        if self.options.deferred_removal:
            self.kernel.deactivate(device, deferred=True)

    def wait_until_removed(self, removed: Iterable[DeviceInfo]) -> None:
        self.kernel.wait_until_removed(removed)

    def reconcile(self, *, read_only: bool) -> list[str]:
        self.kernel.clean_up(alone=not read_only)
        return [] if read_only else reconcile.remove_stale(self.kernel, self.state)

    # -- device nodes ----------------------------------------------------------------------------

    def pool_node(self) -> Path:
        return mapper_path(self.kernel.pool.dm_name)

    def activate(self, device: Device) -> Path:
        return self.kernel.activate(device)

    def deactivate(self, device: Device, *, deferred: bool = False) -> bool:
        return self.kernel.deactivate(device, deferred=deferred)

    def resize_active(self, device: Device, size: int) -> None:
        self.kernel.resize(device, size)

    def is_suspended(self) -> bool:
        return self.kernel.dm.info(self.kernel.pool.dm_name).suspended

    def temporary_ids(self) -> set[int]:
        return self.kernel.temporaries.ids()


def _activate(dm: DeviceMapper, state: State, backend: PoolBackend) -> str:
    """Activate the pool, unless it is that of a store which was formatted again; gives its name."""
    with backend.exclusive():
        name = backend.active(dm)  # LVM2's event-based activation may have activated it meanwhile
        if name is not None:
            return name
        with backend.open_inactive() as devices:
            refuse_unformatted(devices, state, backend)
        return backend.activate(dm)
