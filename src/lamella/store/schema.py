# SPDX-License-Identifier: Apache-2.0
"""The store's tables in ``state.db``, a :class:`lamella.driver.schema.Schema`.

They refer to the driver's table ``devices``; ``docs/reference/state.md`` explains each. Change nothing here
in place: add a step to ``MIGRATIONS`` that takes version n to n + 1, and raise ``VERSION``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

OWNER = "store"
POSITION = 1
VERSION = 2

SNAPSHOTS = """
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshots (id),
    kind INTEGER NOT NULL CHECK (kind IN (1, 2, 3)),
    device TEXT NOT NULL REFERENCES devices (hash),
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    labels TEXT NOT NULL,
    size INTEGER,
    inodes INTEGER
);
CREATE INDEX snapshots_parent ON snapshots (parent);
CREATE INDEX snapshots_device ON snapshots (device);
"""

TABLES = (
    """
CREATE TABLE layers (
    chain_id TEXT PRIMARY KEY,
    diff_id TEXT NOT NULL,
    parent TEXT REFERENCES layers (chain_id),
    device TEXT NOT NULL UNIQUE REFERENCES devices (hash),
    size INTEGER NOT NULL,
    tar_size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX layers_parent ON layers (parent);

CREATE TABLE tar_split (
    chain_id TEXT NOT NULL REFERENCES layers (chain_id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    piece INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (chain_id, piece)
);

CREATE TABLE images (
    id TEXT PRIMARY KEY,
    config BLOB NOT NULL,
    top TEXT REFERENCES layers (chain_id),
    created TEXT NOT NULL,
    size INTEGER NOT NULL,
    layers INTEGER NOT NULL,
    added INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX images_top ON images (top);

CREATE TABLE image_references (
    name TEXT PRIMARY KEY,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX image_references_image ON image_references (image);

CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,
    image_name TEXT NOT NULL,
    top TEXT REFERENCES layers (chain_id),
    device TEXT NOT NULL UNIQUE REFERENCES devices (hash),
    created TEXT NOT NULL,
    config BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX containers_image ON containers (image);
CREATE INDEX containers_top ON containers (top);
"""
    + SNAPSHOTS
)


def _add_snapshots(connection: sqlite3.Connection) -> None:
    for statement in SNAPSHOTS.split(";"):
        connection.execute(statement)


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _add_snapshots}
