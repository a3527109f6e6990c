# SPDX-License-Identifier: Apache-2.0
"""Every difference from LVM2 that is known is explained to users."""

from __future__ import annotations

from pathlib import Path

from tests.lvm.differential.known import KNOWN

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "lvm-commands.md"


def test_every_known_difference_is_explained_in_the_reference() -> None:
    text = " ".join(PAGE.read_text().partition("## What differs from LVM2")[2].split())
    assert [known.explained for known in KNOWN if known.explained not in text] == []
