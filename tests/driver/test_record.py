# SPDX-License-Identifier: Apache-2.0
"""The record of a direct-lvm store, damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.driver.direct_lvm.record import Record
from lamella.errors import CorruptError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "9" * 5000, '{"version":1}'])
def test_a_damaged_record_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record"
    path.write_text(text)
    with pytest.raises(CorruptError, match="is damaged"):
        Record.load(path)
