# SPDX-License-Identifier: Apache-2.0
"""A damaged ``config.toml``: one clear error, of a length to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.errors import CorruptError, UnsupportedError
from lamella.store.config import Config

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = ",
        "a = " + "[" * 100_000,
        "version = " + "9" * 5000,
        "version = " + "9" * 4299,
        "version = 0x" + "f" * 5000,
        "version = 1\nmode = 5",
    ],
)
def test_damage_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(CorruptError) as caught:
        Config.load(path)
    assert len(str(caught.value)) < 1000


def test_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("version = 99")
    with pytest.raises(UnsupportedError, match="has version 99"):
        Config.load(path)
