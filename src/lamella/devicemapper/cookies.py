# SPDX-License-Identifier: Apache-2.0
"""udev cookies: flags that tell udev's rules what to skip for a change to a device, and the wait for them.

A cookie is a System V semaphore that ``dmsetup udevcomplete`` lowers at the end of the rules. The kernel
keeps such a semaphore for ever, also when its process is killed; so each one made here has a locked file
beside it while it is in use, and creating the next cookie removes those whose lock is no longer held.
Authority: libdevmapper.h (``DM_UDEV_*``) and the text of the rules.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import struct
import time
from contextlib import contextmanager, suppress
from enum import IntFlag
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block.system import explain
from lamella.errors import BusyError, LamellaError

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator

UDEV_CONTROL = Path("/run/udev/control")
UDEV_QUEUE = Path("/run/udev/queue")
"""There while udev has events to deal with."""
RECORDS = Path("/run/lamella/cookies")
"""One file for each semaphore made here, locked while it is in use; its name is the key."""
MAGIC = 0x0D4D
"""The upper half of the semaphore's key (DM_COOKIE_MAGIC)."""
FIRST_IPC_NAMESPACE = "ipc:[4026531839]"
IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_NOWAIT = 0o1000, 0o2000, 0, 0o4000
SETVAL = 16
SLICE = 1.0
"""Seconds after which a wait looks whether udev is still there."""


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
    """No other rules."""
    LOW_PRIORITY = 0x0010
    NO_LIBRARY_FALLBACK = 0x0020
    PRIMARY_SOURCE = 0x0040
    """The change was meant; without it the rules take the event for an echo."""


PRIVATE = Udev.NO_SUBSYSTEM_RULES | Udev.NO_DISK_RULES | Udev.NO_OTHER_RULES
"""A device that other programs are to ignore: only its name is made."""
OWN_NODES = Udev.NO_DM_RULES | PRIVATE
"""udev ignores the device; its name is made here, without a wait."""
QUIET_COOKIE = (OWN_NODES | Udev.PRIMARY_SOURCE) << 16
"""Passed where udev is not waited for: flags without a semaphore."""


def udev_runs() -> bool:
    """Whether udev serves this ``/dev`` and can answer us: a daemon listens, and sees our semaphores.

    In a container with System V semaphores of its own it could not lower them.
    """
    with suppress(OSError):
        if os.readlink("/proc/self/ns/ipc") != FIRST_IPC_NAMESPACE:
            return False
    if not UDEV_CONTROL.exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as caller:
        caller.setblocking(False)
        try:
            caller.connect(os.fspath(UDEV_CONTROL))
        except (ConnectionRefusedError, FileNotFoundError):
            return False  # what a daemon that was killed left behind
        except OSError:
            return True  # its queue is full, or it speaks another kind of socket
    return True


class Cookie:
    """A semaphore that udev lowers once for each change made with a :meth:`value` of it.

    Use :func:`udev_cookie`.
    """

    def __init__(self) -> None:
        self._libc = _libc()
        remove_abandoned()
        self._id = self._record = -1
        while self._id < 0:
            self.base = secrets.randbelow(0xFFFF) + 1
            self._path = RECORDS / f"{_key(self.base):08x}"
            self._record = _claim(self._path)
            if self._record < 0:
                continue
            try:
                self._id = self._libc.semget(_key(self.base), 1, IPC_CREAT | IPC_EXCL | 0o600)
                number = _errno()
            finally:
                if self._id < 0:
                    self._drop_record()
            if self._id < 0 and number != errno.EEXIST:
                raise LamellaError(
                    f"cannot make a semaphore to wait for udev: {os.strerror(number)}",
                    hint="ipcs -s lists them, dmsetup udevcomplete_all removes those that others left",
                )
        self._libc.semctl(self._id, 0, SETVAL, 0)

    def value(self, flags: Udev = Udev.NONE) -> int:
        """What to pass as *cookie* to one change that makes a uevent: resume, remove, rename."""
        self._add(1, 0)
        return (flags | Udev.PRIMARY_SOURCE) << 16 | self.base

    def drop(self) -> None:
        """The change with the last value failed: no event will come."""
        self._add(-1, IPC_NOWAIT)

    def wait(self, timeout: float = 30.0) -> None:
        """Until udev has dealt with every change.

        Raises :class:`BusyError` naming the time-out, or at once when udev is found to have ended. A udev
        that has other events before ours, of many devices on a slow machine, is given ten times as long.
        """
        begun = time.monotonic()
        while (past := time.monotonic() - begun) < timeout or (past < 10 * timeout and UDEV_QUEUE.exists()):
            if self._is_zero(min(SLICE, timeout)):
                return
            if not udev_runs():
                raise BusyError(
                    "udev ended before it had processed the devices' changes",
                    hint="start it, and trigger it again: systemctl start systemd-udevd; udevadm trigger",
                )
        if not self._is_zero(0):
            raise BusyError(
                f"udev did not answer within {timeout:g} seconds",
                hint="see what it is processing: udevadm settle; journalctl -u systemd-udevd",
            )

    def close(self) -> None:
        """Remove the semaphore; twice is harmless."""
        if self._id >= 0:
            self._libc.semctl(self._id, 0, IPC_RMID, 0)
            self._id = -1
        self._drop_record()

    def _is_zero(self, timeout: float) -> bool:
        """Wait for it; true also when the semaphore was removed, which ends all waiting."""
        import ctypes

        step = ctypes.create_string_buffer(struct.pack("=Hhh", 0, 0, 0))
        limit = ctypes.create_string_buffer(struct.pack("@ll", int(timeout), int(timeout % 1 * 1e9)))
        if self._libc.semtimedop(self._id, step, 1, limit) == 0:
            return True
        return _errno() not in (errno.EAGAIN, errno.EINTR)

    def _add(self, count: int, flags: int) -> None:
        import ctypes

        step = ctypes.create_string_buffer(struct.pack("=Hhh", 0, count, flags))
        while self._libc.semop(self._id, step, 1) != 0:
            number = _errno()
            if number == errno.EINTR:
                continue
            if count < 0:
                return  # lowered already, or removed: no process waits for it
            raise LamellaError(
                f"the semaphore to wait for udev cannot be raised: {os.strerror(number)}",
                hint="it was removed (dmsetup udevcomplete_all does that); run the command again",
            )

    def _drop_record(self) -> None:
        if self._record >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._record)
            self._record = -1


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


def remove_abandoned() -> int:
    """Remove the semaphores made here whose processes were killed; returns how many there were."""
    count = 0
    try:
        records = list(RECORDS.iterdir())
    except FileNotFoundError:
        return 0
    for path in records:
        with suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                number = int(path.name, 16)
                if number >> 16 == MAGIC and (found := _libc().semget(_signed(number), 1, 0)) >= 0:
                    _libc().semctl(found, 0, IPC_RMID, 0)
                    count += 1
                path.unlink()
            except ValueError:
                path.unlink()  # no record
            finally:
                os.close(handle)
    return count


def _claim(path: Path) -> int:
    """A locked record, or -1 if another process has it."""
    try:
        RECORDS.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return -1
    except OSError as error:
        raise explain(error, "make", str(path)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(handle).st_ino:
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass  # taken for an abandoned one between the two
    os.close(handle)
    return -1


def _key(base: int) -> int:
    return _signed(MAGIC << 16 | base)


def _signed(key: int) -> int:
    return key - (1 << 32) if key >= 1 << 31 else key


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _errno() -> int:
    import ctypes

    return ctypes.get_errno()
