# SPDX-License-Identifier: Apache-2.0
"""LVM2's lock files, used as LVM2 uses them, so that its commands and ours wait for each other.

``V_<group>`` protects a group, ``P_global`` the set of physical volumes. A writer first locks the file's
``:aux`` twin, so that a stream of readers cannot starve it. A lock file is removed by its last holder; a
process that opened the removed file notices and starts over (lib/misc/lvm-flock.c).
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import system
from lamella.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logs.logger(__name__)

LOCK_TIMEOUT = 60.0
"""Seconds to wait for another command."""


@contextmanager
def group_lock(folder: Path | None, group: str, *, write: bool, wait: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock of one group. Without a *folder* nothing is locked.

    With *wait* 0, a lock that another command holds is an error at once, with LVM2's message.
    """
    with _held(folder, f"V_{group}", write, wait, f"\nCan't get lock for {group}."):
        yield


@contextmanager
def global_lock(folder: Path | None, *, write: bool, wait: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock on the set of physical volumes and on group names."""
    with _held(folder, "P_global", write, wait):
        yield


@contextmanager
def devices_file_lock(folder: Path | None, name: str, *, wait: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock of the devices file called *name* while it is changed."""
    with _held(folder, f"D_{name}", True, wait):
        yield


@contextmanager
def _held(folder: Path | None, name: str, write: bool, wait: float, refused: str = "") -> Iterator[None]:
    if folder is None:
        yield
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise system.explain(error, "make the lock folder", str(folder)) from error
    path = str(folder / name)
    refused = f"{path}: flock failed: Resource temporarily unavailable{refused}" if not wait else ""
    deadline = time.monotonic() + wait
    kind = fcntl.LOCK_EX if write else fcntl.LOCK_SH
    with ExitStack() as held:
        with ExitStack() as first:
            first.enter_context(_flock(path + ":aux", fcntl.LOCK_EX, deadline, refused))
            if write:
                held.enter_context(_flock(path, kind, deadline, refused))
        if not write:
            held.enter_context(_flock(path, kind, deadline, refused))
        yield


@contextmanager
def _flock(path: str, kind: int, deadline: float, refused: str) -> Iterator[None]:
    descriptor = _acquire(path, kind, deadline, refused)
    try:
        yield
    finally:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(path, descriptor):
                os.unlink(path)
        except OSError:
            pass  # others still hold or have removed it, which is as good
        os.close(descriptor)


def _acquire(path: str, kind: int, deadline: float, refused: str) -> int:
    waiting = False
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o700)
        except OSError as error:
            raise system.explain(error, "open the lock", path) from error
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if refused:
                raise BusyError(refused, hint="wait for the other command, then try again") from None
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"cannot lock {path}: another LVM command holds it",
                    hint="wait for it to finish, then try again",
                ) from None
            if not waiting:
                log.info("waiting for the lock %s, held by another LVM command", path)
            waiting = True
            time.sleep(0.02)
            continue
        if _same(path, descriptor):
            log.debug("%s lock on %s", "exclusive" if kind == fcntl.LOCK_EX else "shared", path)
            return descriptor
        os.close(descriptor)


def _same(path: str, descriptor: int) -> bool:
    try:
        there = os.stat(path)
    except OSError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
