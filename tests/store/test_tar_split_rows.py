# SPDX-License-Identifier: Apache-2.0
"""The rows of a tar split: written in pieces, read with seeking."""

from __future__ import annotations

import io
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from lamella.driver.state import State
from lamella.errors import CorruptError
from lamella.store import schema
from lamella.store.tar_split_rows import PIECE, SplitPieces, SplitReader

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [1, 10, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 10])
def test_what_was_written_is_read(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    pieces = SplitPieces()
    with io.BufferedWriter(pieces, 1000) as file:
        for start in range(0, size, 70_000):
            file.write(content[start : start + 70_000])
    with closing(State.create(tmp_path / "state.db", schema)) as state:
        for _ in range(2):  # the second time in place of the first
            with state.transaction() as connection:
                connection.execute("PRAGMA defer_foreign_keys = ON")
                pieces.insert(connection, "sha256:0")
                connection.execute("INSERT OR IGNORE INTO devices VALUES ('d', 1, 512, 1, 1, 0, '', NULL)")
                connection.execute(
                    "INSERT OR IGNORE INTO layers VALUES ('sha256:0', 'sha256:1', NULL, 'd', 0, 0)"
                )
        with io.BufferedReader(SplitReader(state, "sha256:0")) as reader:
            assert reader.read() == content
            reader.seek(size // 2)
            assert reader.read() == content[size // 2 :]
        assert state.dangling_rows() == []


def test_nothing_is_written_without_its_layer(tmp_path: Path) -> None:
    with closing(State.create(tmp_path / "state.db", schema)) as state:
        pieces = SplitPieces()
        pieces.write(b"1")
        with pytest.raises(CorruptError, match="FOREIGN KEY"), state.transaction() as connection:
            pieces.insert(connection, "sha256:0")
        with closing(sqlite3.connect(state.path)) as database:
            assert database.execute("SELECT count(*) FROM tar_split").fetchone() == (0,)
        with pytest.raises(CorruptError, match="no complete tar-split record"):
            SplitReader(state, "sha256:0")
