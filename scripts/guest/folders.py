# SPDX-License-Identifier: Apache-2.0
"""Temporary folders, which the next one of the same kind removes if their process was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.guest.cache import locked

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def temporary_folder(kind: str, parent: str | None = None) -> Iterator[Path]:
    """A folder ``lamella-KIND-...`` in *parent* (default: that of :mod:`tempfile`), for as long as the block.

    Its process holds a lock (flock(2)) on it, which the kernel releases when the process ends in any way: a
    folder without one is removed when the next of its kind is made.
    """
    place, prefix = parent or tempfile.gettempdir(), f"lamella-{kind}-"
    with locked("folders"):  # a new folder is without its lock for a moment
        for old in Path(place).glob(f"{prefix}*"):
            with suppress(OSError):
                _remove_abandoned(old)
        made = tempfile.TemporaryDirectory(prefix=prefix, dir=place)
        lock = _lock(Path(made.name))
    try:
        with made as text:
            yield Path(text)
    finally:
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    """Raises ``BlockingIOError`` if a process works in it."""
    lock = _lock(folder)
    try:
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    """Lock *folder*; gives the descriptor that holds the lock. Raises ``BlockingIOError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
