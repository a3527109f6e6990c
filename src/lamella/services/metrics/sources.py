# SPDX-License-Identifier: Apache-2.0
"""What the metrics read of a store that this process keeps open: numbers, and the usage by kind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lamella.services.metrics.table import SNAPSHOT_KINDS, USAGE_KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.store import Store
    from lamella.store.gauges import Gauges
    from lamella.store.snapshot_model import Snapshot


class Walkable(Protocol):
    """containerd's snapshots, as far as they are needed here."""

    def walk(self) -> Sequence[Snapshot]:
        """All of them."""


class Hosted(Protocol):
    """A store that this process keeps open, as far as it is needed here: it is only read."""

    def store(self, *, read_only: bool = False) -> Store:
        """A store for one thread, which closes it."""

    @property
    def snapshots(self) -> Walkable:
        """containerd's snapshots in it."""


@dataclass(frozen=True)
class Sample:
    """The numbers of one moment, all cheap."""

    gauges: Gauges
    snapshots: dict[str, int]
    """By containerd's kinds."""


@dataclass(frozen=True)
class Space:
    """Bytes of the pool's data, counted where they were written."""

    exclusive: int = 0
    shared: int = 0


def read_sample(hosted: Hosted) -> Sample:
    """The numbers now."""
    with hosted.store(read_only=True) as store:
        gauges = store.gauges()
    counted = Counter(dict.fromkeys(SNAPSHOT_KINDS, 0))
    counted.update(snapshot.kind.name.lower() for snapshot in hosted.snapshots.walk())
    return Sample(gauges, dict(counted))


def read_usage(hosted: Hosted) -> dict[str, Space]:
    """What ``lamella df`` shows, by kind; of images nothing, as their space is that of their layers."""
    found = dict.fromkeys(USAGE_KINDS, Space())
    with hosted.store(read_only=True) as store:
        rows = store.df()
    for row in rows:
        if row.kind in ("pool", "image"):
            continue
        before = found.get(row.kind, Space())
        found[row.kind] = Space(
            before.exclusive + row.exclusive, before.shared + max(row.space - row.exclusive, 0)
        )
    return found
