# SPDX-License-Identifier: Apache-2.0
"""What the threads of a command have of their own in a process that carries out several.

:func:`install` replaces ``sys.stdin``, ``sys.stdout``, ``sys.stderr`` and what ``os.environ`` reads from by
objects that look up which command the thread that asks belongs to. A thread that a command starts belongs to
it; every other one has the process's own. The working folder and the umask need no replacement: Linux keeps
them for each thread (clone(2), CLONE_FS), and a thread gets those of the one that starts it.
"""

from __future__ import annotations

import contextvars
import ctypes
import os
import sys
import threading
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

from lamella.block.system import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

CLONE_FS = 0x200
"""linux/sched.h"""


class Surroundings(Protocol):
    """What a command sees of its process."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    environment: MutableMapping[bytes, bytes]
    ended: bool
    """Whether the command is over: threads that it left behind have the process's own again."""


CURRENT: contextvars.ContextVar[Surroundings | None] = contextvars.ContextVar("CURRENT", default=None)


def current() -> Surroundings | None:
    """The surroundings of the command that this thread belongs to; None if it is the process's own."""
    found = CURRENT.get()
    return None if found is None or found.ended else found


class _Stream:
    """Stands for one of the standard streams of whichever command asks."""

    def __init__(self, name: str, own: TextIO) -> None:
        self._name = name
        self._own = own

    def _stream(self) -> TextIO:
        found = current()
        return self._own if found is None else cast("TextIO", getattr(found, self._name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream())


class _Variables(MutableMapping[bytes, bytes]):
    """The environment of whichever command asks."""

    def __init__(self, own: dict[bytes, bytes]) -> None:
        self._own = own

    def _present(self) -> MutableMapping[bytes, bytes]:
        found = current()
        return self._own if found is None else found.environment

    def __getitem__(self, name: bytes) -> bytes:
        return self._present()[name]

    def __setitem__(self, name: bytes, value: bytes) -> None:
        self._present()[name] = value

    def __delitem__(self, name: bytes) -> None:
        del self._present()[name]

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._present()))

    def __len__(self) -> int:
        return len(self._present())


_installed = False


def install() -> None:
    """Let commands have streams and variables of their own from now on. Once is enough."""
    global _installed
    if _installed:
        return
    _installed = True
    for name in ("stdin", "stdout", "stderr"):
        stream = _Stream(name, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)  # shutil.get_terminal_size asks this one
    # Both views of the environment, also where a module holds one of them, share this mapping.
    variables = _Variables(os.environ._data)  # type: ignore[attr-defined]
    os.environ._data = os.environb._data = variables  # type: ignore[attr-defined]
    start = threading.Thread.start

    def start_inside(thread: threading.Thread) -> None:
        if current() is not None:
            run, context = thread.run, contextvars.copy_context()
            thread.run = lambda: context.run(run)  # type: ignore[method-assign]
        start(thread)

    threading.Thread.start = start_inside  # type: ignore[method-assign, assignment]


_libc = ctypes.CDLL(None, use_errno=True)


def enter(folder: int, umask: int) -> None:
    """Give this thread a working folder and a umask of its own, for good."""
    if _libc.unshare(CLONE_FS):
        error = ctypes.get_errno()
        raise explain(OSError(error, os.strerror(error)), "make", "a thread with a working folder of its own")
    try:
        os.fchdir(folder)
    except OSError as error:
        raise explain(error, "change to", "the working folder of the command") from error
    os.umask(umask)


def variables_of(environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """A copy that a command may change."""
    return dict(environment)
