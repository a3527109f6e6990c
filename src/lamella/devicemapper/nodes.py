# SPDX-License-Identifier: Apache-2.0
"""Nodes of device-mapper devices: made by udev, which is then waited for, or by us where there is none.

The kernel makes ``/dev/dm-N`` itself (devtmpfs); a name under ``/dev/mapper`` is udev's work, by the
rules that come with LVM2. Whoever changes devices and wants udev to have done its part passes a *cookie*
with the change: a System V semaphore that ``dmsetup udevcomplete`` lowers at the end of the rules. Ours
is always removed again. Authority: libdevmapper.h (``DM_UDEV_*``) and the rules' text.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from enum import IntFlag
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.errors import BusyError, LamellaError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEV_MAPPER = Path("/dev/mapper")
UDEV_CONTROL = Path("/run/udev/control")
MAGIC = 0x0D4D
"""The upper half of the semaphore's key (DM_COOKIE_MAGIC)."""
IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_NOWAIT = 0o1000, 0o2000, 0, 0o4000
GETVAL, SETVAL = 12, 16


class Udev(IntFlag):
    """What udev's rules should leave undone, in the cookie's upper half."""

    NONE = 0
    NO_DM_RULES = 0x0001
    """Make no name under ``/dev/mapper``."""
    NO_SUBSYSTEM_RULES = 0x0002
    """Nothing of LVM's either."""
    NO_DISK_RULES = 0x0004
    """No names under ``/dev/disk``, and no look at what is on it."""
    NO_OTHER_RULES = 0x0008
    """Nothing of anybody else's."""
    LOW_PRIORITY = 0x0010
    NO_LIBRARY_FALLBACK = 0x0020
    PRIMARY_SOURCE = 0x0040
    """The change was meant; without it the rules take the event for an echo."""


PRIVATE = Udev.NO_SUBSYSTEM_RULES | Udev.NO_DISK_RULES | Udev.NO_OTHER_RULES
"""A device that is nobody else's business: only its name is made."""


def udev_runs() -> bool:
    """Whether udev serves this ``/dev``."""
    return UDEV_CONTROL.exists()


class _SemBuf(ctypes.Structure):
    _fields_ = (("num", ctypes.c_ushort), ("op", ctypes.c_short), ("flags", ctypes.c_short))


class Cookie:
    """A semaphore that udev lowers once for each change made with a :meth:`value` of it.

    Use :func:`udev_cookie`.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        while True:
            self.base = secrets.randbelow(0xFFFF) + 1
            self._id = self._libc.semget(
                ctypes.c_int(MAGIC << 16 | self.base), 1, IPC_CREAT | IPC_EXCL | 0o600
            )
            if self._id >= 0:
                break
            number = ctypes.get_errno()
            if number != errno.EEXIST:
                raise LamellaError(
                    f"cannot make a semaphore to wait for udev: {os.strerror(number)}",
                    hint="dmsetup udevcomplete_all removes those that others left",
                )
        self._libc.semctl(self._id, 0, SETVAL, ctypes.c_int(0))

    def value(self, flags: Udev = Udev.NONE) -> int:
        """What to pass as *cookie* to one change that makes a uevent: resume, remove, rename."""
        self._add(1, 0)
        return (flags | Udev.PRIMARY_SOURCE) << 16 | self.base

    def drop(self) -> None:
        """The change with the last value failed: no event will come."""
        self._add(-1, IPC_NOWAIT)

    def wait(self, timeout: float = 30.0) -> None:
        """Until udev has dealt with every change. Raises :class:`BusyError` naming the time-out."""
        end = time.monotonic() + timeout
        pause = 0.0005
        while self._libc.semctl(self._id, 0, GETVAL) > 0:
            if time.monotonic() > end:
                raise BusyError(
                    f"udev did not answer within {timeout:g} seconds",
                    hint="see what it is busy with: udevadm settle; journalctl -u systemd-udevd",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)

    def close(self) -> None:
        """Remove the semaphore."""
        if self._id >= 0:
            self._libc.semctl(self._id, 0, IPC_RMID)
            self._id = -1

    def _add(self, count: int, flags: int) -> None:
        step = _SemBuf(0, count, flags)
        self._libc.semop(self._id, ctypes.byref(step), 1)


@contextmanager
def udev_cookie(timeout: float = 30.0) -> Iterator[Cookie | None]:
    """A cookie for the changes in the block, waited for at its end; None where there is no udev."""
    if not udev_runs():
        yield None
        return
    cookie = Cookie()
    try:
        yield cookie
        cookie.wait(timeout)
    finally:
        cookie.close()


OWN_NODES = Udev.NO_DM_RULES | PRIVATE
"""udev leaves the device alone altogether; its name is made by :func:`make_name`, without a wait."""
QUIET_COOKIE = (OWN_NODES | Udev.PRIMARY_SOURCE) << 16
"""Passed where nobody waits for udev: flags without a semaphore."""


def mapper_path(name: str) -> Path:
    """``/dev/mapper/NAME``, with the bytes that udev does not allow in names written as it writes them."""
    return DEV_MAPPER / "".join(_mangled(each) for each in name)


def _mangled(character: str) -> str:
    if character.isalnum() or character in "#+-.:=@_" or ord(character) > 127:
        return character
    return f"\\x{ord(character):02x}"


def make_name(name: str, major: int, minor: int) -> Path:
    """``/dev/mapper/NAME`` for a device, a link as udev makes it, or a node where there is no devtmpfs."""
    path = mapper_path(name)
    number = os.makedev(major, minor)
    own = Path(f"/dev/dm-{minor}")
    with suppress(OSError):
        if path.stat().st_rdev == number:
            return path
    with suppress(FileNotFoundError):
        path.unlink()
    path.parent.mkdir(exist_ok=True)
    with suppress(OSError):
        if own.stat().st_rdev == number:
            path.symlink_to(f"../dm-{minor}")
            return path
    os.mknod(path, stat.S_IFBLK | 0o600, number)
    return path


def drop_name(name: str) -> None:
    """Remove ``/dev/mapper/NAME``; that it is not there is no error."""
    with suppress(FileNotFoundError):
        mapper_path(name).unlink()
