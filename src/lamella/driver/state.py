# SPDX-License-Identifier: Apache-2.0
"""``state.db``: what is not recorded in the pool itself, in one SQLite file.

It has the driver's tables (:mod:`lamella.driver.schema`) and those of the schemas that its users add.

Every change is a transaction that is on the disk when it returns (``synchronous=EXTRA``, rollback
journal: unlike a write-ahead log it can be read in a folder that may not be written).
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lamella import logs
from lamella.block.atomic_file import publish, unfinished
from lamella.block.system import explaining
from lamella.closing import Closing, on_error
from lamella.driver import schema
from lamella.errors import (
    BusyError,
    CorruptError,
    DeviceIOError,
    LamellaError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    UnsupportedError,
    UsageError,
)
from lamella.interruptible import make_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lamella.driver.schema import Schema

log = logs.logger(__name__)

_Record = TypeVar("_Record")

BASE = "base"
"""The name of the base device; all devices but this and the next are named by 64 hexadecimal digits."""
SNAPSHOT_BASE = "snapshot-base"
"""The name of the device of which containerd's snapshots without a parent are snapshots."""

RESTORE = "restore state.db from a backup; the layers and containers in the pool are untouched"
"""What to do when the file is damaged; a hint."""
_NEWER = "use the newer Lamella that wrote it"


@dataclass(frozen=True)
class Device:
    """One named thin device: what Docker keeps as a JSON file per device. *size* is in bytes.

    *damage*: what a repair of the pool could not save of it, in words; empty if nothing is missing.
    *mapped*: how many chunks of the pool it maps at least; fewer are a loss; None if that is not known.
    """

    hash: str
    device_id: int
    size: int
    transaction_id: int
    initialized: bool = False
    deleted: bool = False
    damage: str = ""
    mapped: int | None = None


@dataclass(frozen=True)
class Note:
    """What the open transaction is about to change: (hash, device id) of each of its devices."""

    transaction_id: int
    action: Literal["create", "delete"]
    devices: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PoolFacts:
    """The record of the pool: its last transaction, and the base device's file system."""

    transaction_id: int
    next_device_id: int
    base_uuid: str
    base_filesystem: str


WAL_THRESHOLD = 8
"""Transactions of one opening after which it uses a write-ahead log: one flush for each, not four."""


