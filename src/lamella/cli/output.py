# SPDX-License-Identifier: Apache-2.0
"""Output: tables, JSON, warnings and ages."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lamella import clock
from lamella.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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
    """Indented JSON; bytes as :func:`exact_name` gives them, and what steers a terminal escaped."""
    text = json.dumps(value, indent=2, default=_plain, ensure_ascii=False)
    print(text if text.isprintable() else "".join(map(_escaped, text)))


def _escaped(sign: str) -> str:
    return sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1]


def exact_name(name: bytes) -> str:
    """A file name for JSON, each a text of its own: bytes that are no UTF-8 as U+DC80 to U+DCFF (PEP 383).

    A program gets the name back by ``os.fsencode``. No valid name holds these.
    """
    return name.decode("utf-8", "surrogateescape")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return exact_name(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def nanosecond_time(since_1970: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 text in UTC, with all nine digits of the second."""
    seconds, rest = divmod(since_1970, 10**9)
    whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{whole.strftime('%Y-%m-%dT%H:%M:%S')}.{rest:09}Z"


def show_name(name: bytes) -> str:
    """A file name as text: UTF-8 where it is valid; other bytes and control characters escaped."""
    return printable(name.decode("utf-8", "backslashreplace"))


def age(moment: datetime) -> str:
    """How long ago, in words as ``docker images`` has them ("3 days ago")."""
    seconds = max(0, int((clock.utc() - moment).total_seconds()))
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
