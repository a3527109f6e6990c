# SPDX-License-Identifier: Apache-2.0
"""The state and the settings of the pool, as ``docker info`` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._version import __version__
from lamella.driver.active_devices import present
from lamella.driver.state import BASE
from lamella.remedies import worded
from lamella.store.pool_health import health
from lamella.store.results import Info
from lamella.thin.format.checksum import BLOCK_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.driver.device_set import DeviceSet
    from lamella.store.catalog import Catalog


def info(root: Path, catalog: Catalog, devices: DeviceSet) -> Info:
    """The values of ``docker info``'s lines."""
    status = devices.pool.status()
    chunk = devices.pool.chunk_size
    data_free = (status.total_data - status.used_data) * chunk
    metadata_free = (status.total_metadata - status.used_metadata) * BLOCK_SIZE
    host = devices.backend.host_space()
    if host is not None:
        data_free, metadata_free = min(data_free, host), min(metadata_free, host)
    base = devices.state.device(BASE)
    found = health(devices, status)
    return Info(
        containers=len(catalog.containers()),
        images=len(catalog.images()),
        mounted=sum(bool(each.mounts) for each in present(root).values()),
        root=str(root),
        mode=devices.backend.mode,
        engine=devices.backend.engine,
        pool_name=devices.backend.pool_name(root),
        chunk_size=chunk,
        base_size=base.size if base else 0,
        filesystem=devices.state.pool().base_filesystem,
        device_names=devices.backend.names(),
        data_used=status.used_data * chunk,
        data_total=status.total_data * chunk,
        data_available=data_free,
        metadata_used=status.used_metadata * BLOCK_SIZE,
        metadata_total=status.total_metadata * BLOCK_SIZE,
        metadata_available=metadata_free,
        min_free=status.total_data * devices.options.min_free_percent // 100 * chunk,
        deferred_removal=devices.options.deferred_removal,
        deferred_deletion=devices.options.deferred_deletion,
        deferred_deleted=len(devices.state.devices(deleted=True)),
        library_version=_library(devices),
        warnings=[
            *([found.text(worded)] if found.lines() else []),
            *devices.warnings,
            *devices.backend.warnings(),
        ],
        state=found.state,
    )


def _library(devices: DeviceSet) -> str:
    """What stands where Docker has the version of libdevmapper, which is not used here."""
    return f"lamella {__version__} ({devices.engine.description()})"