class State(Closing):
    """An open ``state.db``. Use :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.path = path
        self.connection = connection
        self._lazy = False
        """Whether a transaction is open that becomes durable with the next one."""
        self._count = 0
        """How many transactions were made durable so far."""
        self.read_only = read_only
        self.alone: Callable[[], AbstractContextManager[object]] = nullcontext
        """Keeps readers out while the block runs: for each commit, of this file and of the pool."""
        self.lock = make_lock()
        """Held for each statement and for each whole transaction, where threads share the file; and by who
        has to find what it has just read still true."""

    @classmethod
    def create(cls, path: Path, *schemas: Schema) -> State:
        """Make the file, with the driver's tables and those of *schemas*. It is there whole or not at all."""
        fresh = unfinished(path)
        with explaining("create", str(path)):
            for left in (fresh, path.with_name(f"{fresh.name}-journal")):
                left.unlink(missing_ok=True)
            os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            connection = _connect(fresh, read_only=False)
            try:
                with cls(fresh, connection, read_only=False).transaction():
                    for each in (schema, *schemas):
                        for statement in each.TABLES.split(";"):
                            connection.execute(statement)
                    connection.execute("INSERT INTO pool VALUES (1, 0, 0, '', '')")
                    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {schema.packed(schema, *schemas)}")
            finally:
                connection.close()
            publish(fresh, path)
        return cls.open(path, *schemas)

    @classmethod
    def open(
        cls,
        path: Path,
        *schemas: Schema,
        read_only: bool = False,
        has_writer: Callable[[], bool] | None = None,
        shared: bool = False,
    ) -> State:
        """Open an existing file and bring older tables, the driver's and those of *schemas*, up to date.

        With *read_only* that is done in a copy in memory, and the file stays as it is; *has_writer* says
        whether a writer has it open at this moment, whose journal is not one that it left. A *shared* one
        may be used by several threads, and has a write-ahead log from the start, so that other connections
        of this process read while it writes.
        Raises :class:`NotFoundError`, :class:`CorruptError` (not ours, truncated, damaged) or
        :class:`UnsupportedError` (made by a newer Lamella).
        """
        _check_header(path)
        left = any(path.with_name(f"{path.name}-{end}").exists() for end in ("journal", "wal"))
        if read_only and left and not (has_writer is not None and has_writer()):
            # A writer died. Recovering its journal needs to write, which a read-only folder may refuse.
            with suppress(ReadOnlyError, PermissionDeniedError):
                cls._open(path, schemas, read_only=False).close()
        state = cls._open(path, schemas, read_only=read_only, shared=shared)
        if shared and not read_only:
            state._set_journal("WAL")
            state._count = WAL_THRESHOLD
        return state

    @classmethod
    def _open(cls, path: Path, schemas: Sequence[Schema], *, read_only: bool, shared: bool = False) -> State:
        connection = _connect(path, read_only=read_only, shared=shared)
        state = cls(path, connection, read_only=read_only)
        with on_error(lambda: state.connection.close()), state._explained("open"):
            state._check_versions([schema, *schemas])
            if state.connection.execute("SELECT count(*) FROM pool").fetchone()[0] != 1:
                raise CorruptError(f"{path} lacks its pool record", hint=RESTORE)
        return state

    def _check_versions(self, schemas: Sequence[Schema]) -> None:
        if self.connection.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
            raise CorruptError(f"{self.path} is an SQLite file, but not Lamella's", hint=RESTORE)
        packed = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if packed < 1:
            raise CorruptError(f"{self.path} has the unknown version {packed}", hint=RESTORE)
        known = 0
        for each in schemas:
            self._check_version(each, schema.unpacked(packed, each))
            known |= 0xFF << 8 * each.POSITION
        older = any(schema.unpacked(packed, each) < each.VERSION for each in schemas)
        if packed - 1 & ~known:
            raise UnsupportedError(
                f"{self.path} has version {packed}, with tables that this Lamella does not know", hint=_NEWER
            )
        if older and self.read_only:
            self._move_to_memory()
        for each in schemas:
            self._migrate(each)

    def _check_version(self, tables: Schema, version: int) -> None:
        """Raise where *version* of the *tables* cannot be used."""
        if version > tables.VERSION:
            raise UnsupportedError(
                f"{self.path} has {tables.OWNER} tables of version {version}, and this Lamella knows "
                f"versions up to {tables.VERSION}",
                hint=_NEWER,
            )

    def _move_to_memory(self) -> None:
        """Go on with a copy, for a reader of older tables."""
        copy = sqlite3.connect(":memory:", isolation_level=None)
        copy.row_factory = sqlite3.Row
        with on_error(copy.close):
            self.connection.backup(copy)
        self.connection.close()
        self.connection = copy

    def _migrate(self, tables: Schema) -> None:
        """Take the *tables* to their present version, each step in a transaction of its own."""
        while True:
            packed = self.connection.execute("PRAGMA user_version").fetchone()[0]
            version = schema.unpacked(packed, tables)
            if version >= tables.VERSION:
                return
            step = tables.MIGRATIONS.get(version)
            if step is None:
                raise CorruptError(f"{self.path} has the unknown version {version}", hint=RESTORE)
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                step(self.connection)
                self.connection.execute(f"PRAGMA user_version = {packed + (1 << 8 * tables.POSITION)}")
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file, with the last lazy transaction written. Closing twice is harmless."""
        with self.lock:
            self._close()

    def commit_lazy(self) -> None:
        """Make the last lazy transaction durable, and visible to other connections."""
        with self.lock:
            if self._lazy and self.connection.in_transaction:
                self._lazy = False
                with self._explained("write"), self.alone():
                    self.connection.execute("COMMIT")

    def _close(self) -> None:
        try:
            self.commit_lazy()
            if self._count >= WAL_THRESHOLD:
                self._set_journal("DELETE")
        finally:
            self.connection.close()

    def _set_journal(self, mode: str) -> None:
        """Use a write-ahead log (WAL) or none (DELETE). If that fails, as on a full disk, nothing changes."""
        with suppress(sqlite3.Error):
            self.connection.execute(f"PRAGMA journal_mode = {mode}")

    # -- transactions and errors -----------------------------------------------------------------

    @contextmanager
    def transaction(self, *, lazy: bool = False) -> Iterator[sqlite3.Connection]:
        """All statements inside become durable together when the block ends, or none does.

        A *lazy* one becomes durable with the next that is not, or when the file is closed; readers of this
        object see it at once. It is for what can be found out again.
        """
        if self.read_only:
            raise ReadOnlyError(f"{self.path} is open for reading only", hint="open the store for writing")
        execute = self.connection.execute
        with self.lock, self._explained("write"):
            joins = self._lazy and self.connection.in_transaction
            execute("SAVEPOINT step" if joins else "BEGIN IMMEDIATE")
            log.debug("SQL transaction begun in %s", self.path)
            self._lazy = done = False
            try:
                yield self.connection
                if joins:
                    execute("RELEASE step")
                done = True
                if not lazy:
                    with self.alone():
                        execute("COMMIT")
                log.debug("SQL transaction %s", "done; the next one commits it" if lazy else "committed")
            finally:
                if joins and not done and self.connection.in_transaction:
                    execute("ROLLBACK TO step")
                    execute("RELEASE step")
                elif self.connection.in_transaction and not (done and lazy):
                    execute("ROLLBACK")
                if not done:
                    log.debug("SQL transaction rolled back")
                self._lazy = self.connection.in_transaction
            if not lazy:
                self._count += 1
                if self._count == WAL_THRESHOLD:
                    with self.alone():
                        self._set_journal("WAL")

    def begin_reading(self) -> None:
        """See what is committed now from here on, whatever is committed later; for a read-only connection
        beside one that writes with a write-ahead log."""
        with self._explained("read"):
            self.connection.execute("BEGIN")
            self.connection.execute("SELECT count(*) FROM pool").fetchone()

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows that a SELECT finds."""
        with self.lock, self._explained("read"):
            return self.connection.execute(query, parameters).fetchall()

    def texts(self, query: str, parameters: Sequence[Any] = ()) -> list[str]:
        """The texts that a SELECT of one column finds. Raises :class:`CorruptError` for anything else."""
        found = [row[0] for row in self.rows(query, parameters)]
        for value in found:
            if not isinstance(value, str):  # an index that is not of its table
                raise CorruptError(f"{self.path} is damaged: a name in it is {value!r:.60}", hint=RESTORE)
        return found

    def row(self, query: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row that a SELECT finds."""
        with self.lock, self._explained("read"):
            found: sqlite3.Row | None = self.connection.execute(query, parameters).fetchone()
            return found

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(error, doing, self.path) from error
        except UnicodeDecodeError as error:  # of SQLite's message, which quotes a damaged schema
            raise _explain(sqlite3.DatabaseError("its schema is damaged"), doing, self.path) from error

    def integrity_problems(self) -> list[str]:
        """The findings of SQLite's ``integrity_check`` and ``foreign_key_check``."""
        try:
            with self.lock:
                found = [row[0] for row in self.connection.execute("PRAGMA integrity_check")]
            problems = [f"{self.path}: {text}" for text in found if text != "ok"]
            problems += [f"{self.path}: {text}" for text in self.dangling_rows()]
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            return [f"{self.path}: {error}"]
        except LamellaError as error:
            return [error.message]
        return problems

    def dangling_rows(self, *tables: str) -> list[str]:
        """Rows, of *tables* or of all, that refer to others which are not there; only damage leaves such."""
        checks = [f"PRAGMA foreign_key_check({table})" for table in tables] or ["PRAGMA foreign_key_check"]
        rows = [row for check in checks for row in self.rows(check)]
        return [f"a row of {row[0]} refers to a missing row of {row[2]}" for row in rows]

    # -- the pool's facts ------------------------------------------------------------------------

    def pool(self) -> PoolFacts:
        """The record of the pool."""
        row = self.row("SELECT transaction_id, next_device_id, base_uuid, base_filesystem FROM pool")
        assert row is not None
        return typed(PoolFacts, row)

    def set_pool(self, **facts: object) -> None:
        """Set some of the facts, inside a transaction."""
        names = ", ".join(f"{name} = ?" for name in facts)
        self.connection.execute(f"UPDATE pool SET {names}", tuple(facts.values()))

    # -- the open transaction --------------------------------------------------------------------

    def note(self) -> Note | None:
        """The note of an unfinished transaction, or None."""
        row = self.row("SELECT transaction_id, action, devices FROM note")
        if row is None:
            return None
        try:
            devices = tuple((str(name), int(number)) for name, number in json.loads(row["devices"]))
        except (ValueError, TypeError, RecursionError) as error:
            raise CorruptError(f"{self.path} has an unreadable open transaction", hint=RESTORE) from error
        if not isinstance(row["transaction_id"], int) or row["action"] not in ("create", "delete"):
            raise CorruptError(f"{self.path} has an unreadable open transaction", hint=RESTORE)
        return Note(row["transaction_id"], row["action"], devices)

    def set_note(self, note: Note) -> None:
        """Record the note, inside a transaction."""
        self.connection.execute(
            "INSERT OR REPLACE INTO note VALUES (1, ?, ?, ?)",
            (note.transaction_id, note.action, json.dumps(note.devices)),
        )

    def clear_note(self) -> None:
        """Remove the note, inside a transaction."""
        self.connection.execute("DELETE FROM note")

    # -- devices ---------------------------------------------------------------------------------

    def devices(self, *, deleted: bool | None = None) -> list[Device]:
        """All devices by id; with *deleted*, only those that are (not) marked as deleted."""
        where = "" if deleted is None else f" WHERE deleted = {int(deleted)}"
        return [_device(row) for row in self.rows(f"SELECT * FROM devices{where} ORDER BY device_id")]

    def device(self, name: str) -> Device | None:
        """The device called *name*, or None."""
        row = self.row("SELECT * FROM devices WHERE hash = ?", (name,))
        return _device(row) if row else None

    def has_device_id(self, number: int) -> bool:
        """Whether a device has that id, including those that are marked as deleted."""
        return self.row("SELECT 1 FROM devices WHERE device_id = ?", (number,)) is not None

    def put_device(self, device: Device) -> None:
        """Add a device, or replace the one of that name, inside a transaction."""
        self.connection.execute(
            "INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO UPDATE SET "
            "device_id = excluded.device_id, size = excluded.size, transaction_id = excluded.transaction_id, "
            "initialized = excluded.initialized, deleted = excluded.deleted, damage = excluded.damage, "
            "mapped = excluded.mapped",
            (
                device.hash,
                device.device_id,
                device.size,
                device.transaction_id,
                int(device.initialized),
                int(device.deleted),
                device.damage,
                device.mapped,
            ),
        )

    def exchange(self, one: str, two: str) -> None:
        """Give two devices each other's names, inside a transaction."""
        execute = self.connection.execute
        execute("PRAGMA defer_foreign_keys = ON")
        for old, new in ((one, ""), (two, one), ("", two)):
            execute("UPDATE devices SET hash = ? WHERE hash = ?", (new, old))

    def mark_deleted(self, name: str) -> None:
        """Mark a device for deletion, inside a transaction."""
        self.connection.execute("UPDATE devices SET deleted = 1 WHERE hash = ?", (name,))

    def set_damage(self, damage: Mapping[str, str]) -> None:
        """Record what is missing of devices, by name, inside a transaction; "" is nothing."""
        self.connection.executemany(
            "UPDATE devices SET damage = ? WHERE hash = ?", [(what, name) for name, what in damage.items()]
        )

    def set_mapped(self, mapped: Mapping[str, int | None]) -> None:
        """Record how many chunks devices map at least, by name, inside a transaction."""
        self.connection.executemany(
            "UPDATE devices SET mapped = ? WHERE hash = ?", [(count, name) for name, count in mapped.items()]
        )

    def drop_device(self, name: str) -> None:
        """Remove a device's row, inside a transaction."""
        self.connection.execute("DELETE FROM devices WHERE hash = ?", (name,))


def typed(kind: type[_Record], row: Sequence[object]) -> _Record:
    """A *kind*, a dataclass with a table's columns in its order, of a *row* of that table.

    Raises :class:`CorruptError` for a value of another type, which SQLite takes in any column.
    """
    for (name, wanted), value in zip(kind.__annotations__.items(), row, strict=True):
        if not isinstance(value, _TYPES[wanted]):
            raise CorruptError(
                f"state.db is damaged: the {name} of a {kind.__name__} is {value!r:.60}", hint=RESTORE
            )
    return kind(*row)


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (int,),
    "bytes": (bytes,),
}


