# SPDX-License-Identifier: Apache-2.0
"""File names in JSON: each is a text of its own, from which the name comes back (PEP 383)."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from lamella.cli.output import exact_name, print_json

if TYPE_CHECKING:
    import pytest

NAMES = [b"\xff", b"\\xff", b"\\\\xff", "\u00ff".encode(), b"a\nb", b"a\\nb", b"\xed\xb2\x80", b"\x9b"]
NAMES += ["\u202e".encode(), b"plain"]


def test_a_name_comes_back_from_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A byte ``\\xff`` and the four characters are two names."""
    print_json([exact_name(name) for name in NAMES])
    out = capsys.readouterr().out
    assert [os.fsencode(text) for text in json.loads(out)] == NAMES
    assert len(set(json.loads(out))) == len(NAMES)
    assert out.replace("\n", "").isprintable()
