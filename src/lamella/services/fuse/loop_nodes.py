# SPDX-License-Identifier: Apache-2.0
"""Block devices for the user engine's volumes: loop devices over files that this process serves by FUSE.

The kernel detaches a loop device when its last user closes it. This process is one as long as the device is
attached; so a volume that is detached while it is mounted goes with its mount.

Where something is mounted when the process ends, its loop devices and the file system below them stay, and
requests wait until the next process goes on with them: ``docs/decisions/157-mounts-outlive-the-daemon.md``.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import loop
from lamella.block.system import explaining
from lamella.errors import LamellaError
from lamella.services.fuse import handover, leftovers
from lamella.services.fuse.attached import Attached
from lamella.services.fuse.handing_over import hand_over
from lamella.services.fuse.server import FuseServer, without_links
from lamella.services.fuse.taking_over import take_over

if TYPE_CHECKING:
    from lamella.driver.device_set import DeviceSet
    from lamella.services.fuse.keeping import Keeping

log = logs.logger(__name__)

BLKFLSBUF = 0x1261
_MAIN = threading.main_thread()
"""Threads that wait for requests are interrupted by a signal, whose handler only this thread may set."""
TABLE = "fuse.json"
_DETACH_TIMEOUT = 0.2
"""Seconds in which the kernel tells of the close of a loop device that nobody else had open."""
_END_TIMEOUT = 1.0
"""The same, for all of them at the end."""


class LoopNodes:
    """Those of one pool. The FUSE file system is mounted at *folder* when the first one is attached.

    *keeping* holds what is mounted from one process to the next; None: it ends with this one. The caller has
    the store alone: what another process has left in *folder* is taken over or ended here. A
    :class:`lamella.driver.device_nodes.DeviceNodes`.
    """

    def __init__(self, devices: DeviceSet, folder: Path, keeping: Keeping | None = None) -> None:
        self._devices = devices
        self._folder = without_links(folder)
        self._table = folder.parent / TABLE
        self._keeping = keeping
        self._lock = threading.RLock()
        self._server: FuseServer | None = None
        self._attached: dict[str, Attached] = {}
        self._leaving: list[Attached] = []
        """Detached, but still open."""
        self._count = 0
        if not self._take_over():
            leftovers.clear(self._folder)

    def _take_over(self) -> bool:
        """Go on with what an earlier process has handed over, if there is anything that fits."""
        table = handover.take(self._table)
        if self._keeping is None:
            return False
        taken = take_over(table, self._keeping, self._devices, self._folder)
        if taken is None:
            return False
        self._server = taken.server
        self._attached = {each.device: each for each in taken.attached}
        self._leaving = taken.leaving
        self._count = taken.count
        return True

    def attach(self, name: str, *, read_only: bool) -> Path:
        """The loop device of *name*. Raises what :class:`FuseServer` and :func:`loop.attach` raise."""
        with self._lock:
            found = self._attached.get(name)
            if found is None:
                found = self._attached[name] = self._attach(name, read_only=read_only)
            return Path(found.loop.path)

    def _attach(self, name: str, *, read_only: bool) -> Attached:
        if self._server is None:
            self._server = FuseServer(self._folder)
        engine, device = self._devices.engine, self._devices.get(name)
        self._count += 1
        file = f"{name[:12]}-{self._count}"  # one that is leaving has its own name still
        engine.hold_open(name)
        try:
            volume = engine.pool.open_volume(
                device.device_id, device.size, read_only=read_only, zero_fresh=True
            )
            try:
                path = self._server.add(file, volume, read_only=read_only)
                try:
                    attached = loop.attach_new(path, read_only=read_only, direct_io=True)
                except BaseException:
                    self._server.remove(file)
                    raise
            except BaseException:
                volume.close()
                raise
        except BaseException:
            engine.let_go(name)
            raise
        log.info("device %s is served as %s, on %s", name, path, attached.path)
        return Attached(name, device.device_id, file, volume, attached)

    def detach(self, name: str) -> bool:
        """Detach it, at once or when its last user closes it; whether it is gone."""
        with self._lock:
            found = self._attached.pop(name, None)
            if found is None:
                return not any(each.device == name for each in self._leaving)
            found.loop.close()
            self.finish_detaching()
            gone = self._let_go(found, _DETACH_TIMEOUT)
            if not gone:
                self._leaving.append(found)
            return gone

    def finish_detaching(self) -> None:
        """Let go of those that were detached while they were open, and have been closed since."""
        with self._lock:
            for each in list(self._leaving):
                if self._let_go(each, 0):
                    self._leaving.remove(each)

    def _let_go(self, leaving: Attached, timeout: float) -> bool:
        assert self._server is not None
        if not self._server.try_remove(leaving.file, timeout=timeout):
            return False
        leaving.close_volume(self._devices)
        log.info("device %s is not served any more", leaving.device)
        return True

    def is_open(self, name: str) -> bool:
        """Whether it is mounted, or a program has claimed it."""
        with self._lock:
            found = self._attached.get(name)
            return found is not None and _is_claimed(found.loop.path)

    def name_of(self, path: str) -> str | None:
        """The device whose loop device is at *path*."""
        with self._lock:
            return next((name for name, each in self._attached.items() if each.loop.path == path), None)

    def forget_cached(self, name: str) -> None:
        """Have the kernel read the loop device anew."""
        with self._lock:
            found = self._attached.get(name)
            if found is not None:
                with explaining("flush", found.loop.path):
                    fcntl.ioctl(found.loop.fd, BLKFLSBUF)

    def detach_unused(self) -> None:
        """Detach those that nobody has mounted."""
        with self._lock:
            for name in list(self._attached):
                if not self.is_open(name):
                    self.detach(name)
            self.finish_detaching()

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Hand over what is mounted, or else detach all and end the server: who still has one mounted then
        gets errors from then on."""
        with self._lock:
            if self._server is None or self._hand_over(self._server):
                return
            for each in self._attached.values():
                each.loop.close()
            end = time.monotonic() + _END_TIMEOUT
            cut = [
                each
                for each in [*self._attached.values(), *self._leaving]
                if not self._let_go(each, max(end - time.monotonic(), 0))
            ]
            for each in cut:
                log.info("device %s is cut off while %s is mounted", each.device, each.loop.path)
            self._end(cut)

    def _end(self, cut: list[Attached]) -> None:
        assert self._server is not None
        self._server.close()
        self._server = None
        self._forget(cut)

    def _forget(self, remaining: list[Attached]) -> None:
        self._attached.clear()
        self._leaving.clear()
        for each in remaining:
            each.close_volume(self._devices)

    def _hand_over(self, server: FuseServer) -> bool:
        """Leave everything to the next process, if anything is mounted; whether this is the end."""
        if self._keeping is None or server.number is None or threading.current_thread() is not _MAIN:
            return False
        self.finish_detaching()
        if not self._leaving and not any(self.is_open(name) for name in self._attached):
            return False
        attached = list(self._attached.values())
        try:
            hand_over(server, self._keeping, self._table, self._devices, attached, self._leaving)
        except LamellaError as error:
            log.info("what is mounted cannot be handed over, and is cut off: %s", error.message)
            for each in attached:
                each.loop.close()
            leftovers.clear(self._folder)
            self._end(attached + self._leaving)
        else:
            self._server = None
            self._forget(attached + self._leaving)
        return True


def _is_claimed(path: str) -> bool:
    """Whether the kernel or a program uses the block device for itself alone, as a mount does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError:
        return True
    with suppress(OSError):
        os.close(descriptor)
    return False
