# SPDX-License-Identifier: Apache-2.0
"""The driver's tables in ``state.db``, their version, and the steps from one version to the next.

``docs/reference/state.md`` explains each table. Other packages keep tables of their own in the same file,
each described by a module like this one (:class:`Schema`). Change nothing here in place: add a step to
``MIGRATIONS`` that takes version n to n + 1, and raise ``VERSION``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable


class Schema(Protocol):
    """What a module says of its tables in ``state.db``.

    SQLite's ``user_version`` records the versions of all schemas: it is 1 plus, for each of them,
    (version - 1) << (8 * ``POSITION``). It is therefore 1 in a file in which all versions are 1.
    """

    OWNER: str
    """Whose tables they are; for messages."""
    POSITION: int
    """Which byte of ``user_version - 1`` holds the version less one; 0 is the lowest."""
    VERSION: int
    """1 to 256."""
    TABLES: str
    """SQL statements, separated by semicolons, that create the tables of that version."""
    MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]]
    """From a version to the step that makes the next one of it, inside a transaction."""


APPLICATION_ID = 0x4C6D6C61
"""SQLite's application id of our files: "Lmla"."""

OWNER = "driver"
POSITION = 0
VERSION = 3

TABLES = """
CREATE TABLE pool (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    transaction_id INTEGER NOT NULL,
    next_device_id INTEGER NOT NULL,
    base_uuid TEXT NOT NULL,
    base_filesystem TEXT NOT NULL
);

CREATE TABLE note (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    transaction_id INTEGER NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('create', 'delete')),
    devices TEXT NOT NULL
);

CREATE TABLE devices (
    hash TEXT PRIMARY KEY,
    device_id INTEGER NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    transaction_id INTEGER NOT NULL,
    initialized INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    damage TEXT NOT NULL DEFAULT '',
    mapped INTEGER
) WITHOUT ROWID;
"""


def _add_damage(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE devices ADD COLUMN damage TEXT NOT NULL DEFAULT ''")


def _add_mapped(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE devices ADD COLUMN mapped INTEGER")


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _add_damage, 2: _add_mapped}
"""From a version to the step that makes the next one of it, inside a transaction."""


def packed(*schemas: Schema) -> int:
    """The ``user_version`` of a file with the tables of *schemas* in their present versions."""
    return 1 + sum(each.VERSION - 1 << 8 * each.POSITION for each in schemas)


def unpacked(user_version: int, tables: Schema) -> int:
    """The version of *tables* in a file with that *user_version*, which is 1 or more."""
    return (user_version - 1 >> 8 * tables.POSITION & 0xFF) + 1
