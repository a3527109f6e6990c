# SPDX-License-Identifier: Apache-2.0
"""The rows of a tar split, on a disk that is full."""

from __future__ import annotations

import gc
import io
import sqlite3
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lamella.store.tar_split_rows import PIECE, SplitWriter

if TYPE_CHECKING:
    from lamella.driver.state import State


class _Full:
    def execute(self, *_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize("size", [10, PIECE, 3 * PIECE + 10])
def test_a_full_disk_is_reported_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written once more when the buffers are closed or collected: Python 3.13 prints that."""
    unraised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)
    state = cast("State", SimpleNamespace(connection=_Full()))

    def write() -> None:
        with io.BufferedWriter(SplitWriter(state, "sha256:0")) as rows:
            rows.write(bytes(size))
            rows.write(bytes(size))

    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        write()
    raw = SplitWriter(state, "sha256:0")
    raw.write(b"1")
    with pytest.raises(sqlite3.OperationalError):
        raw.close()
    assert raw.closed
    gc.collect()
    assert not unraised
