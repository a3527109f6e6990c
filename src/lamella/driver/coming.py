# SPDX-License-Identifier: Apache-2.0
"""The block device of a container that is just being made, put up while the container is.

The kernel needs longest to register a block device, which it does when a device gets its first table. That
needs no thin device yet: so it is done with a table of zeros, in a thread, while the container is noted and
its snapshot made; and the thin device's table takes that one's place before anybody can see it.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING

from lamella.block import SECTOR
from lamella.devicemapper.nodes import QUIET_COOKIE, drop_name, make_name
from lamella.devicemapper.table import Zero
from lamella.driver.beside import Beside
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.devicemapper.client import DeviceMapper
    from lamella.devicemapper.kernel_pool import KernelPool
    from lamella.driver.state import Device


class Coming:
    """A device called *name* for thin device *device* of *pool*. :meth:`go_on` when that is in the pool."""

    def __init__(self, dm: DeviceMapper, name: str, pool: KernelPool, device: Device) -> None:
        self._dm = dm
        self._name = name
        self._table = pool.table_for(device.device_id, device.size)
        self._size = device.size
        self._is_there = Event()
        self._wanted = True
        self._work = Beside(self._put_up)

    def _put_up(self) -> Path | None:
        self._dm.create(self._name)
        try:
            self._dm.load(self._name, [Zero(0, self._size // SECTOR)])
            self._is_there.wait()
            if self._wanted:
                self._dm.load(self._name, [self._table])
                info = self._dm.resume(self._name, cookie=QUIET_COOKIE)
                return make_name(self._name, info.major, info.minor)
        except BaseException:
            self._remove()
            raise
        self._remove()
        return None

    def _remove(self) -> None:
        with suppress(LamellaError):
            self._dm.remove(self._name, cookie=QUIET_COOKIE, retry=1.0)
            drop_name(self._name)

    def go_on(self) -> None:
        """The thin device is in the pool: give the device its table."""
        self._is_there.set()

    def result(self) -> None:
        """Wait for it to be there. Raises what kept it from coming."""
        self._work.result()

    def take_back(self) -> None:
        """It is not wanted after all: wait for it, and remove it. Twice is harmless."""
        if not self._wanted:
            return
        self._wanted = False
        self._is_there.set()
        with suppress(LamellaError):
            if self._work.result() is not None:
                self._remove()
