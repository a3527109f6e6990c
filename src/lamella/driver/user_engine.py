# SPDX-License-Identifier: Apache-2.0
"""The user engine: this process maps the pool's blocks, and commits when a change is complete."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from lamella.closing import on_error
from lamella.driver.base_device import refuse_unformatted
from lamella.driver.device_engine import DeviceEngine, DeviceUse
from lamella.errors import LamellaError
from lamella.thin.engine.pool import Pool, PoolOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.driver.backend import PoolBackend, PoolDevices
    from lamella.driver.options import Options
    from lamella.driver.state import Device, State
    from lamella.thin.interface import ThinVolume

POOL_OPTIONS = PoolOptions(zero=False, error_if_no_space=True)
"""As Docker's pools, without zeroing: every volume is opened with ``zero_fresh``, which zeroes only
the parts of a fresh chunk that are not written. And nobody can add space while this process holds
the pool, so a full pool is an error at once instead of after a wait."""


class SharedPool(Pool):
    """A pool that several threads change at a time. None can roll back what the others have done meanwhile,
    so a transaction is no more than its steps, as in the kernel: each is durable with the next commit."""

    can_abort = False

    def begin(self, *, discard: bool = False) -> None:
        """Nothing: commits go on meanwhile."""

    def abort(self) -> None:
        """Nothing: what was done is undone by its opposite."""


class UserEngine(DeviceEngine):
    """The thin devices of a pool that is open in this process. Use :meth:`create` or :meth:`open`."""

    writes_in_place = True

    @classmethod
    def format(cls, state: State, backend: PoolBackend, options: Options) -> Self:
        """Format the pool on the backend's devices, which were just made."""
        devices = backend.open()
        with on_error(devices.close):
            pool = Pool.create(
                devices.metadata, devices.data, chunk_size=backend.chunk_size(options), options=POOL_OPTIONS
            )
        return cls(state, options, pool, devices)

    @classmethod
    def open(
        cls, state: State, backend: PoolBackend, options: Options, *, read_only: bool, shared: bool = False
    ) -> Self:
        """Open the pool on the backend's devices."""
        devices = backend.open(read_only=read_only)
        return cls._open(devices, state, backend, options, read_only=read_only, shared=shared)

    @classmethod
    def _open(
        cls,
        devices: PoolDevices,
        state: State,
        backend: PoolBackend,
        options: Options,
        *,
        read_only: bool,
        shared: bool = False,
    ) -> Self:
        kind = SharedPool if shared else Pool
        with on_error(devices.close):
            refuse_unformatted(devices, state, backend)
            pool = kind.open(devices.metadata, devices.data, options=POOL_OPTIONS, read_only=read_only)
        made = cls(state, options, pool, devices)
        made.shared, made.writes_in_place = shared, not shared
        return made

    def description(self) -> str:
        return "user engine"

    def grow_pool(self, backend: PoolBackend) -> list[str]:
        return backend.grow(self.pool_devices, self.options)

    @contextmanager
    def reading(self, device: Device) -> Iterator[ThinVolume]:
        with self.pool.open_volume(device.device_id, device.size, read_only=True) as volume:
            if self.needs_recovery(volume) and self.filesystem.written_here:
                from lamella.driver.journal_overlay import JournalOverlay

                yield JournalOverlay(volume)
            else:
                yield volume

    @contextmanager
    def writing(self, device: Device) -> Iterator[ThinVolume]:
        if self.shared:
            with self.replacing(device, device.size) as volume:
                yield volume
            return
        discard = self.options.discard_on_delete
        self.pool.begin(discard=discard)
        try:
            with self.pool.open_volume(device.device_id, device.size, zero_fresh=True) as volume:
                self._replay_journal(volume)
                yield volume
            mapped = self.pool.mapped_chunks(device.device_id)
            if device.mapped is not None and (mapped is None or mapped < device.mapped):
                self._record_mapped(device, mapped)  # before it is true: fewer than recorded are a loss
            with self.state.alone():
                self.pool.commit()
        except BaseException:
            # The error is what the caller must see. What cannot be rolled back now was never committed.
            with suppress(LamellaError):
                self.pool.abort()
                if discard:
                    self.pool.trim()
            raise
        if mapped != device.mapped:
            with suppress(LamellaError):  # what was written is durable, and a smaller number is true as well
                self._record_mapped(device, mapped)

    def _record_mapped(self, device: Device, mapped: int | None) -> None:
        with self.state.transaction():
            self.state.set_mapped({device.hash: mapped})

    @contextmanager
    def replacing(self, device: Device, size: int) -> Iterator[ThinVolume]:
        fresh = self._replacement(device, size)
        if self.shared:
            with self.making(fresh, device, self.retire(device)) as (_, volume):
                self._replay_journal(volume)
                yield volume
            return
        with self.creating(fresh, self.retire(device)), self._filling_snapshot(fresh, device) as volume:
            yield volume

    def use_of(self, device: Device | None) -> DeviceUse:
        """As for every engine; this one cannot see who has a device open."""
        return DeviceUse(may_be_open=True)


class InactivePoolReader(UserEngine):
    """A pool of the kernel's engine that is not active, read in this process without activating it."""

    @classmethod
    def open(
        cls,
        state: State,
        backend: PoolBackend,
        options: Options,
        *,
        read_only: bool = True,
        shared: bool = False,
    ) -> Self:
        """Open the pool on the backend's devices, for reading only."""
        devices = backend.open_inactive()
        return cls._open(devices, state, backend, options, read_only=True, shared=shared)

    def description(self) -> str:
        return "kernel engine, the pool is not active"

    def temporary_ids(self) -> set[int]:
        from lamella.driver.temporary_snapshots import TemporarySnapshots

        return TemporarySnapshots(self.state.path.parent).ids()  # the next command that writes removes them
