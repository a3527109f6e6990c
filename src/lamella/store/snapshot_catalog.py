# SPDX-License-Identifier: Apache-2.0
"""containerd's snapshots in ``state.db``: looked up by key, added, committed, removed.

Rules and messages: containerd v2.4.2, ``core/snapshots/storage/bolt.go``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella import clock
from lamella.driver.state import RESTORE, typed
from lamella.errors import BusyError, CorruptError, ExistsError, NotFoundError, UsageError
from lamella.store.snapshot_model import Kind, Snapshot, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lamella.driver.state import State

_SEE = "see what there is: lamella snapshots ls"
_QUERY = "SELECT s.*, p.key AS parent_key FROM snapshots AS s LEFT JOIN snapshots AS p ON p.id = s.parent"


@dataclass(frozen=True)
class Row:
    """A row of the table ``snapshots``. *labels* is a JSON object; *parent_key* that of *parent*."""

    id: int
    key: str
    parent: int | None
    kind: int
    device: str
    created: int
    updated: int
    labels: str
    size: int | None
    inodes: int | None
    parent_key: str | None

    @property
    def snapshot(self) -> Snapshot:
        """The row as a record. Raises :class:`CorruptError` for one that is damaged."""
        try:
            labels = json.loads(self.labels)
            kind = Kind(self.kind)
        except (ValueError, RecursionError) as error:
            raise CorruptError(f"state.db is damaged: snapshot {self.key!r:.60}", hint=RESTORE) from error
        return Snapshot(self.key, self.parent_key or "", kind, self.created, self.updated, labels)

    @property
    def usage(self) -> Usage | None:
        """What it takes, once that is known for good."""
        if self.size is None or self.inodes is None:
            return None
        return Usage(self.size, self.inodes)


class SnapshotCatalog:
    """Reads and writes the rows; whatever writes is called inside ``state.transaction()``."""

    def __init__(self, state: State) -> None:
        self._state = state

    def find(self, key: str) -> Row | None:
        """The snapshot called *key*, or None."""
        row = self._state.row(f"{_QUERY} WHERE s.key = ?", (key,))
        return typed(Row, row) if row else None

    def get(self, key: str) -> Row:
        """The snapshot called *key*. Raises :class:`NotFoundError`."""
        row = self.find(key)
        if row is None:
            raise NotFoundError(f"snapshot {key} does not exist", hint=_SEE)
        return row

    def rows(self) -> list[Row]:
        """All of them, the oldest first."""
        return [typed(Row, row) for row in self._state.rows(f"{_QUERY} ORDER BY s.id")]

    def of_device(self, device: str) -> Row | None:
        """The snapshot that is active on *device*, or None."""
        row = self._state.row(f"{_QUERY} WHERE s.device = ? AND s.kind = ?", (device, Kind.ACTIVE.value))
        return typed(Row, row) if row else None

    def devices(self) -> list[Row]:
        """Those that have a device of their own: all but views."""
        return [row for row in self.rows() if row.kind != Kind.VIEW.value]

    def parent(self, key: str) -> Row | None:
        """The committed snapshot *key*, upon which one is to be made; None for ""."""
        if not key:
            return None
        row = self.find(key)
        if row is None:
            raise NotFoundError(f"parent snapshot {key} does not exist", hint=_SEE)
        if row.kind != Kind.COMMITTED.value:
            raise UsageError(f"parent {key} is not a committed snapshot", hint="commit it first")
        return row

    def refuse_existing(self, key: str) -> None:
        """Raise :class:`ExistsError` if there is a snapshot called *key*."""
        if self.find(key) is not None:
            raise ExistsError(f"snapshot {key} already exists", hint=_SEE)

    def add(self, key: str, parent: str, kind: Kind, device: str, labels: Mapping[str, str]) -> None:
        """Add a snapshot, whose parent must be there still."""
        self.refuse_existing(key)
        below = self.parent(parent)
        now = clock.now_ns()
        self._state.connection.execute(
            "INSERT INTO snapshots (key, parent, kind, device, created, updated, labels) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, below.id if below else None, kind.value, device, now, now, _text(labels)),
        )

    def commit(self, row: Row, name: str, labels: Mapping[str, str], device: str) -> None:
        """Make an active snapshot a committed one called *name*, with the content of *device*."""
        now = clock.now_ns()
        self._state.connection.execute(
            "UPDATE snapshots SET key = ?, kind = ?, labels = ?, created = ?, updated = ?, device = ? "
            "WHERE id = ?",
            (name, Kind.COMMITTED.value, _text(labels), now, now, device, row.id),
        )

    def set_labels(self, row: Row, labels: Mapping[str, str]) -> None:
        """Replace the labels."""
        self._state.connection.execute(
            "UPDATE snapshots SET labels = ?, updated = ? WHERE id = ?",
            (_text(labels), clock.now_ns(), row.id),
        )

    def set_usage(self, row: Row, usage: Usage) -> None:
        """Record what a committed snapshot takes, which does not change any more."""
        self._state.connection.execute(
            "UPDATE snapshots SET size = ?, inodes = ? WHERE id = ?", (usage.size, usage.inodes, row.id)
        )

    def refuse_parent(self, row: Row) -> None:
        """Raise :class:`BusyError` if another snapshot was made upon this one."""
        child = self._state.row("SELECT key FROM snapshots WHERE parent = ? LIMIT 1", (row.id,))
        if child is not None:
            raise BusyError(
                f"cannot remove snapshot {row.key} with child {child['key']}", hint="remove that one first"
            )

    def remove(self, row: Row) -> None:
        """Remove the row, unless another snapshot was made upon it."""
        self.refuse_parent(row)
        self._state.connection.execute("DELETE FROM snapshots WHERE id = ?", (row.id,))

    def views(self, device: str) -> int:
        """How many views show *device*."""
        row = self._state.row(
            "SELECT count(*) FROM snapshots WHERE device = ? AND kind = ?", (device, Kind.VIEW.value)
        )
        return int(row[0]) if row else 0


def merged_labels(snapshot: Snapshot, labels: Mapping[str, str], paths: Sequence[str]) -> dict[str, str]:
    """The labels of *snapshot* after an update by the field mask *paths*; without one all are replaced.

    One whose value is empty, or that *labels* do not have, is none (containerd v2.4.2,
    ``core/metadata/boltutil/helpers.go``, ``writeMap``).
    """
    changed = dict(snapshot.labels) if paths else dict(labels)
    for path in paths:
        if path == "labels":
            changed = dict(labels)
        elif path.startswith("labels."):
            name = path.removeprefix("labels.")
            changed[name] = labels.get(name, "")
        else:
            raise UsageError(
                f"cannot update the field {path!r} of snapshot {snapshot.key}",
                hint="only labels can be changed",
            )
    return {name: value for name, value in changed.items() if value}


def _text(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False)
