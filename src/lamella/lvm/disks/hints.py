# SPDX-License-Identifier: Apache-2.0
"""LVM2's hints: which disks have physical volumes, as its last full look at all disks found them.

With ``/run/lvm/hints``, ``lvs``, ``lvchange`` and the like read no other disks. So a command that creates,
moves or removes physical volumes or group names invalidates them first, and locks them until that is done.
Three files, as LVM2 2.03.16 has them:

==========  =============================================================================================
hints       comments, settings, and a line ``scan:PATH pvid:UUID devn:MAJOR:MINOR vg:NAME`` for each disk;
            invalidated, only a comment. ``flock`` on it: shared to read, exclusive to write
newhints    a command that finds it reads all disks, and writes the hints again
nohints     a command that finds it does not use the hints; exists while a process waits for the lock
==========  =============================================================================================

Errors here are ignored.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_TIMEOUT = 10.0
"""Seconds to wait for a command of LVM2 that reads or writes them; that takes as long as reading the disks.
"""


@contextmanager
def invalidated(
    folder: Path | None, command: str, *, lock: bool = True, timeout: float = LOCK_TIMEOUT
) -> Iterator[None]:
    """Empty the hints in *folder*, and let no process write new ones before the end of the block.

    Nothing happens without a *folder*, or where it does not exist. *command* is named in the emptied file.
    Without *lock* (``--nolocking``), the lock is not waited for.
    """
    if folder is None or not folder.is_dir():
        yield
        return
    held = -1
    try:
        with suppress(OSError):
            held = _lock(folder, timeout if lock else 0.0)
            _empty(folder, held, command)
        yield
    finally:
        with suppress(OSError):
            if held < 0:  # the process that held the lock may have read the disks before the change
                _empty(folder, held, command)
        if held >= 0:
            os.close(held)


def renew(folder: Path | None) -> None:
    """Make the next command of LVM2 read all disks and write the hints again (``pvscan --cache DISK``)."""
    if folder is not None and folder.is_dir():
        with suppress(OSError):
            _touch(folder / "newhints")


def _lock(folder: Path, timeout: float) -> int:
    """A descriptor of the locked hints, or -1."""
    away = folder / "nohints"
    try:
        _touch(away)
        held = os.open(folder / "hints", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + timeout
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return held
            if time.monotonic() >= end:
                os.close(held)
                return -1
            time.sleep(0.02)
    finally:
        away.unlink(missing_ok=True)


def _empty(folder: Path, held: int, command: str) -> None:
    own = held if held >= 0 else os.open(folder / "hints", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        text = f"# Created empty by {command} pid {os.getpid()} {time.ctime()}\n"
        os.ftruncate(own, 0)
        os.pwrite(own, text.encode("utf-8", "replace"), 0)
    finally:
        if own != held:
            os.close(own)
    _touch(folder / "newhints")


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
