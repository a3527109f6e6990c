# SPDX-License-Identifier: Apache-2.0
"""Block devices for the user engine's volumes: loop devices over files that this process serves by FUSE.

The kernel detaches a loop device when its last user closes it. This process is one as long as the device is
attached; so a volume that is detached while it is mounted goes with its mount.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import loop
from lamella.block.system import explaining
from lamella.errors import BusyError
from lamella.services.fuse.server import FuseServer

if TYPE_CHECKING:
    from lamella.driver.device_set import DeviceSet
    from lamella.thin.interface import ThinVolume

log = logs.logger(__name__)

BLKFLSBUF = 0x1261


@dataclass
class _Attached:
    """A volume with its file and its loop device."""

    device: str
    file: str
    volume: ThinVolume
    loop: loop.LoopDevice


class LoopNodes:
    """Those of one pool. The FUSE file system is mounted at *folder* when the first one is attached.

    A :class:`lamella.driver.device_nodes.DeviceNodes`.
    """

    def __init__(self, devices: DeviceSet, folder: Path) -> None:
        self._devices = devices
        self._folder = folder
        self._lock = threading.RLock()
        self._server: FuseServer | None = None
        self._attached: dict[str, _Attached] = {}
        self._leaving: list[_Attached] = []
        """Detached, but still open."""
        self._count = 0

    def attach(self, name: str, *, read_only: bool) -> Path:
        """The loop device of *name*. Raises what :class:`FuseServer` and :func:`loop.attach` raise."""
        with self._lock:
            found = self._attached.get(name)
            if found is None:
                found = self._attached[name] = self._attach(name, read_only=read_only)
            return Path(found.loop.path)

    def _attach(self, name: str, *, read_only: bool) -> _Attached:
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
        return _Attached(name, file, volume, attached)

    def detach(self, name: str) -> bool:
        """Detach it, at once or when its last user closes it; whether it is gone."""
        with self._lock:
            found = self._attached.pop(name, None)
            if found is None:
                return not any(each.device == name for each in self._leaving)
            found.loop.close()
            self._leaving.append(found)
            self.finish_detaching()
            return found not in self._leaving

    def finish_detaching(self) -> None:
        """Let go of those that were detached while they were open, and have been closed since."""
        with self._lock:
            for each in list(self._leaving):
                if self._let_go(each):
                    self._leaving.remove(each)

    def _let_go(self, leaving: _Attached) -> bool:
        assert self._server is not None
        try:
            self._server.remove(leaving.file)
        except BusyError:
            return False
        leaving.volume.close()
        self._devices.engine.let_go(leaving.device)
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

    def close(self) -> None:
        """Detach all, and end the server. Who still has one mounted gets errors from then on."""
        with self._lock:
            for name in list(self._attached):
                self.detach(name)
            self.finish_detaching()
            for each in self._leaving:
                log.info("device %s is cut off while %s is mounted", each.device, each.loop.path)
            if self._server is not None:
                self._server.close()
                self._server = None
            for each in self._leaving:
                each.volume.close()
                self._devices.engine.let_go(each.device)
            self._leaving.clear()


def _is_claimed(path: str) -> bool:
    """Whether the kernel or a program uses the block device for itself alone, as a mount does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError:
        return True
    with suppress(OSError):
        os.close(descriptor)
    return False
