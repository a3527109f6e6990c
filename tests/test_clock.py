# SPDX-License-Identifier: Apache-2.0
"""The clock, also where CPython gives up: it counts nanoseconds in 64 bits (``Python/pytime.c``), to 2262."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from lamella import clock

IN_2426 = 14_400_410_400.75


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """The year 2426, as Python meets it."""

    def fails() -> float:
        raise OverflowError("timestamp too large to convert to C _PyTime_t")

    monkeypatch.setattr(time, "time", fails)
    monkeypatch.setattr(time, "time_ns", fails)
    monkeypatch.setattr(time, "clock_gettime", lambda which: IN_2426)


def test_now_is_the_system_clock() -> None:
    before = time.time_ns()
    assert before <= clock.now_ns() <= time.time_ns()
    assert abs(clock.now() - time.time()) < 60
    assert abs((clock.utc() - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.usefixtures("far")
def test_a_clock_past_2262_is_read() -> None:
    assert clock.now_ns() == 14_400_410_400_750_000_000
    assert clock.now() == pytest.approx(IN_2426)
    assert clock.utc() == datetime(2426, 5, 1, 10, 0, 0, 750000, UTC)


def test_a_clock_past_9999_gives_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 400_000_000_000 * 10**9)
    assert clock.utc() == datetime.max.replace(tzinfo=UTC)
