# SPDX-License-Identifier: Apache-2.0
"""What takes the pool's space, and what removing each image and container would free.

Each chunk in use is counted in one row: that of the device that it was written to. What that means for chunks
that several devices map follows from how they came to share: a device is a snapshot of its parent, so a
chunk that the parent does not map is the device's own, and its children only share it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lamella.driver.state import BASE, SNAPSHOT_BASE
from lamella.store.damaged import shown_name
from lamella.store.results import Usage
from lamella.thin.format.mappings import data_blocks
from lamella.thin.metadata.reader import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lamella.driver.device_set import DeviceSet
    from lamella.store.catalog import Catalog, Layer
    from lamella.thin.format.arrays import Int64s

DEVICES_AT_ONCE = 256
"""Sets of devices whose mappings are read together: what they share is then read once."""

_FREE, _SHARED = -1, -2


@dataclass
class _Row:
    """A row that is being made."""

    kind: str
    name: str
    devices: list[int]
    """The thin devices whose chunks it maps."""
    parent: int | None = None
    """The thin device that its own is a snapshot of; rows with one have one device."""
    removed: list[int] | None = None
    """The thin devices that removing it deletes, if it can be removed."""
    owns: bool = True
    """Whether chunks are counted in it; those of an image are in its layers' rows."""
    numbers: dict[str, int] = field(default_factory=dict)


def usage(root: Path, catalog: Catalog, devices: DeviceSet) -> list[Usage]:
    """The pool; and the base device, layers, containers and the rest, whose ``space`` adds up to its own."""
    before = devices.pool.status()
    with devices.pool.metadata_view() as view:
        after = devices.pool.status()
        metadata = Metadata.open(view.device, snapshot=view.snapshot)
        rows = _rows(catalog, devices, set(metadata.roots))
        counted = _Counted(metadata, rows, after.total_data)
    chunk = devices.pool.chunk_size
    used = mapped = sum(row.numbers["space"] for row in rows) + counted.shared
    if before.used_data == after.used_data:  # else somebody writes, and only what is mapped is of one moment
        used = after.used_data
    leaked = used - mapped
    pool = Usage("pool", devices.backend.pool_name(root), used * chunk, used * chunk, used * chunk, None)
    found = [pool]
    for row in rows:
        frees = row.numbers.get("frees")
        found.append(
            Usage(
                row.kind,
                row.name,
                row.numbers["mapped"] * chunk,
                row.numbers["exclusive"] * chunk,
                row.numbers["space"] * chunk,
                None if frees is None else frees * chunk,
            )
        )
    for kind, name, count in (("shared", "", counted.shared), ("leaked", "", leaked)):
        if count:
            found.append(Usage(kind, name, count * chunk, 0, count * chunk, None))
    return found


# -- the rows --------------------------------------------------------------------------------------------


def _rows(catalog: Catalog, devices: DeviceSet, in_pool: set[int]) -> list[_Row]:
    """All rows but those of the pool, and of what none of them has; what owns chunks after its parents."""
    catalog.require_whole()
    known = devices.state.devices()
    ids = {device.hash: device.device_id for device in known}
    layers = {layer.chain_id: layer for layer in catalog.layers()}
    dropped = _Dropping(catalog, layers)

    def device_of(top: str | None) -> int:
        return ids[BASE if top is None else layers[top].device]

    rows = [_Row("base", BASE, [ids[BASE]])]
    for layer in _parents_first(layers):
        short = layer.diff_id.partition(":")[2][:12]
        rows.append(_Row("layer", short, [ids[layer.device]], device_of(layer.parent)))
    for image in catalog.images():
        chain = [ids[layer.device] for layer in catalog.chain(image.top)] or [ids[BASE]]
        gone = [ids[layer.device] for layer in dropped.by(image.top)]
        rows.append(_Row("image", shown_name(catalog, image), chain, removed=gone, owns=False))
    for container in catalog.containers():
        own = ids[container.device]
        gone = [own, *(ids[layer.device] for layer in dropped.by(container.top))]
        rows.append(_Row("container", container.name, [own], device_of(container.top), gone))
    snapshots = catalog.snapshots.devices()  # a parent before its children, which are newer
    parents = {row.parent for row in catalog.snapshots.rows()}
    numbers: dict[int | None, int] = {row.id: ids[row.device] for row in snapshots}
    numbers[None] = ids.get(SNAPSHOT_BASE, ids[BASE])
    if SNAPSHOT_BASE in ids:
        rows.append(_Row("base", SNAPSHOT_BASE, [ids[SNAPSHOT_BASE]], ids[BASE]))
    for snapshot in snapshots:
        number = numbers[snapshot.id]
        removed = [number] if snapshot.id not in parents else None
        rows.append(_Row("snapshot", snapshot.key, [number], numbers[snapshot.parent], removed))
    deleted = [device.device_id for device in known if device.deleted]
    if deleted:
        rows.append(_Row("deleted", f"{len(deleted)} devices", deleted, removed=deleted))
    other = sorted(in_pool - set(ids.values()))
    if other:
        rows.append(_Row("other", f"{len(other)} devices", other))
    return rows