def _device(row: sqlite3.Row) -> Device:
    found = typed(Device, row)
    return replace(found, initialized=bool(found.initialized), deleted=bool(found.deleted))


def _check_header(path: Path) -> None:
    """Reject a missing or empty file, which SQLite would take for an empty database.

    The file is not opened: closing it would release the locks of a connection that this process has to it.
    """
    try:
        size = os.stat(path).st_size
        if not os.access(path, os.R_OK):
            raise PermissionError
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path} does not exist", hint="set the store up: lamella setup loop-lvm"
        ) from error
    except PermissionError as error:
        raise PermissionDeniedError(f"cannot read {path}", hint="run as its owner, or as root") from error
    except OSError as error:
        raise DeviceIOError(
            f"cannot read {path}: {os.strerror(error.errno or 0)}", hint="check the disk"
        ) from error
    if not size:
        raise CorruptError(f"{path} is empty", hint=RESTORE)


def _connect(path: Path, *, read_only: bool, shared: bool = False) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=5.0, check_same_thread=not shared
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        if not read_only:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
            # Else a long transaction locks readers out before its commit.
            connection.execute("PRAGMA cache_spill = OFF")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise _explain(error, "open", path) from error
    return connection


def _explain(error: sqlite3.Error, doing: str, path: Path) -> LamellaError:
    """The error class for what SQLite says; the primary code is the low byte of the extended one."""
    message = f"cannot {doing} {path}: {error}"
    if isinstance(error, sqlite3.ProgrammingError):  # of the caller: closed, or of another thread
        return UsageError(message, hint="open a store for each thread, and use it before it is closed")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return CorruptError(f"{path} is not an SQLite file", hint=RESTORE)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(message, hint=RESTORE)
    if code == sqlite3.SQLITE_FULL:
        return NoSpaceError(message, hint="free some space on the store's file system, then try again")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyError(message, hint="another program has the file open; wait for it to finish")
    if code == sqlite3.SQLITE_READONLY:
        return ReadOnlyError(message, hint="make the store's folder writable")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return PermissionDeniedError(message, hint="run as the owner of the store, or as root")
    if code == sqlite3.SQLITE_IOERR:
        return DeviceIOError(message, hint="look at the kernel's log (dmesg), and for a full disk")
    return CorruptError(message, hint=RESTORE)
