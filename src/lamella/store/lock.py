# SPDX-License-Identifier: Apache-2.0
"""The store's lock: one writer, or any number of readers; and who holds it.

It is ``flock`` on ``run/lock``, which the kernel drops when its holder dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from pathlib import Path

from lamella import logs
from lamella.block.held_locks import held_locks
from lamella.block.system import explain
from lamella.closing import Closing
from lamella.errors import BusyError

log = logs.logger(__name__)

_RETRY_INTERVAL = 0.05
"""Seconds."""


class Lock(Closing):
    """The lock, held from construction to :meth:`close`.

    Raises :class:`BusyError`, naming the holder, if it is not free within *wait* seconds.
    """

    def __init__(self, path: Path, *, exclusive: bool, wait: float = 0.0) -> None:
        self.path = path
        self._descriptor = -1
        how = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
        end = time.monotonic() + wait
        waiting = False
        while True:
            if self._descriptor < 0:
                self._descriptor = _open(path, writable=exclusive)
            if self._descriptor < 0:
                return
            try:
                fcntl.flock(self._descriptor, how)
                if self._is_current():
                    break
                self.close()  # teardown removed the file that we waited for
            except BlockingIOError:
                left = end - time.monotonic()
                if left > 0:
                    if not waiting:
                        log.info("waiting for the lock %s, held by %s", path, self._holders())
                    waiting = True
                    time.sleep(min(_RETRY_INTERVAL, left))
                    continue
                holders = self._holders()
                self.close()
                waited = f" (still, after {wait:g} s)" if wait else ""
                raise BusyError(
                    f"the store {path.parent.parent} is in use{waited} by {holders}",
                    hint="wait for that command to finish, or let this one wait: --wait SECONDS",
                ) from None
            except OSError as error:
                self.close()
                raise explain(error, "lock", str(path)) from error
        log.debug("%s lock on %s", "exclusive" if exclusive else "shared", path)
        if exclusive:
            self._record_holder()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _record_holder(self) -> None:
        """Write our process id and command into the file, for messages; errors here are ignored."""
        text = f"{os.getpid()} {' '.join(sys.argv)[:200]}\n"
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode("utf-8", "replace"), 0)

    def _holders(self) -> str:
        """Who has the lock: from ``/proc/locks`` where it shows them, else from what the writer recorded."""
        named = [f"process {pid} ({_command(pid)})" for pid in self._holding_processes()]
        if named:
            return ", ".join(named)
        with contextlib.suppress(OSError):
            pid, _, command = os.pread(self._descriptor, 300, 0).decode("utf-8", "replace").partition(" ")
            if pid:
                return f"process {pid} ({command.strip()})"
        return "another command"

    def _holding_processes(self) -> list[int]:
        inode = os.fstat(self._descriptor).st_ino  # some file systems have another device number there
        try:
            found = {process for process, _, held in held_locks() if held == inode}
        except OSError:
            return []
        return sorted(found - {0, os.getpid()})

    def close(self) -> None:
        """Release the lock; doing so twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open(path: Path, *, writable: bool) -> int:
    """The lock file's descriptor, or -1 where a reader finds none (nobody can write that store either)."""
    flags = os.O_CLOEXEC | (os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY)
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError as error:
        if not writable:
            return -1
        raise explain(error, "create", str(path)) from error
    except OSError as error:
        raise explain(error, "open", str(path)) from error


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "already gone"
    shown = [os.path.basename(words[0]), *words[1:]] if words else []
    return b" ".join(word for word in shown if word).decode("utf-8", "replace")[:200]