def _parents_first(layers: dict[str, Layer]) -> list[Layer]:
    """All layers, each after the one below it, those upon one layer together."""
    above: dict[str | None, list[Layer]] = {}
    for layer in layers.values():
        above.setdefault(layer.parent, []).append(layer)
    found: list[Layer] = []
    parents: list[str | None] = [None]
    while parents:
        upon = above.get(parents.pop(), [])
        found += upon
        parents += [layer.chain_id for layer in upon]
    return found


class _Dropping:
    """Which layers go with an image or a container, as :meth:`Catalog.drop_unused_layers` decides it."""

    def __init__(self, catalog: Catalog, layers: dict[str, Layer]) -> None:
        self._layers = layers
        self._uses = Counter(layer.parent for layer in layers.values())
        self._uses.update(image.top for image in catalog.images())
        self._uses.update(container.top for container in catalog.containers())

    def by(self, top: str | None) -> Iterator[Layer]:
        """The layers that nothing needs any more when one user of *top* is gone."""
        while top is not None and self._uses[top] == 1:
            yield self._layers[top]
            top = self._layers[top].parent


# -- counting --------------------------------------------------------------------------------------------


class _Counted:
    """Counts the chunks of all rows, in numbers of chunks."""

    def __init__(self, metadata: Metadata, rows: Sequence[_Row], size: int) -> None:
        """*size*: chunks of the pool."""
        self._metadata = metadata
        self._owner = np.full(size, _FREE, dtype=np.int32)
        """For each chunk the index of the row that has it."""
        self.shared = 0
        """Chunks that two rows own, as neither is a snapshot of the other: their origin is gone."""
        self._own(rows)
        self._count_users(rows, size)

    def _own(self, rows: Sequence[_Row]) -> None:
        """Give each chunk to a row. A parent is read again before its children, so that few are in memory."""
        owning = [(index, row) for index, row in enumerate(rows) if row.owns]
        owning.sort(key=lambda each: each[1].kind in ("deleted", "other"))
        wanted: list[list[int]] = []
        order: list[int | None] = []
        last: int | None = None
        for index, row in owning:
            if row.parent is not None and row.parent != last:
                wanted.append([row.parent])
                order.append(None)
                last = row.parent
            wanted.append(row.devices)
            order.append(index)
        parents = np.zeros(len(self._owner), dtype=np.uint32)
        stamp = 0
        for index_, mine in zip(order, self._chunks_of(wanted), strict=True):
            if index_ is None:
                stamp += 1
                parents[mine] = stamp
                continue
            row = rows[index_]
            own = mine[parents[mine] != stamp] if row.parent is not None else mine
            before = self._owner[own]
            row.numbers["space"] = int(np.count_nonzero(before == _FREE))
            self._owner[own[before == _FREE]] = index_
            if row.parent is None:
                continue  # of a deleted device it is not known of which it is a snapshot
            for owner, count in zip(*np.unique(before[before >= 0], return_counts=True), strict=True):
                rows[owner].numbers["space"] -= int(count)
                self.shared += int(count)
            self._owner[own[before >= 0]] = _SHARED

    def _count_users(self, rows: Sequence[_Row], size: int) -> None:
        numbers = sorted({number for row in rows for number in (*row.devices, *(row.removed or ()))})
        users = np.zeros(size, dtype=np.uint32)
        for mine in self._chunks_of([[number] for number in numbers]):
            users[mine] += np.uint32(1)
        # A layer's device is in each image that has the layer: what it maps is exclusive to none of these.
        images = Counter(number for row in rows if row.kind == "image" for number in row.devices)
        wanted = [
            devices
            for row in rows
            for devices in (
                row.devices,
                [number for number in row.devices if row.kind != "image" or images[number] == 1],
                row.removed or [],
            )
        ]
        counted = self._counts_of(wanted)
        for row in rows:
            row.numbers.setdefault("space", 0)
            mapped = len(next(counted)[0])
            exclusive = _alone(users, *next(counted))[1]
            row.numbers |= {"mapped": mapped, "exclusive": exclusive}
            frees = _alone(users, *next(counted))[1]
            if row.removed is not None:
                row.numbers["frees"] = frees

    def _chunks_of(self, wanted: Sequence[Sequence[int]]) -> Iterator[Int64s]:
        """For each set of devices the data chunks that any of them maps, each once."""
        for chunks, _ in self._counts_of(wanted):
            yield chunks

    def _counts_of(self, wanted: Sequence[Sequence[int]]) -> Iterator[tuple[Int64s, Int64s]]:
        """The same, with how many of the devices map each."""
        for start in range(0, len(wanted), DEVICES_AT_ONCE):
            some = wanted[start : start + DEVICES_AT_ONCE]
            self._metadata.load({number for numbers in some for number in numbers})
            for numbers in some:
                arrays = [
                    data_blocks(self._metadata.mappings(number)[1])
                    for number in numbers
                    if number in self._metadata.roots
                ]
                empty = np.empty(0, dtype=np.uint64)
                chunks, counts = np.unique(np.concatenate(arrays or [empty]), return_counts=True)
                yield chunks.astype(np.int64), counts


def _alone(users: np.ndarray, chunks: Int64s, counts: Int64s) -> tuple[int, int]:
    """How many *chunks* there are, and how many that only the *counts* devices that map them do."""
    return len(chunks), int(np.count_nonzero(users[chunks] == counts))
