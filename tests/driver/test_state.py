# SPDX-License-Identifier: Apache-2.0
"""``state.db``: durable, whole, and clear about what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, ClassVar

import pytest

from lamella.driver import schema
from lamella.driver.state import WAL_THRESHOLD, Device, Note, State
from lamella.errors import CorruptError, LamellaError, NotFoundError, ReadOnlyError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def test_devices_and_notes_are_kept(path: Path) -> None:
    state = State.create(path)
    device = Device("a" * 64, 3, 1 << 30, 7)
    with state.transaction():
        state.put_device(device)
        state.set_note(Note(8, "delete", ((device.hash, 3),)))
        state.set_pool(transaction_id=7, base_uuid="u")
    state.close()
    state = State.open(path)
    assert state.devices() == [device]
    assert state.note() == Note(8, "delete", ((device.hash, 3),))
    assert state.pool().transaction_id == 7
    with state.transaction():
        state.mark_deleted(device.hash)
        state.clear_note()
    assert state.devices(deleted=False) == []
    assert state.devices(deleted=True)[0].device_id == 3
    assert state.note() is None
    assert state.integrity_problems() == []


def test_a_failing_block_changes_nothing(path: Path) -> None:
    state = State.create(path)

    def fail() -> None:
        with state.transaction():
            state.set_pool(transaction_id=99)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state.pool().transaction_id == 0


def test_a_transaction_is_durable_at_once(path: Path) -> None:
    state = State.create(path)
    assert state.connection.execute("PRAGMA synchronous").fetchone()[0] == 3  # EXTRA
    assert state.connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"


def test_reading_in_a_folder_that_may_not_be_written(path: Path) -> None:
    State.create(path).close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        state = State.open(path, read_only=True)
        assert state.devices() == []
        with pytest.raises(ReadOnlyError), state.transaction():
            pass
        state.close()
    finally:
        path.parent.chmod(0o700)


def test_missing(path: Path) -> None:
    with pytest.raises(NotFoundError):
        State.open(path)


@pytest.mark.parametrize("content", [b"", b"SQL", b"x" * 8192, b"SQLite format 3\0" + b"\0" * 5000])
def test_what_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=r"state\.db") as caught:
        State.open(path)
    assert "backup" in str(caught.value.hint)
    assert path.read_bytes() == content


def test_truncated(path: Path) -> None:
    state = State.create(path)
    with state.transaction():
        for number in range(2000):
            state.put_device(Device(f"{number:064x}", number, 1, 1))
    state.close()
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(CorruptError):
        State.open(path).devices()


def test_another_programs_database(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (a)")
    with pytest.raises(CorruptError, match="not Lamella's"):
        State.open(path)


def test_a_newer_one_is_refused(path: Path) -> None:
    state = State.create(path)
    state.connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    state.close()
    with pytest.raises(UnsupportedError, match=f"version {schema.VERSION + 1}"):
        State.open(path)


def raise_driver_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setitem(
        schema.MIGRATIONS,
        schema.VERSION - 1,
        lambda db: db.execute("ALTER TABLE pool ADD COLUMN colour TEXT"),
    )


def test_an_older_one_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    State.create(path).close()
    raise_driver_version(monkeypatch)
    before = path.read_bytes()
    with closing(State.open(path, read_only=True)) as state:  # a reader does that in memory
        assert state.row("SELECT colour FROM pool") is not None
        with pytest.raises(ReadOnlyError), state.transaction():
            pass
    assert path.read_bytes() == before
    State.open(path).close()
    assert path.read_bytes() != before
    with closing(State.open(path, read_only=True)) as state:
        assert state.row("SELECT colour FROM pool") is not None


_DIES_IN_A_TRANSACTION = """
import os, sys
from pathlib import Path
from lamella.driver.state import Device, State
state = State.open(Path(sys.argv[1]))
state.connection.execute("PRAGMA cache_size = 2")
with state.transaction():
    for number in range(5000):
        state.put_device(Device(f"{number:064x}", number, 1, 1))
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("read_only", [False, True])
def test_what_a_killed_writer_left_is_undone(path: Path, read_only: bool) -> None:
    State.create(path).close()
    subprocess.run([sys.executable, "-c", _DIES_IN_A_TRANSACTION, path], check=False)
    assert path.with_name("state.db-journal").exists()
    state = State.open(path, read_only=read_only)
    assert state.devices() == []
    assert state.integrity_problems() == []


def put_and_fail(state: State, connection: sqlite3.Connection) -> None:
    state.put_device(Device("two", 2, 4096, 0))
    connection.execute("SELECT nonsense")


def test_a_lazy_transaction_is_seen_at_once_and_lasts_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(State.create(path)) as state, closing(State.open(path, read_only=True)) as other:
        with state.transaction(lazy=True):
            state.put_device(Device("one", 1, 4096, 0))
        assert [each.hash for each in state.devices()] == ["one"]
        assert other.devices() == []
        with pytest.raises(LamellaError), state.transaction() as connection:
            put_and_fail(state, connection)
        assert [each.hash for each in state.devices()] == ["one"]
        with state.transaction(lazy=True):
            state.put_device(Device("three", 3, 4096, 0))
        with state.transaction():
            state.put_device(Device("four", 4, 4096, 0))
        assert [each.hash for each in other.devices()] == ["one", "three", "four"]


