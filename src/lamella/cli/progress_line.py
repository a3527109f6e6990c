# SPDX-License-Identifier: Apache-2.0
"""Progress on a terminal: a line that is rewritten in place, and stays when its task is finished."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lamella.printable import printable
from lamella.progress import BYTES, QUIET
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.progress import Progress

INTERVAL = 0.1
"""Seconds between two drawings."""
WINDOW = 10.0
"""Seconds that the rate is the average of."""
BAR = 20


def progress(quiet: bool) -> Progress:
    """The line if standard error is a terminal, else no output."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return QUIET
    line = ProgressLine()
    _LINE.set(line)
    return line


def leave() -> None:
    """Begin a new line if a task has not finished the present one, as where it failed."""
    line = _LINE.get()
    if line is not None and line.unfinished:
        sys.stderr.write("\n")
        line.unfinished = False


class ProgressLine:
    """Share, amount, total, rate and time left of the present task on standard error.

    Tasks with one subject, such as the download and the unpacking of a layer, share a line.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.unfinished = False
        """Whether the cursor is behind it."""
        self._what = ""
        self._unit = BYTES
        self._total: int | None = None
        self._count = 0
        self._why = ""
        """What is being waited for."""
        self._drawn = 0.0
        self._began = 0.0
        self._samples: deque[tuple[float, int]] = deque()
        self._last_subject = ""
        self._subject_began = 0.0

    def start(self, what: str, total: int | None, *, unit: str = BYTES, had: int = 0) -> None:
        self._what, self._total, self._unit, self._count = what, total, unit, had
        self._why = ""
        self._began = self._clock()
        self._samples = deque([(self._began, had)])
        subject = what.partition(": ")[0]
        if subject == self._last_subject:
            sys.stderr.write("\x1b[1A")  # over the line of its last stage
        else:
            self._subject_began = self._began
        self._last_subject = subject
        self._draw()

    def advance(self, amount: int) -> None:
        self._count += amount
        if amount:
            self._why = ""
        if self._clock() - self._drawn >= INTERVAL:
            self._draw()

    def waiting(self, why: str) -> None:
        self._why = why
        if self._clock() - self._drawn >= INTERVAL:
            self._draw()

    def done(self) -> None:
        took = self._clock() - self._subject_began
        amount = self._amount(self._count)
        self._write(f"{self._last_subject}: {amount} in {took:.1f} s", end="\n")

    def _draw(self) -> None:
        self._drawn = now = self._clock()
        self._samples.append((now, self._count))
        while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW:
            self._samples.popleft()
        self._write(f"{self._what} {self._state(now)}", end="")

    def _state(self, now: float) -> str:
        if self._why:
            of = f" of {self._amount(self._total)}" if self._total else ""
            return f"{self._amount(self._count)}{of}, {printable(self._why)}"
        since, before = self._samples[0]
        rate = (self._count - before) / (now - since) if now > since else 0.0
        parts = []
        if self._total:
            share = min(1.0, self._count / self._total)
            bar = ("#" * round(share * BAR)).ljust(BAR)
            parts.append(f"[{bar}] {int(share * 100):3d}% of {self._amount(self._total)}")
        else:
            parts.append(self._amount(self._count))
        if rate > 0 and self._unit == BYTES:
            parts.append(f"{human_size(rate)}/s")
        if rate > 0 and self._total and self._count < self._total:
            parts.append(f"{_duration((self._total - self._count) / rate)} left")
        return ", ".join(parts)

    def _amount(self, count: int) -> str:
        return human_size(count) if self._unit == BYTES else f"{count} {self._unit}"

    def _write(self, text: str, end: str) -> None:
        width = shutil.get_terminal_size().columns
        self.unfinished = not end
        sys.stderr.write(f"\r\x1b[K{text[: width - 1]}{end}")
        sys.stderr.flush()


_LINE: ContextVar[ProgressLine | None] = ContextVar("_LINE", default=None)
"""The line of the present command."""


def _duration(seconds: float) -> str:
    """``7 s``, ``2:05 min`` or ``1:02:00 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
