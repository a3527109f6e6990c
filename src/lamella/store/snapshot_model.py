# SPDX-License-Identifier: Apache-2.0
"""Snapshots as containerd has them: their kinds, records, usage and mounts.

Authority: containerd v2.4.2, ``core/snapshots/snapshotter.go``, and its service in
``api/services/snapshots/v1/snapshots.proto``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """What a snapshot is for; the value is the service's."""

    VIEW = 1
    """Read-only, and never committed."""
    ACTIVE = 2
    """Writable, until it is committed or removed."""
    COMMITTED = 3
    """Finished: it does not change any more, and others may be made upon it."""


@dataclass(frozen=True)
class Snapshot:
    """One snapshot. *created* and *updated*: nanoseconds since 1970, in UTC."""

    key: str
    """Its name, unique among all snapshots of the store. containerd's begin with "NAMESPACE/NUMBER/"."""
    parent: str
    """The key of the committed snapshot that it was made upon; "" without one."""
    kind: Kind
    created: int
    updated: int
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """What a snapshot takes that its parent does not: bytes of the pool's data, and inodes."""

    size: int
    inodes: int


@dataclass(frozen=True)
class Mount:
    """How a snapshot is mounted: arguments of mount(2); *options* as mount(8) has them."""

    type: str
    source: str
    options: tuple[str, ...] = ()
