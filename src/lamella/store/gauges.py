# SPDX-License-Identifier: Apache-2.0
"""The numbers of a store at one moment, for what watches it. Cheap: nothing is walked or read as a whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.driver.state import BASE, SNAPSHOT_BASE
from lamella.store.pool_health import facts
from lamella.thin.health import diagnose

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.driver.device_set import DeviceSet
    from lamella.store.catalog import Catalog
    from lamella.thin.health import Diagnosis
    from lamella.thin.status import PoolStatus

KINDS = ("base", "layer", "container", "snapshot", "deleted", "other")
"""Of thin devices: those that ``state.db`` does not have are "other", as in :class:`Usage`."""


@dataclass(frozen=True)
class Gauges:
    """What is known of a store and its pool without reading the mappings. Sizes in bytes."""

    pool_name: str
    mode: str
    engine: str
    chunk_size: int
    status: PoolStatus
    health: Diagnosis
    devices: dict[str, int]
    """Thin devices of each of :data:`KINDS`."""
    images: int
    min_free_percent: int
    host_free: int | None
    """Free on the file system of the pool's sparse files; None without such files."""
    group_free: int | None
    """In free extents of the pool's volume group; None without a group."""


def gauges(root: Path, catalog: Catalog, devices: DeviceSet) -> Gauges:
    """The numbers now."""
    status = devices.pool.status()
    backend = devices.backend
    found = facts(devices)
    return Gauges(
        pool_name=backend.pool_name(root),
        mode=backend.mode,
        engine=backend.engine,
        chunk_size=found.chunk_size,
        status=status,
        health=diagnose(status, found),
        devices=_kinds(devices),
        images=len(catalog.images()),
        min_free_percent=found.min_free_percent,
        host_free=found.host_free,
        group_free=backend.group_free(devices.devices),
    )


def _kinds(devices: DeviceSet) -> dict[str, int]:
    layers = set(devices.state.texts("SELECT device FROM layers"))
    containers = set(devices.state.texts("SELECT device FROM containers"))
    counted = Counter(dict.fromkeys(KINDS, 0))
    known = devices.state.devices()
    for device in known:
        if device.deleted:
            counted["deleted"] += 1
        elif device.hash in (BASE, SNAPSHOT_BASE):
            counted["base"] += 1
        elif device.hash in layers:
            counted["layer"] += 1
        elif device.hash in containers:
            counted["container"] += 1
        else:
            counted["snapshot"] += 1
    counted["other"] = len(devices.pool.device_ids() - {device.device_id for device in known})
    return dict(counted)
