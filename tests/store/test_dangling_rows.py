# SPDX-License-Identifier: Apache-2.0
"""A ``state.db`` whose rows refer to rows that are not there: listed by check, one clear error elsewhere.

Nothing is written: layers that no row seems to use may be those of an image whose row is damaged.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.store import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE containers SET device = 'nosuch'", "a row of containers refers to a missing row of devices"),
        ("UPDATE containers SET top = 'sha256:9'", "a row of containers refers to a missing row of layers"),
        ("UPDATE images SET top = 'sha256:9'", "a row of images refers to a missing row of layers"),
        ("UPDATE layers SET parent = 'sha256:9' WHERE parent IS NOT NULL", "a row of layers refers to"),
        ("DELETE FROM layers", "refers to a missing row of layers"),
    ],
)
def test_each_command_tells_it(
    root: Path, damage: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(root) as store:
        store.create("sample", name="web")
    with closing(sqlite3.connect(root / "state.db")) as connection, connection:
        connection.execute(damage)
    before = (root / "state.db").read_bytes()
    assert main(["--root", str(root), "check"]) == 6
    said = capsys.readouterr()
    assert told in said.out + said.err
    for command in (["df"], ["map"], ["ps"], ["images"], ["info"], ["diff", "web"], ["create", "sample"]):
        code = main(["--root", str(root), *command])
        said = capsys.readouterr()
        assert "internal error" not in said.err, command
        if command[0] in ("df", "map", "create"):
            assert code == 6, command
            assert told in said.err
            assert "restore state.db from a backup" in said.err
    assert (root / "state.db").read_bytes() == before
