# SPDX-License-Identifier: Apache-2.0
"""The store's lock: one writer, beside which readers may work while it changes nothing that they see.

There are two files, locked with ``flock``, which the kernel unlocks when a holder dies, however it dies.
``run/writer`` is a writer's for as long as it has the store open. ``run/lock`` is shared by all readers, each
for as long as it has the store open, and is the writer's alone, except in :meth:`Lock.beside_readers`: there
the writer takes it back for each commit. So whatever a reader sees is the last commit, until it closes the
store. A reader waits while the writer has ``run/lock`` for what is short by nature (:meth:`Lock.briefly`),
and is refused by one that keeps it otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lamella import logs
from lamella.block.held_locks import held_locks
from lamella.block.system import explain
from lamella.closing import Closing, on_error
from lamella.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lamella.store.root import Root

log = logs.logger(__name__)

_RETRY_INTERVAL = 0.05
"""Seconds."""

_PROBE = 0.2
"""Seconds for which a writer tries at least: a reader may be looking whether there is one."""

_GRACE = 1.0
"""Seconds for which a writer waits for readers at least, most of which are done by then, such as ``ps``; and
a reader for a writer, which may be between two things that are short."""

_SHORT = "\ncommits\n"
"""At the end of what the writer recorded while it has ``run/lock`` only for what is short."""

_PATIENCE = 1.0
"""Seconds after which a writer that waits for readers says so."""


class Host(Protocol):
    """Who has a store open for the threads of this process, each of which may then use it.

    The host holds the lock itself. What would lock the store in this process takes its turn with it instead.
    """

    def turn(self) -> AbstractContextManager[object]:
        """Keep the other threads from changing the store while the block runs."""

    def closed(self) -> AbstractContextManager[object]:
        """Close the pool and ``state.db`` while the block runs; :class:`BusyError` if they are used."""

    def opened(self, *, read_only: bool, engine: str) -> Any:
        """The store as one thread uses it, a :class:`lamella.store.opening.Opened`."""


hosts: dict[str, Host] = {}
"""The hosts of this process, by the real path of their store's lock."""


def host_of(path: Path) -> Host | None:
    """The host in this process of the store whose lock is at *path*."""
    return hosts.get(os.path.realpath(path)) if hosts else None


def refuse_hosted(root: Root, doing: str) -> None:
    """Raise :class:`BusyError` where this process serves the store, which ends when that ends."""
    if host_of(root.lock) is not None:
        raise BusyError(
            f"cannot {doing}: the store {root.path} is being served by process {os.getpid()}",
            hint=f"stop that first: systemctl stop lamella, or kill {os.getpid()}",
        )


