# SPDX-License-Identifier: Apache-2.0
"""The cache of what guests are made of: kernels, roots, packages and stores."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEPT = 24 * 3600
"""Seconds after its last use for which the result of an older recipe is kept: a guest may be using it."""


def cache() -> Path:
    """LAMELLA_GUEST_CACHE, or ``~/.cache/lamella-guest``; created if missing."""
    home = os.environ.get("LAMELLA_GUEST_CACHE")
    folder = Path(home) if home else Path.home() / ".cache" / "lamella-guest"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def recipe(*parts: str) -> str:
    """A short hash of *parts*, the key of their result in the cache."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock *name* of the cache."""
    with open(cache() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_once(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder that *make* fills, cached by *kind* and *key*; older ones are removed after a day unused.

    A *make* that fails leaves nothing behind.
    """
    target = cache() / f"{kind}-{key}"
    with locked(kind):
        if target.exists():
            os.utime(target)
            return target
        for abandoned in cache().glob(f"new-{kind}-????????"):  # its maker, who had the lock, was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"new-{kind}-", dir=cache()))
        try:
            make(fresh)
            fresh.chmod(0o755)
            fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        for old in cache().glob(f"{kind}-????????????"):
            if old != target and time.time() - old.stat().st_mtime > KEPT:
                shutil.rmtree(old, ignore_errors=True)
    return target
