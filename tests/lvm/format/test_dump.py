# SPDX-License-Identifier: Apache-2.0
"""``pvck``'s settings."""

from __future__ import annotations

import pytest

from lamella.errors import UsageError
from lamella.lvm.format.dump import parse_settings


def test_settings() -> None:
    assert parse_settings("mda_offset=4096 mda_size=65536", ("mda_offset", "mda_size")) == {
        "mda_offset": 4096,
        "mda_size": 65536,
    }


@pytest.mark.parametrize("value", ["²", "x", "", "9" * 5000])
def test_no_number(value: str) -> None:
    with pytest.raises(UsageError, match="Failed to parse settings"):
        parse_settings(f"mda_offset={value}", ("mda_offset",))