class Lock(Closing):
    """The lock, held from construction to :meth:`close`.

    Raises :class:`BusyError`, naming the holder, if it is not free within *wait* seconds. A reader waits for
    a writer's commit, and what else is short, for as long as that takes.

    In a process that hosts the store it is a turn with the host; *closing* says that the caller opens the
    pool itself, so that the host closes it meanwhile.
    """

    def __init__(self, path: Path, *, exclusive: bool, wait: float = 0.0, closing: bool = False) -> None:
        self.path = path
        self._turn = contextlib.ExitStack()
        self.tell: Callable[[str], object] = log.info
        """Called with what a writer waits for in the middle of its work, if that takes long."""
        self._beside = self._brief = 0
        self._alone = exclusive
        self._descriptor = self._writer = -1
        host = host_of(path)
        if host is not None:
            self._turn.enter_context(host.closed() if closing else host.turn())
            return
        end = time.monotonic() + wait
        with on_error(self.close):
            if exclusive:
                least = max(end, time.monotonic() + _PROBE)
                self._writer = self._take(writer_path(path), exclusive=True, end=least, wait=wait)
            end = max(end, time.monotonic() + _GRACE)
            self._descriptor = self._take(path, exclusive=exclusive, end=end, wait=wait)
        log.debug("%s lock on %s", "exclusive" if exclusive else "shared", path)

    def _take(self, path: Path, *, exclusive: bool, end: float, wait: float) -> int:
        """The descriptor of *path*, locked; -1 for a reader of a store whose folder lacks it."""
        how = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
        descriptor = -1
        waiting = False
        while True:
            if descriptor < 0:
                descriptor = _open(path, writable=exclusive)
            if descriptor < 0:
                return -1
            try:
                fcntl.flock(descriptor, how)
                if _is_current(descriptor, path):
                    break
                os.close(descriptor)  # teardown removed the file that we waited for
                descriptor = -1
            except BlockingIOError:
                if not exclusive and _recorded(descriptor).endswith(_SHORT):
                    end = max(end, time.monotonic() + _GRACE)
                left = end - time.monotonic()
                if left > 0:
                    if not waiting:
                        log.info("waiting for the lock %s, held by %s", path, _holders(descriptor))
                    waiting = True
                    time.sleep(min(_RETRY_INTERVAL, left))
                    continue
                holders = _holders(descriptor)
                os.close(descriptor)
                waited = f" (still, after {wait:g} s)" if wait else ""
                raise BusyError(
                    f"the store {self.path.parent.parent} is in use{waited} by {holders}",
                    hint="wait for that command to finish, or let this one wait: --wait SECONDS, or "
                    "LAMELLA_WAIT=SECONDS for all commands",
                ) from None
            except OSError as error:
                os.close(descriptor)
                raise explain(error, "lock", str(path)) from error
        if exclusive:
            _record(descriptor, _holder())
        return descriptor

    # -- a writer beside readers -----------------------------------------------------------------

    @contextlib.contextmanager
    def briefly(self) -> Iterator[None]:
        """Keep readers out while the block runs, which is short by nature: they wait, and do not give up."""
        with self.waited_for(), self.alone():
            yield

    @contextlib.contextmanager
    def waited_for(self) -> Iterator[None]:
        """The same for a block that leaves readers alone which are there already."""
        self._brief += 1
        try:
            self._record_holder()
            yield
        finally:
            self._brief -= 1
            self._record_holder()

    def let_readers_wait(self) -> None:
        """Have readers wait from now on, until this is closed: for a process that does one thing and ends."""
        self._brief += 1
        self._record_holder()

    def _record_holder(self) -> None:
        if self._writer >= 0:
            _record(self._descriptor, _holder() + (_SHORT if self._brief or self._beside else ""))

    @contextlib.contextmanager
    def beside_readers(self) -> Iterator[None]:
        """Let readers in while the block runs; what changes what they see is done in :meth:`alone`.

        For each commit in it the writer waits until the readers that have the store open have closed it. At
        the end it does so for a second; those that take longer it leaves alone until the next change.
        """
        self._beside += 1
        try:
            if self._beside == 1 and self._writer >= 0:
                self._record_holder()
                self._release()
            yield
        finally:
            self._beside -= 1
            if not self._beside and self._writer >= 0:
                self._be_alone(until=time.monotonic() + _GRACE)
                self._record_holder()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep readers out while the block runs; where they are kept out anyway, this does nothing more."""
        if self._alone or self._writer < 0:
            yield
            return
        self._be_alone()
        try:
            yield
        finally:
            if self._beside:
                self._release()

    def _be_alone(self, *, until: float | None = None) -> None:
        begun = time.monotonic()
        told = False
        while not self._alone:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._alone = True
            except BlockingIOError:
                if until is not None and time.monotonic() > until:
                    return
                if not told and time.monotonic() - begun > _PATIENCE:
                    told = True
                    self.tell(f"waiting for {_holders(self._descriptor)}, which is reading the store")
                time.sleep(_RETRY_INTERVAL)

    def _release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._alone = False

    def has_writer(self) -> bool:
        """For a reader: whether a writer has the store open, which then works beside readers."""
        descriptor = _open(writer_path(self.path), writable=False)
        if descriptor < 0:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def close(self) -> None:
        """Release the lock; doing so twice is harmless."""
        for descriptor in (self._descriptor, self._writer):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._writer = -1
        self._turn.close()


class HostedLock(Lock):
    """What a thread has in the lock's place whose store the process hosts: nobody else is to be kept out.

    What is short by nature, and may read first what it then changes, has its turn alone.
    """

    def __init__(self, path: Path, host: Host) -> None:
        self.path = path
        self.tell = log.info
        self._host = host

    @contextlib.contextmanager
    def briefly(self) -> Iterator[None]:
        with self._host.turn():
            yield

    @contextlib.contextmanager
    def waited_for(self) -> Iterator[None]:
        yield

    def let_readers_wait(self) -> None:
        """Nothing: no reader waits."""

    @contextlib.contextmanager
    def beside_readers(self) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        yield

    def has_writer(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: the host keeps it."""


def writer_path(path: Path) -> Path:
    """The file that belongs to the writer, beside the lock at *path*."""
    return path.with_name("writer")


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder() -> str:
    return f"{os.getpid()} {' '.join(sys.argv)[:200]}".replace("\n", " ")


def _record(descriptor: int, text: str) -> None:
    """Write who holds the lock into its file, for messages and for readers; errors here are ignored."""
    data = text.encode("utf-8", "replace")
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, data, 0)  # in this order: whoever reads in between finds the whole text
        os.ftruncate(descriptor, len(data))


def _recorded(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
    except OSError:
        return ""


def _holders(descriptor: int) -> str:
    """Who has the lock: from ``/proc/locks`` where it shows them, else from what the writer recorded."""
    named = [f"process {pid} ({_command(pid)})" for pid in _holding_processes(descriptor)]
    if named:
        return ", ".join(named)
    pid, _, command = _recorded(descriptor).partition("\n")[0].partition(" ")
    return f"process {pid} ({command.strip()})" if pid else "another command"


def _holding_processes(descriptor: int) -> list[int]:
    inode = os.fstat(descriptor).st_ino  # some file systems have another device number there
    try:
        found = {process for process, _, held in held_locks() if held == inode}
    except OSError:
        return []
    return sorted(found - {0, os.getpid()})


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
