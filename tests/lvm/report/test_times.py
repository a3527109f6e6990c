# SPDX-License-Identifier: Apache-2.0
"""Numbers in times of selections: what is none, or is past all times, means nothing."""

from __future__ import annotations

import pytest

from lamella.lvm.report.times import parse_period


def test_seconds_since_1970() -> None:
    assert parse_period("@1700000000") == (1700000000, 1700000000)


@pytest.mark.parametrize(
    "text", ["@", "@²", "@" + "1" * 5000, "9" * 5000 + " days ago", "9" * 18 + " years ago"]
)
def test_no_time(text: str) -> None:
    assert parse_period(text) is None
