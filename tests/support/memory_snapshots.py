# SPDX-License-Identifier: Apache-2.0
"""Snapshots without a store, to test servers with: as containerd's own metadata has them, but in memory.

Authority: containerd v2.4.2, ``core/snapshots/storage/bolt.go``.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lamella.errors import BusyError, ExistsError, NotFoundError, UnsupportedError, UsageError
from lamella.store.snapshot_model import Kind, Mount, Snapshot, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lamella.images.stream import LayerStream


class MemorySnapshots:
    """Methods as :class:`lamella.store.snapshots.Snapshots` has them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Snapshot] = {}
        self.cleaned = 0

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]:
        return self._add(Kind.ACTIVE, key, parent, labels)

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]:
        return self._add(Kind.VIEW, key, parent, labels)

    def mounts(self, key: str) -> list[Mount]:
        with self._lock:
            found = self._find(key)
            if found.kind is Kind.COMMITTED:
                raise BusyError(f"{key} is committed", hint="prepare a snapshot on it")
            return _mounts(found)

    def commit(self, name: str, key: str, labels: Mapping[str, str], *, parent: str = "") -> None:
        with self._lock:
            if name in self._all:
                raise ExistsError(f"the snapshot {name} exists already", hint="give another name")
            found = self._find(key)
            if found.kind is not Kind.ACTIVE:
                raise BusyError(f"the snapshot {key} is not active", hint="commit an active one")
            if parent and found.parent not in ("", parent):
                raise UsageError(f"{key} has another parent", hint="give its own or none")
            if parent and self._find(parent).kind is not Kind.COMMITTED:
                raise BusyError(f"{parent} is not committed", hint="commit it")
            now = time.time_ns()
            del self._all[key]
            self._all[name] = Snapshot(name, found.parent or parent, Kind.COMMITTED, now, now, dict(labels))

    def remove(self, key: str) -> None:
        with self._lock:
            self._find(key)
            if any(snapshot.parent == key for snapshot in self._all.values()):
                raise BusyError(f"cannot remove snapshot {key} with child", hint="remove those first")
            del self._all[key]

    def stat(self, key: str) -> Snapshot:
        with self._lock:
            return self._find(key)

    def update(self, key: str, labels: Mapping[str, str], paths: Sequence[str]) -> Snapshot:
        with self._lock:
            found = self._find(key)
            updated = dict(found.labels if paths else labels)
            for path in paths:
                if path == "labels":
                    updated = dict(labels)
                else:
                    name = path.removeprefix("labels.")
                    updated[name] = labels.get(name, "")
            updated = {name: value for name, value in updated.items() if value}
            self._all[key] = replace(found, labels=updated, updated=time.time_ns())
            return self._all[key]

    def walk(self) -> list[Snapshot]:
        with self._lock:
            return list(self._all.values())

    def usage(self, key: str) -> Usage:
        with self._lock:
            self._find(key)
            return Usage(len(key) << 20, 11)

    def clean_up(self) -> None:
        self.cleaned += 1

    def apply(self, source: str, layer: LayerStream) -> None:
        raise UnsupportedError(f"{source} is in memory only", hint="mount it")

    def _add(self, kind: Kind, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]:
        with self._lock:
            if parent and self._find(parent).kind is not Kind.COMMITTED:
                raise UsageError(f"the parent {parent} is not committed", hint="commit it")
            if key in self._all:
                raise ExistsError(f"the snapshot {key} exists already", hint="give another key")
            now = time.time_ns()
            self._all[key] = Snapshot(key, parent, kind, now, now, dict(labels))
            return _mounts(self._all[key])

    def _find(self, key: str) -> Snapshot:
        if key not in self._all:
            raise NotFoundError(f"there is no snapshot {key}", hint="list those that there are")
        return self._all[key]


@dataclass
class MemoryHosted:
    """A hosted store with such snapshots."""

    root: Path
    snapshots: MemorySnapshots = field(default_factory=MemorySnapshots)


def _mounts(snapshot: Snapshot) -> list[Mount]:
    return [
        Mount("ext4", f"/dev/{snapshot.key}", ("ro",) if snapshot.kind is Kind.VIEW else ("rw", "discard"))
    ]
