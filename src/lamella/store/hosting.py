# SPDX-License-Identifier: Apache-2.0
"""A store that this process keeps open for writing, and that its threads share.

Each thread gets a :class:`lamella.store.Store` of its own by :meth:`HostedStore.store`, or just opens the
store, as in a process that has it alone: readers have their own connection to ``state.db``, with what was
committed when they opened it; writers share one, whose lock is held only for what is short. Work that takes
long is done outside of it (``docs/decisions/155-long-work-outside-of-transactions.md``).
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from lamella import logs
from lamella.closing import Closing, on_error
from lamella.driver import backends, engines, options
from lamella.driver.device_nodes import KernelNodes, NoNodes
from lamella.driver.device_set import DeviceSet
from lamella.errors import BusyError, LamellaError, UsageError
from lamella.interruptible import make_lock, uninterrupted
from lamella.store.claims import Claims
from lamella.store.collector import Collector
from lamella.store.config import Config
from lamella.store.damaged import discrepancies
from lamella.store.lock import HostedLock, Lock, hosts
from lamella.store.opening import Opened
from lamella.store.root import Root
from lamella.store.set_up_state import open_state
from lamella.store.snapshots import Snapshots
from lamella.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lamella.driver.backend import Engine
    from lamella.driver.device_nodes import DeviceNodes
    from lamella.store.root import Place

log = logs.logger(__name__)


class HostedStore(Closing):
    """The store in one folder, until :meth:`close`. Use :meth:`open`. Any thread may call its methods.

    *make_nodes* gives the block devices of the user engine's snapshots; None: they have none.
    """

    def __init__(
        self,
        root: Root,
        lock: Lock,
        engine: str,
        make_nodes: Callable[[DeviceSet], DeviceNodes] | None,
        *,
        async_remove: bool,
    ) -> None:
        self._root = root
        self._lock = lock
        self._requested_engine = engine
        self._make_nodes = make_nodes
        self._async_remove = async_remove
        self._config = Config.load(root.config)
        self._claims = Claims()
        self._sessions = 0
        self._changed = threading.Condition(make_lock())  # type: ignore[arg-type]
        self._shut = False
        self._collector = Collector(self._collect)
        self._open()

    @classmethod
    def open(
        cls,
        root: Place = None,
        *,
        engine: str = "auto",
        wait: float = 0.0,
        make_nodes: Callable[[DeviceSet], DeviceNodes] | None = None,
        async_remove: bool = False,
    ) -> HostedStore:
        """Open the store at *root* for the threads of this process; *engine* and *wait* are as for
        :meth:`lamella.store.Store.open`.

        Raises what that raises, :class:`BusyError` also where this process has it open already.
        """
        place = Root.at(root)
        Config.load(place.config)  # else the lock would be made in a folder without a store
        lock = Lock(place.lock, exclusive=True, wait=wait)
        with on_error(lock.close):
            made = cls(place, lock, engine, make_nodes, async_remove=async_remove)
            with on_error(made._close_parts):
                session = made.opened(read_only=False, engine="auto")
                session.clean_up()
                for finding in discrepancies(session.catalog, session.devices):
                    log.info("%s", finding)
                session.close()
            hosts[os.path.realpath(place.lock)] = made
        return made

    def _open(self) -> None:
        backend = backends.backend(self._config.mode, self._root.path)
        parsed = options.parse(self._config.storage_options, self._config.mode)
        backend.engine = engines.choose(
            engines.asked_for(self._requested_engine, self._config.engine), backend, parsed
        )
        state = open_state(self._root, self._config, read_only=False, shared=True)
        with on_error(state.close):
            devices = DeviceSet.open(state, backend, parsed, shared=True)
        self._backend, self._options, self._state, self._devices = backend, parsed, state, devices
        with on_error(self._close_parts):
            self.nodes = self._nodes()
            self._snapshots = Snapshots(
                devices,
                self._claims,
                self.nodes,
                use=self.in_use,
                later=self._collector.wake,
                async_remove=self._async_remove,
            )
        for warning in devices.warnings:
            log.info("%s", warning)

    def _collect(self) -> bool:
        """Delete what could not be deleted when it was removed; whether nothing of that is left."""
        try:
            return self.snapshots.clean_up()
        except LamellaError as error:
            log.info("what was removed is deleted later: %s", error.message)
            return False

    def _nodes(self) -> DeviceNodes:
        if self._devices.in_kernel:
            return KernelNodes(self._devices)
        if self._make_nodes is not None:
            return self._make_nodes(self._devices)
        return NoNodes("the user engine has no block devices of its own")

    # -- what it is ------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._root.path

    @property
    def engine(self) -> Engine:
        """What maps the pool's blocks: "user" or "kernel"."""
        return self._backend.engine

    @property
    def devices(self) -> DeviceSet:
        """The pool's devices, which the threads share."""
        return self._devices

    @property
    def snapshots(self) -> Snapshots:
        """containerd's snapshots; to be asked for anew for each call."""
        return self._snapshots

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the store open while the block runs. Raises :class:`BusyError` where it is not."""
        begun = False
        try:
            with self._changed:
                self._refuse_shut()
                self._sessions += 1
                begun = True
            yield
        finally:
            if begun:
                self._end_session()

    def store(self, *, read_only: bool = False) -> Store:
        """A store for one thread. Closing it closes nothing that is shared."""
        return Store(self.opened(read_only=read_only, engine="auto"))

    # -- as the lock's host ----------------------------------------------------------------------

    def turn(self) -> AbstractContextManager[object]:
        """Keep the other threads from changing the store while the block runs."""
        return self._state.lock

    def opened(self, *, read_only: bool, engine: str) -> Opened:
        """The store as one thread uses it."""
        asked = engines.asked_for(engine, "")
        if asked not in ("auto", self.engine):
            raise UsageError(
                f"the store {self.root} is being served with the {self.engine} engine",
                hint="leave out --engine, or stop the process that serves it",
            )
        with uninterrupted():  # what is counted here ends with the session
            with self._changed:
                self._refuse_shut()
                self._sessions += 1
            with on_error(self._end_session):
                state = self._state
                if read_only:
                    state.commit_lazy()
                    state = open_state(self._root, self._config, read_only=True, has_writer=lambda: True)
                    state.begin_reading()
                devices = DeviceSet(state, self._backend, self._options, self._devices.engine)
                return Session(self, devices, read_only=read_only)

    def _end_session(self) -> None:
        with self._changed:
            self._sessions -= 1
            self._changed.notify_all()

    def _refuse_shut(self) -> None:
        if self._shut:
            raise BusyError(
                f"the store {self.root} is closed for a moment, or for good",
                hint="try again when the command that has it alone has ended",
            )

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Close the pool and ``state.db`` while the block runs, which opens them itself.

        Raises :class:`BusyError` if another thread uses them, or a snapshot is mounted.
        """
        with self._changed:
            self._refuse_shut()
            if self._sessions:
                raise BusyError(
                    f"the store {self.root} is in use by another command, or by containerd",
                    hint="wait for it to finish",
                )
            self._shut = True
        try:
            self.nodes.detach_unused()
            if self._devices.engine.open_names:
                raise BusyError(
                    f"{len(self._devices.engine.open_names)} snapshots of the store {self.root} are mounted",
                    hint="stop the containers that use them",
                )
            with uninterrupted():
                self._close_parts()
            try:
                yield
            finally:
                with uninterrupted():
                    self._config = Config.load(self._root.config)
                    self._open()
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()

    # -- the end ---------------------------------------------------------------------------------

    def _close_parts(self) -> None:
        try:
            nodes = getattr(self, "nodes", None)
            if nodes is not None:
                nodes.close()
        finally:
            try:
                self._devices.close()
            finally:
                self._state.close()

    def close(self) -> None:
        """Wait for the threads that use it, and close it. Closing twice is harmless."""
        with self._changed:
            if self._shut:
                return
            self._shut = True
        self._collector.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._sessions)
        try:
            self._close_parts()
        finally:
            with suppress(KeyError):
                del hosts[os.path.realpath(self._root.lock)]
            self._lock.close()


class Session(Opened):
    """A hosted store as one thread uses it."""

    def __init__(self, host: HostedStore, devices: DeviceSet, *, read_only: bool) -> None:
        self._host: HostedStore | None = host
        super().__init__(
            host._root,
            host._config,
            HostedLock(host._root.lock, host),
            devices.state,
            host._backend,
            read_only=read_only,
            devices=devices,
            claims=host._claims,
        )

    @cached_property
    def snapshots(self) -> Snapshots:
        """containerd's snapshots, as they are served."""
        assert self._host is not None
        return self._host.snapshots

    def __del__(self) -> None:
        """Close what an interruption has lost between being opened and being closed."""
        if getattr(self, "_host", None) is not None:
            self.close()

    def close_devices(self) -> None:
        """Nothing: they are shared."""

    def close(self) -> None:
        """End this thread's use of the store. Closing twice is harmless."""
        if self._host is None:
            return
        with uninterrupted():
            host, self._host = self._host, None
            try:
                if self.read_only:
                    self.state.close()
            finally:
                host._end_session()
        for warning in self.devices.warnings:
            log.info("%s", warning)
