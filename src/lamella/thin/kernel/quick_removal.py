# SPDX-License-Identifier: Apache-2.0
"""Removing a device that is no longer needed, without waiting for the kernel to take it apart.

To remove a device the kernel waits several times until no processor can be looking at a part of it (RCU
grace periods, some 10 ms each), and only after the first of them does what lies below it go free. So the
device is given a table that uses nothing, which costs one such wait, and is marked to be removed when its
last user closes it. We are that, and the rest is done by a thread of the kernel's.

With one processor there are no grace periods to wait for: there a plain removal takes 10 ms, and giving
the device another table 28 ms (Linux 7.2, HZ=100; ``docs/explanation/benchmarks.md``).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.block import SECTOR
from lamella.block.system import explain
from lamella.devicemapper.nodes import QUIET_COOKIE
from lamella.devicemapper.table import Error
from lamella.errors import BusyError, LamellaError, NotFoundError

if TYPE_CHECKING:
    from lamella.devicemapper.client import DeviceInfo, DeviceMapper
    from lamella.devicemapper.table import Target

NAME_TIMEOUT = 1.0
"""Seconds that a removed device's name is waited for to go; mostly it is gone in one millisecond."""


def has_grace_periods() -> bool:
    """Whether the kernel has other processors to wait for."""
    return os.cpu_count() != 1


def quick_remove(dm: DeviceMapper, info: DeviceInfo) -> None:
    """Detach the device *info* from the devices below it, which are free then, and remove it.

    Only for a device whose content is no longer needed: a process that opens it concurrently, other than
    exclusively (O_EXCL, a mount), would get I/O errors. Its name may remain for a moment after this. Raises
    :class:`BusyError`, with nothing changed, if it is open.
    """
    if not has_grace_periods():
        if dm.info(info.name).number != info.number:
            raise NotFoundError(f"device {info.name} is not {info.number} any more")
        try:
            dm.remove(info.name, cookie=QUIET_COOKIE)
        except BusyError as error:
            raise BusyError(f"device {info.name} is in use") from error
        return
    try:
        node = os.open(info.node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(f"device {info.name} is not there") from error
    except OSError as error:
        raise explain(error, "open", info.node) from error
    try:
        now = dm.info(info.name)
        if os.fstat(node).st_rdev != os.makedev(now.major, now.minor):
            raise NotFoundError(f"device {info.name} is not {info.number} any more")
        if now.open_count > 1:
            raise BusyError(f"device {info.name} is in use")
        sectors = os.lseek(node, 0, os.SEEK_END) // SECTOR
        dm.load(info.name, [Error(0, sectors)])
        try:
            dm.resume(info.name, flush=False, freeze=False, cookie=QUIET_COOKIE)
        except BaseException:
            with suppress(LamellaError):
                dm.clear(info.name)
            raise
        with suppress(NotFoundError):
            dm.remove(info.name, deferred=True, cookie=QUIET_COOKIE)
    finally:
        os.close(node)


def finish_removal(dm: DeviceMapper, info: DeviceInfo, target: Target | None) -> bool:
    """Whether *info*, whose table is *target*, is what a removal left that was cut short; it goes then."""
    if not isinstance(target, Error) or info.open_count:
        return False
    with suppress(NotFoundError):
        dm.remove(info.name, deferred=True, cookie=QUIET_COOKIE)
    return True


def wait_until_gone(dm: DeviceMapper, name: str) -> None:
    """Wait until the device that was removed so has lost its name, or until the timeout."""
    end = time.monotonic() + NAME_TIMEOUT
    pause = 0.0005
    while dm.find(name) is not None and time.monotonic() < end:
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
