# SPDX-License-Identifier: Apache-2.0
"""What a command prints and asks, in LVM2's layout: two spaces, results and messages on separate streams."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from lamella.errors import (
    BusyError,
    ExistsError,
    LamellaError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    UsageError,
)
from lamella.remedies import hint_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from lamella.cli.lvm.command_log import CommandLog
    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.disks.notice import Notice

INDENT = "  "
SHOWING = (
    "lvmconfig", "config", "dumpconfig", "lvdisplay", "lvmdiskscan", "lvs", "pvck", "pvdisplay", "pvs",
    "version", "vgcfgrestore", "vgdisplay", "vgs",
)  # fmt: skip
"""Commands that print also with ``log/silent`` (lvm.conf(5)): what they print is what they are for."""
WITHOUT_HINT = (UsageError, NotFoundError, NoSpaceError, ExistsError, BusyError, ReadOnlyError)
"""Errors whose message is all that LVM2 prints; others get their hint as a second line."""


def error_lines(error: LamellaError) -> list[str]:
    """The lines to print for an error; empty where the command has reported it already."""
    lines = error.message.split("\n") if error.message else []
    hint = hint_of(error)
    if hint and not isinstance(error, WITHOUT_HINT):
        lines += hint.split("\n")
    return lines


class Prefixed(io.TextIOBase):
    """A stream whose lines begin with ``log/prefix`` where they would begin with two spaces."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream = stream
        self._prefix = prefix
        self._at_start = True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            if self._at_start and line.startswith(INDENT):
                line = self._prefix + line.removeprefix(INDENT)
            self._stream.write(line)
            self._at_start = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


class Console:
    """Standard output, standard error and the answers to questions, for one command."""

    def __init__(self, args: Arguments) -> None:
        self._args = args
        self.verbosity = args.count("verbose") - args.count("quiet")
        """``-v`` less ``-q``; ``log/verbose`` is added once the configuration has been read."""
        self.silent = args.count("quiet") > 1
        """``-qq`` or ``log/silent``: only what the command is for is printed."""
        self.failures = 0
        """Errors that were printed without ending the command; any of them makes the exit code 5."""
        self.log: CommandLog | None = None
        """Where messages are collected instead of printed."""

    def print(self, text: str = "") -> None:
        """Write a line of the result."""
        if self.log is not None:
            self.log.add("print", text)
        elif not self.silent or self._args.command.name in SHOWING:
            sys.stdout.write(f"{INDENT}{text}\n")

    def warn(self, text: str) -> None:
        """Write a warning or an error to standard error, each line indented."""
        self._tell("warn", text)

    def _tell(self, kind: str, text: str) -> None:
        if self.log is not None:
            self.log.add(kind, text)
        else:
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stdout.flush()
        for line in text.split("\n"):
            sys.stderr.write(f"{INDENT}{line}\n")

    def fail(self, text: str) -> None:
        """Report an error and go on; the command exits with 5 at its end."""
        self.failures += 1
        self._tell("error", text)

    def warn_with(self, error: LamellaError) -> None:
        """Write an error's message, and its hint where LVM2 has no message of its own."""
        for line in error_lines(error):
            self._tell("error", line)

    def fail_with(self, error: LamellaError) -> None:
        """:meth:`warn_with`; the command goes on and exits with 5 at its end."""
        self.failures += 1
        if self.log is not None:
            self.log.add_error(error)
        else:
            self.warn_with(error)

    def verbose(self, text: str) -> None:
        """Write a message to standard error with ``-v`` only."""
        if self.verbosity > 0:
            self._write(text)

    def notice(self, notice: Notice) -> None:
        """Write a notice of :mod:`lamella.lvm` as its level asks."""
        if notice.level == "print":
            self.print(notice.message)
        elif notice.level == "verbose":
            self.verbose(notice.message)
        else:
            warning = notice.message.startswith("WARNING")
            self._tell("warn" if warning else "error", notice.message)

    def notices(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self.notice(notice)

    def confirm(self, question: str) -> bool:
        """Ask; ``-y`` and ``-f`` answer yes. Without a terminal, the answer is no."""
        return self._args.has("force") or self.ask(question)

    def ask(self, question: str) -> bool:
        """Ask; only ``-y`` answers yes. Without a terminal, the answer is no."""
        if self._args.has("yes"):
            return True
        sys.stdout.flush()
        sys.stderr.write(question)
        sys.stderr.flush()
        answer = sys.stdin.readline() if sys.stdin is not None else ""
        if not answer:
            sys.stderr.write("[n]\n")
        return answer.strip().lower() in ("y", "yes")
