# SPDX-License-Identifier: Apache-2.0
"""A store's parts, open: its lock, ``state.db``, the pool's backend and, on first use, the pool's devices."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from lamella.closing import on_error
from lamella.driver import backends, engines, options, transactions
from lamella.errors import CorruptError
from lamella.store.catalog import Catalog
from lamella.store.claims import Claims
from lamella.store.config import Config
from lamella.store.lock import Lock, host_of
from lamella.store.set_up_state import open_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from lamella.driver.backend import Engine, PoolBackend
    from lamella.driver.device_set import DeviceSet
    from lamella.driver.state import State
    from lamella.store.layers import Layers
    from lamella.store.root import Root
    from lamella.store.snapshots import Snapshots


class Opened:
    """One open store. It owns *lock*, *state* and *devices*, which :meth:`close` closes.

    *engine* is as for :meth:`lamella.store.Store.open`; *devices* are those of a pool that is open already.
    """

    def __init__(
        self,
        root: Root,
        config: Config,
        lock: Lock,
        state: State,
        backend: PoolBackend,
        *,
        read_only: bool = False,
        engine: str = "auto",
        devices: DeviceSet | None = None,
        warnings: Sequence[str] = (),
        claims: Claims | None = None,
    ) -> None:
        self.root = root
        self.lock = lock
        self.state = state
        self.backend = backend
        self.claims = claims or Claims()
        self.catalog = Catalog(state, self.claims)
        if not read_only:
            state.alone = lock.alone
        self.read_only = read_only
        self._options = options.parse(config.storage_options, config.mode)
        self._requested_engine = engines.asked_for(engine, config.engine)
        self._devices = devices
        self._warnings = warnings

    @classmethod
    def open(cls, root: Root, *, read_only: bool = False, wait: float = 0.0, engine: str = "auto") -> Opened:
        """Open the store at *root*, and clean up in it unless *read_only*; see :meth:`Store.open`."""
        host = host_of(root.lock)
        if host is not None:
            shared: Opened = host.opened(read_only=read_only, engine=engine)
            return shared
        config = Config.load(root.config)
        lock = Lock(root.lock, exclusive=not read_only, wait=wait)
        with on_error(lock.close), lock.briefly():
            state = open_state(root, config, read_only=read_only, has_writer=lock.has_writer)
            backend = backends.backend(config.mode, root.path)
            backend.beside_writer = read_only and lock.has_writer()
            opened = cls(root, config, lock, state, backend, read_only=read_only, engine=engine)
            if not read_only:
                opened.clean_up()
        return opened

    def clean_up(self) -> None:
        """Remove what an interrupted command left: scratch files, unfinished devices, unused layers.

        A failure closes the store. Raises :class:`CorruptError` where the record does not hold together.
        """
        with on_error(self.close):
            self.catalog.require_whole()
            shutil.rmtree(self.root.scratch, ignore_errors=True)
            if self.root.mounts.is_dir():
                from lamella.store import mount_points

                mount_points.remove_stale(self.root)
            pending = self.state.note() is not None or self.state.devices(deleted=True)
            if pending or self.catalog.unused_tops():
                self.layers.drop_unused()

    @property
    def warnings(self) -> list[str]:
        """What a user should know about this store; also what happened while it was opened."""
        opened = self._devices.warnings if self._devices else []
        return [*self._warnings, *opened, *self.backend.warnings()]

    @cached_property
    def engine(self) -> Engine:
        """What maps the pool's blocks: "user" or "kernel"."""
        if self._devices is not None:
            return self.backend.engine
        return engines.choose(self._requested_engine, self.backend)

    @property
    def devices(self) -> DeviceSet:
        """The named devices on the pool, which is opened on first use."""
        if self._devices is None:
            from lamella.driver.device_set import DeviceSet

            self.backend.engine = self.engine
            self._devices = DeviceSet.open(self.state, self.backend, self._options, read_only=self.read_only)
            if not self.read_only:
                self._devices.record_mapped(self.catalog.devices_without_count())
        return self._devices

    @cached_property
    def layers(self) -> Layers:
        """The layers on the pool."""
        from lamella.store.layers import Layers

        return Layers(self.state, self.catalog, self.devices, self.claims)

    @cached_property
    def snapshots(self) -> Snapshots:
        """containerd's snapshots, none of which is mounted by this process."""
        from lamella.driver.device_nodes import KernelNodes, NoNodes
        from lamella.store.snapshots import Snapshots

        kernel = self.devices.in_kernel
        nodes = KernelNodes(self.devices) if kernel else NoNodes("no process serves it: lamella serve")
        return Snapshots(self.devices, self.claims, nodes)

    @cached_property
    def mismatch(self) -> CorruptError | None:
        """The error that says that the pool is not of the same moment as ``state.db``; None if it is.

        None also where the pool cannot be read now: who opens it is told.
        """
        if self._devices is not None:
            return None  # opening it compared them
        for _ in range(3):
            before = self.state.pool(), self.state.note()
            in_pool = self.backend.transaction_id()
            if in_pool is None:
                return None
            if before == (self.state.pool(), self.state.note()):  # no writer has come between
                try:
                    transactions.compare_id(in_pool, self.state)
                except CorruptError as error:
                    return error
                return None
        return None

    def turn(self) -> AbstractContextManager[object]:
        """Keep the other threads of this process from changing the store while the block runs."""
        return self.state.lock

    @contextmanager
    def beside_readers(self) -> Iterator[None]:
        """Let readers see the last commit while the block runs: for work that takes long."""
        if self._devices is None:
            with self.lock.briefly():
                self.devices  # noqa: B018 - opened while nobody reads
        with self.lock.beside_readers():
            yield

    def close_devices(self) -> None:
        """Close the pool and its devices, if they are open."""
        if self._devices is not None:
            self._devices.close()
            self._devices = None

    def close(self) -> None:
        """Close everything and release the lock. Closing twice is harmless."""
        with self.lock.waited_for():
            try:
                self.close_devices()
            finally:
                try:
                    self.state.close()
                finally:
                    self.lock.close()


def remove_kernel_devices(backend: PoolBackend, root: Root) -> None:
    """Remove the store's devices and its pool from device-mapper, if they are there."""
    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.kernel_devices import deactivate_all

    with DeviceMapper() as dm:
        deactivate_all(dm, backend, root.path)
