# SPDX-License-Identifier: Apache-2.0
"""What is different where a process carries out the commands of several clients, each in a thread.

A command that runs alone has descriptor 0, a signal interrupts its reads, and whatever it leaves half done in
memory ends with the process. In the daemon each command has descriptors of its own, no signal reaches its
thread, so that something has to wait that can be woken, and what several share in memory must stay whole.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

STANDARD_INPUT: ContextVar[int] = ContextVar("STANDARD_INPUT", default=0)
"""The descriptor of the present command's standard input."""

WAIT: ContextVar[Callable[[int], object] | None] = ContextVar("WAIT", default=None)
"""Called before a read of a descriptor that may block; returns when it does not, or raises."""


def read(descriptor: int, size: int) -> bytes:
    """:func:`os.read`, which the end of a command interrupts also where a thread carries it out."""
    wait = WAIT.get()
    if wait is not None:
        wait(descriptor)
    return os.read(descriptor, size)


class Interruptions(Protocol):
    """Holds back what interrupts a thread."""

    def hold(self) -> None:
        """From here on nothing interrupts this thread, until as many calls of :meth:`let_go`."""

    def let_go(self) -> None:
        """Let it be interrupted again, also by what was held back, if this is the last call."""

    def checkpoint(self) -> None:
        """Raise what was held back, now."""


HELD: ContextVar[Interruptions | None] = ContextVar("HELD", default=None)
"""Of the command of the daemon that this thread belongs to."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let nothing interrupt the block, in a command of the daemon. It is to be short."""
    held = HELD.get()
    if held is None:
        yield
        return
    held.hold()
    try:
        yield
    finally:
        held.let_go()


def checkpoint() -> None:
    """Raise here what interrupts this thread: in long work that holds it back elsewhere.

    What is in C, or has to free what it has allocated there, is interrupted where it reads its input, as by
    an error of that.
    """
    held = HELD.get()
    if held is not None:
        held.checkpoint()


_shared = False


def share_memory() -> None:
    """From now on, what is locked by :func:`make_lock` outlives the command that has locked it."""
    global _shared
    _shared = True


def make_lock() -> threading.RLock | SharedLock:
    """A reentrant lock of what commands share, if they do: whose holder finishes before it is interrupted.

    Where a process carries out one command, what it leaves half done in memory ends with it.
    """
    return SharedLock() if _shared else threading.RLock()


class SharedLock:
    """A :class:`threading.RLock`, also for conditions, whose holder is not interrupted."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # What threading.Condition asks of such a lock. It is not interrupted while it waits, either.
        self._is_owned = self._lock._is_owned  # type: ignore[attr-defined]
        self._release_save = self._lock._release_save  # type: ignore[attr-defined]
        self._acquire_restore = self._lock._acquire_restore  # type: ignore[attr-defined]

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As :meth:`threading.RLock.acquire`."""
        held = HELD.get()
        if held is None:
            return self._lock.acquire(blocking, timeout)
        held.hold()
        taken = False
        try:
            taken = self._lock.acquire(blocking, timeout)
        finally:
            if not taken:
                held.let_go()
        return taken

    def release(self) -> None:
        """As :meth:`threading.RLock.release`."""
        self._lock.release()
        held = HELD.get()
        if held is not None:
            held.let_go()

    def locked(self) -> bool:
        """Whether some thread has it: :class:`threading.Condition` wants the method from Python 3.14 on."""
        if self._is_owned() or not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
