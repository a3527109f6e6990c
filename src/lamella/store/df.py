# SPDX-License-Identifier: Apache-2.0
"""How much of the pool each image and container uses, shared and exclusively."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.driver.state import BASE
from lamella.store.results import Usage
from lamella.thin.format.mappings import data_blocks
from lamella.thin.metadata.reader import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamella.driver.device_set import DeviceSet
    from lamella.store.catalog import Catalog
    from lamella.thin.format.arrays import Int64s

DEVICES_AT_ONCE = 256
"""Entries whose mappings are read together: what they share is then read once."""


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
    deleted = [device.device_id for device in devices.state.devices(deleted=True)]
    if deleted:
        things.append(("deleted", f"{len(deleted)} devices", deleted))

    # Two passes over all mappings, so that they are never all in memory.
    users = np.zeros(status.total_data, dtype=np.uint32)
    for chunks in _chunks_of(metadata, things):
        users[chunks] += np.uint32(1)
    found = [Usage("pool", devices.backend.mode, status.used_data * chunk, status.used_data * chunk)]
    for (kind, name, _), mine in zip(things, _chunks_of(metadata, things), strict=True):
        found.append(Usage(kind, name, len(mine) * chunk, int(np.count_nonzero(users[mine] == 1)) * chunk))
    return found


def _chunks_of(metadata: Metadata, things: Sequence[tuple[str, str, list[int]]]) -> Iterator[Int64s]:
    """For each thing the data chunks that any of its devices maps, each once."""
    for start in range(0, len(things), DEVICES_AT_ONCE):
        some = things[start : start + DEVICES_AT_ONCE]
        metadata.load({number for _, _, device_ids in some for number in device_ids})
        for _, _, device_ids in some:
            yield _chunks(metadata, device_ids)


def _chunks(metadata: Metadata, device_ids: Sequence[int]) -> Int64s:
    """The data chunks that any of the devices maps, each once."""
    arrays = [data_blocks(metadata.mappings(number)[1]) for number in device_ids if number in metadata.roots]
    if not arrays:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.concatenate(arrays)).astype(np.int64)
