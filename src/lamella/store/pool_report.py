# SPDX-License-Identifier: Apache-2.0
"""What can be told of the pool as a whole: its state, and who takes how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella._version import __version__
from lamella.driver.active_devices import present
from lamella.driver.state import BASE
from lamella.store.pool_health import health
from lamella.store.results import Info, Usage
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.mappings import data_blocks
from lamella.thin.metadata.reader import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from lamella.driver.device_set import DeviceSet
    from lamella.store.catalog import Catalog


DEVICES_AT_ONCE = 256
"""Things whose mappings are read together: what they share is then read once."""


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
        warnings=[*([found.text()] if found.lines() else []), *devices.warnings, *devices.backend.warnings()],
        state=found.state,
    )


def _library(devices: DeviceSet) -> str:
    """What stands where Docker has the version of libdevmapper, which is not used here."""
    if devices.backend.engine == "kernel" and devices.kernel is None:
        return f"lamella {__version__} (kernel engine, the pool is not active)"
    if devices.kernel is None:
        return f"lamella {__version__} (user engine)"
    version = ".".join(map(str, devices.kernel.dm.version))
    return f"lamella {__version__} (kernel engine, device-mapper {version})"


def usage(catalog: Catalog, devices: DeviceSet) -> list[Usage]:
    """The pool, the base device, each image and each container, with what only it refers to."""
    with devices.pool.metadata_view() as view:
        return _usage(catalog, devices, Metadata.open(view.device, snapshot=view.snapshot))


def _usage(catalog: Catalog, devices: DeviceSet, metadata: Metadata) -> list[Usage]:
    chunk = devices.pool.chunk_size
    status = devices.pool.status()
    ids = {device.hash: device.device_id for device in devices.state.devices()}
    things: list[tuple[str, str, list[int]]] = [("base", BASE, [ids[BASE]])]
    for image in catalog.images():
        names = catalog.references(image.id)
        shown = str(names[0]) if names else image.id.removeprefix("sha256:")[:12]
        chain = [ids[layer.device] for layer in catalog.chain(image.top)]
        things.append(("image", shown, chain or [ids[BASE]]))
    things += [("container", container.name, [ids[container.device]]) for container in catalog.containers()]
    doomed = [device.device_id for device in devices.state.devices(deleted=True)]
    if doomed:
        things.append(("deleted", f"{len(doomed)} devices", doomed))

    # Twice over all mappings instead of once with all of them in memory.
    users = np.zeros(status.total_data, dtype=np.uint32)
    for chunks in _chunks_of(metadata, things):
        users[chunks] += np.uint32(1)
    found = [
        Usage("pool", devices.backend.mode, status.used_data * chunk, status.used_data * chunk),
    ]
    for (kind, name, _), mine in zip(things, _chunks_of(metadata, things), strict=True):
        found.append(Usage(kind, name, len(mine) * chunk, int(np.count_nonzero(users[mine] == 1)) * chunk))
    return found


def _chunks_of(
    metadata: Metadata, things: Sequence[tuple[str, str, list[int]]]
) -> Iterator[npt.NDArray[np.int64]]:
    """For each thing the data chunks that any of its devices maps, each once."""
    for start in range(0, len(things), DEVICES_AT_ONCE):
        some = things[start : start + DEVICES_AT_ONCE]
        metadata.load({number for _, _, device_ids in some for number in device_ids})
        for _, _, device_ids in some:
            yield _chunks(metadata, device_ids)


def _chunks(metadata: Metadata, device_ids: Sequence[int]) -> npt.NDArray[np.int64]:
    """The data chunks that any of the devices maps, each once."""
    arrays = [data_blocks(metadata.mappings(number)[1]) for number in device_ids if number in metadata.roots]
    if not arrays:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.concatenate(arrays)).astype(np.int64)
