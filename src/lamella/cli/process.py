# SPDX-License-Identifier: Apache-2.0
"""What a command needs of its process: three open streams, and signals that let it clean up."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Buffer

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def prepare() -> None:
    """Call once, before anything is opened."""
    _open_standard_streams()
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and that should stay so
            signal.signal(number, _terminate)


def discard_output() -> None:
    """Let further output go nowhere: its reader has closed the pipe, and nothing more can be reported."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # who asks twice does not want to wait for the cleaning up
    raise Terminated(number)


def _open_standard_streams() -> None:
    """Standard output that names itself in errors, and no descriptor below 3 left for other files.

    A pool's file that became descriptor 2 would get whatever a C library has to complain. What was closed
    is opened the other way round, as GNU's tools do, so that using it is an error and no silence.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - lives as long as the process
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_StandardOutput(1, "wb", closefd=False)),
        encoding=sys.stdout.encoding if sys.stdout else "utf-8",
        errors="backslashreplace",  # a name that the terminal cannot show is no reason to fail
        line_buffering=os.isatty(1),
    )


class _StandardOutput(io.FileIO):
    """Descriptor 1. It fails once, with an error that says what failed; what comes after goes nowhere."""

    _failed = False

    def write(self, data: Buffer, /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            self._failed = True
            raise
        except OSError as error:
            self._failed = True
            from lamella.block.system import explain

            raise explain(error, "write to", "the standard output") from error
