# SPDX-License-Identifier: Apache-2.0
"""Set-up of the process: three open standard streams, and signals that let a command clean up."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
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
    try:
        time.time()
    except OverflowError:
        from lamella import clock

        clock.extend_standard_clock()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as lamella.cli.start has left it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup's ignored SIGHUP stays ignored
            signal.signal(number, _terminate)


def discard_output() -> None:
    """Let output that cannot be written go nowhere: its reader has closed the pipe.

    Python tries once more when it ends, and from 3.13 on turns the exit code into 120 if that fails.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process without cleaning up
    raise Terminated(number)


def _open_standard_streams() -> None:
    """Open closed standard streams, so that no other file gets a descriptor below 3.

    A pool's file with descriptor 2 would get the messages of C libraries. A closed stream is opened in the
    opposite direction, as GNU's tools do, so that using it is an error.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free descriptor, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - lives as long as the process
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_StandardOutput(1, "wb", closefd=False)),
        encoding=sys.stdout.encoding if sys.stdout else "utf-8",
        errors="backslashreplace",  # a name that the terminal cannot show must not fail
        line_buffering=os.isatty(1),
    )


class _StandardOutput(io.FileIO):
    """Descriptor 1. The first failure raises an error that says what failed; later writes are discarded."""

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
