# SPDX-License-Identifier: Apache-2.0
"""Output: tables, JSON, warnings, ages, and a progress bar on a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lamella.printable import printable
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lamella.progress import Progress


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest value, three spaces apart, as Docker prints lists."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    for row in [headings, *rows]:
        line = "   ".join(value.ljust(width) for value, width in zip(row, widths, strict=True))
        print(line.rstrip())


def print_warnings(warnings: Iterable[str]) -> None:
    """Print one line each to standard error, after standard output was flushed."""
    sys.stdout.flush()
    for warning in warnings:
        print(f"WARNING: {warning}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Indented JSON; bytes are shown as text, undecodable ones escaped."""
    print(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return show_name(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def show_name(name: bytes) -> str:
    """A file name as text: UTF-8 where it is valid; other bytes and control characters escaped."""
    return printable(name.decode("utf-8", "backslashreplace"))


def age(moment: datetime) -> str:
    """How long ago, in words as ``docker images`` has them ("3 days ago")."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    if seconds < 1:
        return "Less than a second ago"
    for unit, length, limit in (
        ("second", 1, 60),
        ("minute", 60, 60),
        ("hour", 3600, 48),
        ("day", 86400, 14),
        ("week", 7 * 86400, 9),
        ("month", 30 * 86400, 24),
        ("year", 365 * 86400, 10**9),
    ):
        count = seconds // length
        if count < limit:
            if count == 1 and unit in ("minute", "hour"):
                return f"About a{'n' if unit == 'hour' else ''} {unit} ago"
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "long ago"


class TerminalProgress:
    """A bar on standard error that is rewritten in place; each finished task leaves one line."""

    _INTERVAL = 0.1

    def __init__(self) -> None:
        self._what = ""
        self._total: int | None = None
        self._count = 0
        self._shown = 0.0
        self._started = 0.0

    def start(self, what: str, total: int | None) -> None:
        self._what, self._total, self._count = what, total, 0
        self._started = time.monotonic()
        self._shown = 0.0
        self._draw()

    def advance(self, amount: int) -> None:
        self._count += amount
        if time.monotonic() - self._shown >= self._INTERVAL:
            self._draw()

    def done(self) -> None:
        took = time.monotonic() - self._started
        self._write(f"{self._what}: {human_size(self._count)} in {took:.1f} s", end="\n")

    def _draw(self) -> None:
        self._shown = time.monotonic()
        if self._total:
            part = min(1.0, self._count / self._total)
            bar = ("#" * round(part * 24)).ljust(24)
            tail = f"[{bar}] {part:4.0%} of {human_size(self._total)}"
        else:
            tail = human_size(self._count)
        self._write(f"{self._what}: {tail}", end="")

    @staticmethod
    def _write(text: str, end: str) -> None:
        width = shutil.get_terminal_size().columns
        sys.stderr.write(f"\r\x1b[K{text[: width - 1]}{end}")
        sys.stderr.flush()


def progress(quiet: bool) -> Progress:
    """The progress bar if standard error is a terminal, else no output."""
    from lamella.progress import QUIET

    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return QUIET
    return TerminalProgress()
