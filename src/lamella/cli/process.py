# SPDX-License-Identifier: Apache-2.0
"""Set-up of the process: three open standard streams, and signals that let a command clean up."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lamella.services.control.streams import Output, output_text

if TYPE_CHECKING:
    from types import FrameType

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


PROGRAM: ContextVar[str | None] = ContextVar("PROGRAM", default=None)
"""What a client of the daemon was started as, while its command runs."""


def program() -> str:
    """The name or path by which the command was started, which is not this process's in the daemon."""
    return PROGRAM.get() or sys.argv[0]


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
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


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
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    sys.stdout = output_text(Output(1, "wb", closefd=False), encoding)