def test_a_lazy_transaction_lasts_when_the_file_is_closed_and_not_when_its_writer_dies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.db"
    state = State.create(path)
    with state.transaction(lazy=True):
        state.put_device(Device("one", 1, 4096, 0))
    copy = tmp_path / "copy.db"  # as a dead process leaves it
    copy.write_bytes(path.read_bytes())
    state.close()
    state.close()
    with closing(State.open(copy)) as found:
        assert found.devices() == []
    with closing(State.open(path)) as found:
        assert [each.hash for each in found.devices()] == ["one"]


def test_transactions_do_not_nest(tmp_path: Path) -> None:
    with closing(State.create(tmp_path / "state.db")) as state:
        with pytest.raises(LamellaError), state.transaction(), state.transaction():
            raise AssertionError
        assert not state.connection.in_transaction


def many(state: State) -> None:
    for number in range(WAL_THRESHOLD + 3):
        with state.transaction():
            state.put_device(Device(f"{number:02}", number, 4096, 0))


def test_who_changes_much_keeps_a_log_that_goes_when_the_file_is_closed(path: Path) -> None:
    with closing(State.create(path)) as state:
        many(state)
        assert path.with_name("state.db-wal").exists()
        with state.transaction(lazy=True):
            state.drop_device("00")
    assert [each.name for each in path.parent.iterdir()] == ["state.db"]
    with closing(State.open(path, read_only=True)) as state:
        assert [each.device_id for each in state.devices()] == list(range(1, WAL_THRESHOLD + 3))
        assert state.connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"


_DIES_AFTER_MANY = """
import os, sys
from pathlib import Path
from lamella.driver.state import WAL_THRESHOLD, Device, State
state = State.open(Path(sys.argv[1]))
for number in range(WAL_THRESHOLD + 3):
    with state.transaction():
        state.put_device(Device(f"{number:02}", number, 1, 1))
with state.transaction(lazy=True):
    state.drop_device("00")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("read_only", [False, True])
def test_what_a_killed_writer_had_in_its_log_is_there(path: Path, read_only: bool) -> None:
    State.create(path).close()
    subprocess.run([sys.executable, "-c", _DIES_AFTER_MANY, path], check=False)
    assert path.with_name("state.db-wal").exists()
    with closing(State.open(path, read_only=read_only)) as state:
        assert [each.device_id for each in state.devices()] == list(range(WAL_THRESHOLD + 3))
        assert state.integrity_problems() == []
    assert not path.with_name("state.db-wal").exists()


class Notes:
    """Tables of another owner, in the same file."""

    OWNER = "notes"
    POSITION = 2
    VERSION = 1
    TABLES = "CREATE TABLE notes (text TEXT); CREATE TABLE more_notes (text TEXT)"
    MIGRATIONS: ClassVar[dict[int, Callable[[sqlite3.Connection], None]]] = {}


class NewerNotes(Notes):
    VERSION = 3
    TABLES = "CREATE TABLE notes (text TEXT, added INTEGER, colour TEXT)"
    MIGRATIONS: ClassVar[dict[int, Callable[[sqlite3.Connection], None]]] = {
        1: lambda db: db.execute("ALTER TABLE notes ADD COLUMN added INTEGER"),
        2: lambda db: db.execute("ALTER TABLE notes ADD COLUMN colour TEXT"),
    }


def user_version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def test_each_schema_has_its_own_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(State.create(path, Notes())) as state, state.transaction() as db:
        db.execute("INSERT INTO notes VALUES ('kept')")
    assert user_version(path) == schema.VERSION
    with closing(State.open(path, NewerNotes(), read_only=True)) as state:
        assert tuple(state.rows("SELECT * FROM notes")[0]) == ("kept", None, None)
    assert user_version(path) == schema.VERSION
    with closing(State.open(path, NewerNotes())) as state:
        assert tuple(state.rows("SELECT * FROM notes")[0]) == ("kept", None, None)
        assert state.devices() == []
    assert user_version(path) == schema.VERSION + (2 << 16)
    raise_driver_version(monkeypatch)
    with closing(State.open(path, NewerNotes())) as state:
        assert state.row("SELECT colour FROM pool") is not None
    assert user_version(path) == schema.VERSION + (2 << 16)
    with closing(State.create(path.with_name("fresh.db"), NewerNotes())) as state:
        assert state.row("SELECT colour FROM notes") is None
    assert user_version(path.with_name("fresh.db")) == schema.VERSION + (2 << 16)


def test_newer_tables_of_another_owner_are_refused_and_nothing_is_migrated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    State.create(path, NewerNotes()).close()
    before = path.read_bytes()
    raise_driver_version(monkeypatch)
    with pytest.raises(UnsupportedError, match="notes tables of version 3"):
        State.open(path, Notes())
    with pytest.raises(UnsupportedError, match="that this Lamella does not know"):
        State.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE devices SET size = 'x'",
        "UPDATE devices SET device_id = x'00'",
        "UPDATE pool SET transaction_id = 'x'",
        "INSERT INTO note VALUES (1, 'x', 'create', '[]')",
    ],
)
def test_a_value_of_another_type_is_damage(path: Path, damage: str) -> None:
    """SQLite takes any type in any column ("Datatypes In SQLite", 3), so a flipped bit may change it."""
    with State.create(path) as state, state.transaction():
        state.put_device(Device("a" * 64, 1, 1 << 30, 1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    with State.open(path, read_only=True) as state:

        def read() -> None:
            state.pool()
            state.note()
            state.devices()

        with pytest.raises(CorruptError, match=r"damaged|unreadable"):
            read()
