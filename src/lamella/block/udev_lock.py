# SPDX-License-Identifier: Apache-2.0
"""An exclusive lock on a block device that udev may have open.

udev holds a shared ``flock`` on a block device while its rules run, which they do whenever a process has
closed the device after writing. It only reads; but its rules may run LVM's ``pvscan``, which waits for locks
of LVM's that we may hold: waiting for udev here would deadlock. So an exclusive lock is taken if
possible, and else a shared one beside udev's, which keeps all others out that lock in this way.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from lamella.block.held_locks import held_locks
from lamella.errors import BusyError

UDEV = ("systemd-udevd", "(udev-worker)", "udevd")


def lock_beside_udev(descriptor: int, path: str) -> None:
    """Lock the open block device for writing. Raises :class:`BusyError` if others than udev hold it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if not _shared_with_udev(descriptor):
            raise BusyError(
                f"{path} is in use by another program", hint="wait for it to finish, or stop it"
            ) from error


def _shared_with_udev(descriptor: int) -> bool:
    """Whether a shared lock was taken, which only udev shares."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    others = lock_holders(descriptor) - {os.getpid()}
    if all(is_udev(process) for process in others):
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def lock_holders(descriptor: int) -> set[int]:
    """Processes that hold a ``flock`` on the file that is open as *descriptor*; -1 for unknown ones."""
    found = os.fstat(descriptor)
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}", found.st_ino
    try:
        return {process for process, *where in held_locks() if tuple(where) == wanted}
    except OSError:
        return {-1}


def is_udev(process: int) -> bool:
    """Whether the process is udev's."""
    try:
        return (Path("/proc") / str(process) / "comm").read_text(errors="replace").strip() in UDEV
    except OSError:
        return False  # it was removed in the meantime, and its lock with it: the next look will tell
