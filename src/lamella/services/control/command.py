# SPDX-License-Identifier: Apache-2.0
"""One command in the daemon: it runs in a thread of its own, and can be interrupted as by a signal."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella import logs
from lamella.errors import LamellaError
from lamella.interruptible import HELD, STANDARD_INPUT, WAIT
from lamella.services.control import context
from lamella.services.control.streams import Streams

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Protocol, TextIO

    from lamella.services.control.protocol import Request

    class Runner(Protocol):
        """The command line, as far as the daemon needs it."""

        def run(self, program: str, arguments: list[str]) -> int:
            """Carry out a command line in this thread; its exit code."""

        def interruption(self, number: int) -> type[BaseException]:
            """The exception that the signal *number* raises in a command that runs alone."""


log = logs.logger(__name__)

LAST_WORDS = 5.0
"""Seconds that a command which was interrupted may wait for somebody to read what it prints."""
AGAIN_AFTER = 0.05
"""Seconds."""
INTERNAL_ERROR = 1
_AGAIN = "raise_again"
"""The attribute of an interruption's class by which it is raised once more."""

_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = [ctypes.c_ulong, ctypes.py_object]
_set_exception.restype = ctypes.c_int
_NOTHING = ctypes.py_object()
"""NULL: takes back an exception that has not arrived."""


class Command:
    """A request that is carried out. It owns *descriptors*: the working folder, and the three streams."""

    ended = False
    """Whether it is over, so that threads that it left behind are not its own any more."""

    def __init__(self, request: Request, descriptors: list[int], runner: Runner, name: str) -> None:
        self.name = name
        self.request = request
        self._descriptors = descriptors
        self._runner = runner
        self._lock = threading.RLock()  # a destructor that is interrupted may run while it is held
        self._thread = 0
        self._cancelled = 0
        self._held = 0
        self._raised = self._owed = False
        """Whether the exception is on its way to the thread, and whether that is still to be done."""
        self.environment: MutableMapping[bytes, bytes] = context.variables_of(request.environment)
        streams = (descriptors[1], descriptors[2], descriptors[3])
        self._streams = Streams(streams, request.encodings, self.wait_to_read, self.wait_to_write)
        self.stdin: TextIO = self._streams.stdin
        self.stdout: TextIO = self._streams.stdout
        self.stderr: TextIO = self._streams.stderr
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def run(self) -> int:
        """Carry it out in this thread, which is used for nothing else; the exit code."""
        context.CURRENT.set(self)
        STANDARD_INPUT.set(self._descriptors[1])
        WAIT.set(self.wait_to_read)
        HELD.set(self)
        try:
            try:
                with self._lock:
                    if self._cancelled:
                        raise KeyboardInterrupt
                    self._thread = threading.get_ident()
                context.enter(self._descriptors[0], self.request.umask)
                return self._runner.run(self.request.program, self.request.arguments)
            finally:
                self._leave()
        except LamellaError as error:  # from enter: the command line reports its own
            print(f"lamella: error: {error.message}", file=self.stderr)
            return error.exit_code
        except KeyboardInterrupt:  # it came when the command was over, or had not begun
            self._leave()
            what = "interrupted" if self._cancelled == signal.SIGINT else "terminated"
            with suppress(OSError):
                print(f"lamella: {what}; the command had not begun, or was over", file=self.stderr)
            return 128 + self._cancelled
        except BaseException:  # a bug, which LAMELLA_DEBUG asks to show
            traceback.print_exc(file=self.stderr)
            return INTERNAL_ERROR

    def _leave(self) -> None:
        """From here on nothing interrupts this thread any more."""
        with self._lock:
            if self._thread:
                _set_exception(self._thread, _NOTHING)
            self._thread = 0

    def close(self) -> None:
        """Write what is still held, and close what is the command's."""
        self._streams.finish()
        with self._lock:
            self.ended = True
            for descriptor in (*self._descriptors, self._wake):
                os.close(descriptor)
            self._descriptors = []

    # -- interrupting it, from other threads -----------------------------------------------------

    def cancel(self, number: int) -> None:
        """Interrupt it as the signal *number* would; what is in progress is rolled back. Once counts."""
        with self._lock:
            if self._cancelled or self.ended:
                return
            self._cancelled = number
            if self._thread:
                self._raise_in_thread()
            os.eventfd_write(self._wake, 1)

    def hold(self) -> None:
        if threading.get_ident() != self._thread:
            return
        with self._lock:
            self._held += 1
            if self._raised:
                _set_exception(self._thread, _NOTHING)
                self._raised, self._owed = False, True

    def let_go(self) -> None:
        if threading.get_ident() != self._thread:
            return
        with self._lock:
            self._held -= 1
            if self._owed and not self._held:
                self._raise_in_thread()

    def checkpoint(self) -> None:
        if self._cancelled and threading.get_ident() == self._thread:
            raise self._taken_back()

    def _taken_back(self) -> BaseException:
        """The exception, which is not on its way to this thread any more."""
        with self._lock:
            if threading.get_ident() == self._thread:
                _set_exception(self._thread, _NOTHING)
                self._raised = self._owed = False
        return self._runner.interruption(self._cancelled)()

    def _raise_in_thread(self) -> None:
        """Raise the exception at the thread's next instruction, if it may come now. The lock is held."""
        self._owed = bool(self._held)
        if self._owed:
            return
        kind = self._runner.interruption(self._cancelled)

        def arrived(error: BaseException) -> None:
            self._raised = False
            kind.__init__(error)

        # A class of its own: the interpreter makes the exception where it arrives.
        members = {"__init__": arrived, _AGAIN: staticmethod(self._again)}
        self._raised = True
        _set_exception(self._thread, type(kind.__name__, (kind,), members))

    def _again(self) -> None:
        """Raise it once more: where it came, as in a destructor, the interpreter only reports it.

        A little later, and from another thread: raised here, it would be reported once more.
        """
        later = threading.Timer(AGAIN_AFTER, self._raise_once_more)
        later.daemon = True
        later.start()

    def _raise_once_more(self) -> None:
        with self._lock:
            if self._thread:
                self._raise_in_thread()

    # -- waiting, in its own threads -------------------------------------------------------------

    def wait_to_read(self, descriptor: int) -> None:
        """Return when a read does not block, or the command is interrupted."""
        self._wait(descriptor, select.POLLIN)

    def wait_to_write(self, descriptor: int) -> None:
        """Return when a short write does not block; once it is interrupted, not much later."""
        self._wait(descriptor, select.POLLOUT)

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not self._cancelled:
            poll.register(self._wake, select.POLLIN)
            ready = [number for number, _ in poll.poll()]
            _checkpoint()
            if descriptor in ready:
                return
            poll.unregister(self._wake)
        if event == select.POLLIN and not poll.poll(0):
            raise self._taken_back()
        if not poll.poll(LAST_WORDS * 1000):
            raise BrokenPipeError("nobody reads what the command prints")


def _checkpoint() -> None:
    """An exception that another thread has set is raised where a function begins, such as here."""


def keep_interruptions() -> None:
    """Raise interruptions again that come in a destructor or a callback, which cannot fail."""
    report = sys.unraisablehook

    def hook(found: sys.UnraisableHookArgs) -> None:
        again = getattr(found.exc_type, _AGAIN, None)
        if again is None:
            report(found)
        else:
            again()

    sys.unraisablehook = hook
