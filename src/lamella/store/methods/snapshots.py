# SPDX-License-Identifier: Apache-2.0
"""Methods of :class:`lamella.store.Store` for the snapshots that containerd keeps on its pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella.errors import NotFoundError
from lamella.store import arguments
from lamella.store.methods.pool import df
from lamella.store.results import SnapshotSummary, parse_time_ns

if TYPE_CHECKING:
    from lamella.store.open_store import OpenStore
    from lamella.store.snapshot_catalog import Row


def snapshots(self: OpenStore) -> list[SnapshotSummary]:
    """All snapshots of containerd's, the oldest first, with what they take of the pool."""
    rows = self._catalog.snapshots.rows()
    if not rows:
        return []
    space = {row.name: row for row in df(self) if row.kind == "snapshot"}
    found = []
    for row in rows:
        used = space.get(row.key)
        exclusive = used.exclusive if used is not None else 0
        shared = used.mapped - used.exclusive if used is not None else 0
        device = self._state.device(row.device)
        found.append(_summary(row, device.size if device is not None else 0, exclusive, shared))
    return found


def _summary(row: Row, size: int, exclusive: int, shared: int) -> SnapshotSummary:
    record = row.snapshot
    return SnapshotSummary(
        key=record.key,
        namespace=namespace_of(record.key),
        kind=record.kind.name.lower(),
        parent=record.parent,
        created=parse_time_ns(record.created),
        updated=parse_time_ns(record.updated),
        size=size,
        exclusive=exclusive,
        shared=shared,
        labels=record.labels,
    )


def namespace_of(key: str) -> str:
    """containerd's namespace in a key of its metadata store, "NAMESPACE/NUMBER/NAME"; "" for other keys."""
    namespace, _, rest = key.partition("/")
    number, slash, _ = rest.partition("/")
    return namespace if slash and number.isascii() and number.isdigit() else ""


def inspect_snapshot(self: OpenStore, key: str) -> dict[str, Any]:
    """The record of a snapshot, its device, and the snapshots upon it, for JSON."""
    from lamella.driver.active_devices import present_device
    from lamella.driver.device_names import device_name

    row = _find(self, arguments.text(key, "a snapshot's key"))
    (summary,) = [each for each in snapshots(self) if each.key == row.key]
    device = self._state.device(row.device)
    here = present_device(self.root, row.device)
    damage = self.devices.damage(row.device)
    return {
        **summary.as_dict(),
        "children": [each.key for each in self._catalog.snapshots.rows() if each.parent == row.id],
        "device": {
            "name": device_name(self.root, row.device),
            "id": device.device_id if device is not None else None,
            "active": here is not None,
            "mounted": here.points if here is not None else [],
            "damage": damage,
        },
    }


def remove_snapshot(self: OpenStore, key: str) -> str:
    """Remove a snapshot upon which there is no other; returns its key. containerd keeps its own record.

    Raises :class:`lamella.errors.BusyError` naming a snapshot upon it.
    """
    self._writable()
    row = _find(self, arguments.text(key, "a snapshot's key"))
    self._opened.snapshots.remove(row.key)
    return row.key


def _find(self: OpenStore, key: str) -> Row:
    """The snapshot with that key; or the only one whose key begins with it, or whose name does."""
    found = self._catalog.snapshots.find(key)
    if found is not None:
        return found
    rows = self._catalog.snapshots.rows()
    matching = [row for row in rows if row.key.startswith(key) or _name(row.key).startswith(key)]
    if key and len(matching) == 1:
        return matching[0]
    what = f"{len(matching)} snapshots begin" if len(matching) > 1 and key else "no snapshot begins"
    raise NotFoundError(f"{what} with {key!r}", hint="see what there is: lamella snapshots ls --no-trunc")


def _name(key: str) -> str:
    """What of a key is the name in its namespace."""
    return key.split("/", 2)[2] if namespace_of(key) else key
