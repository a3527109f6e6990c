# SPDX-License-Identifier: Apache-2.0
"""The file from which a server learns what an earlier one has served."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lamella.services.fuse import handover
from lamella.services.fuse.handover import KeptFile, Table
from lamella.services.fuse.protocol import Agreed, InitFlag

if TYPE_CHECKING:
    from pathlib import Path

FILE = KeptFile(
    name="abc-1", node=2, handles={7: 100, 9: 200}, device="abc", device_id=3, size=1 << 20, read_only=False,
    loop=4, leaving=False,
)  # fmt: skip
TABLE = Table(
    token="secret", point="/store/run/fuse", number=(0, 55), pool="uuid",
    agreed=Agreed(38, InitFlag.ASYNC_READ | InitFlag.MAX_PAGES, 1 << 20), following=10,
    files=(FILE, replace(FILE, name="abc-2", node=3, handles={}, read_only=True, leaving=True)),
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    TABLE.write(tmp_path / "fuse.json")
    return tmp_path / "fuse.json"


def test_what_was_written_is_taken_once(path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
    assert handover.take(path) == TABLE
    assert not path.exists()
    assert handover.take(path) is None


def test_tokens_differ() -> None:
    assert handover.new_token() != handover.new_token()


@pytest.mark.parametrize(
    "values",
    [
        {"version": 2},
        {"boot": "another"},
        {"token": 5},
        {"number": [1]},
        {"number": 7},
        {"agreed": {"minor": 1}},
        {"agreed": {"minor": "1", "flags": 0, "max_write": 4096}},
        {"following": None},
        {"files": [{"name": "x"}]},
        {"files": 5},
        {"files": [[]]},
        {"more": 1},
    ],
)
def test_what_is_not_understood_is_refused(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    assert handover.take(path) is None
    assert not path.exists()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b"\xff"])
def test_what_is_no_table_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert handover.take(path) is None
    assert not path.exists()
