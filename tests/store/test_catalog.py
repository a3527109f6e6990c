# SPDX-License-Identifier: Apache-2.0
"""The catalogue of a damaged ``state.db``: one clear error, and no reading without end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from lamella.driver.state import Device, State
from lamella.errors import CorruptError, NotFoundError
from lamella.store import schema
from lamella.store.catalog import Catalog, Layer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE layers SET parent = 'sha256:2' WHERE chain_id = 'sha256:0'",
        "UPDATE layers SET parent = chain_id",
        "UPDATE layers SET parent = 'sha256:9' WHERE chain_id = 'sha256:0'",
        "UPDATE layers SET size = x'00'",
    ],
)
def test_layers_that_lie_upon_themselves_or_upon_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.db"
    with State.create(path, schema) as state, state.transaction():
        for number in range(3):
            state.put_device(Device(f"d{number}", number + 1, 1 << 30, 1))
            below = f"sha256:{number - 1}" if number else None
            Catalog(state).add_layer(Layer(f"sha256:{number}", "sha256:d", below, f"d{number}", 1, 10240))
    with State.open(path, schema, read_only=True) as state:
        assert [layer.chain_id for layer in Catalog(state).chain("sha256:2")] == [
            f"sha256:{n}" for n in range(3)
        ]
        assert len(Catalog(state).layers()) == 3
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    with State.open(path, schema, read_only=True) as state:
        with pytest.raises((CorruptError, NotFoundError)):
            Catalog(state).chain("sha256:2")
        with pytest.raises(CorruptError, match=r"state\.db is damaged"):
            Catalog(state).layers()


def test_an_id_that_is_no_text(tmp_path: Path) -> None:
    """SQLite takes other values in any column, and reads ids from an index, which may be damaged alone."""
    path = tmp_path / "state.db"
    with State.create(path, schema):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute("INSERT INTO containers VALUES (x'00', 'n', 'i', 'r', NULL, 'd', 'c', x'')")
        connection.execute("INSERT INTO images VALUES (x'00', x'', NULL, 'c', 1, 1, 1)")
    with State.open(path, schema, read_only=True) as state:
        for ask in (Catalog(state).find_container, Catalog(state).find_image):
            with pytest.raises(CorruptError, match=r"a name in it is b'\\x00'"):
                ask("0123")
