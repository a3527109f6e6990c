# SPDX-License-Identifier: Apache-2.0
"""Files replaced atomically: whole or not at all, and nothing left beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.block.atomic_file import replace_file, replacing, unfinished

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    for content in (b"old", b"new"):
        with replacing(path, mode=0o600) as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() == b"old"
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_exception_the_old_content_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, "old\udcff")
    with pytest.raises(TypeError), replacing(path) as file:
        file.write(None)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    unfinished(path).write_text("longer than what comes now")
    replace_file(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
