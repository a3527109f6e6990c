# SPDX-License-Identifier: Apache-2.0
"""The present time, also on a clock that Python's own functions cannot read.

``time.time`` and ``datetime.now`` count nanoseconds in 64 bits: from the year 2262 on the first raises
OverflowError and the second stands still (CPython, ``Python/pytime.c``). clock_gettime(2) itself goes on.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

_SECOND = 1_000_000_000


def extend_standard_clock() -> None:
    """Let ``time.time`` and ``time.time_ns`` of this process go on where they raise OverflowError.

    For a program, not for a library: :mod:`logging` and all that imports it ask for the time when imported.
    """
    time.time = lambda: time.clock_gettime(time.CLOCK_REALTIME)
    time.time_ns = lambda: round(time.clock_gettime(time.CLOCK_REALTIME) * 1e6) * 1000


def now_ns() -> int:
    """Nanoseconds since 1970; from 2262 on to the microsecond."""
    try:
        return time.time_ns()
    except OverflowError:
        return round(time.clock_gettime(time.CLOCK_REALTIME) * 1e6) * 1000


def now() -> float:
    """Seconds since 1970."""
    return now_ns() / _SECOND


def utc() -> datetime:
    """The present time in UTC; the last that a datetime can hold where it is later."""
    try:
        return datetime.fromtimestamp(now(), UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)
