# SPDX-License-Identifier: Apache-2.0
"""The whole store as a graph, from the disks to the containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.driver.stack_node import Node
from lamella.driver.state import BASE, SNAPSHOT_BASE
from lamella.store.names import bare_id

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.driver.device_set import DeviceSet
    from lamella.driver.state import Device
    from lamella.store.catalog import Catalog


def storage_stack(root: Path, catalog: Catalog, devices: DeviceSet) -> list[Node]:
    """The disks or files at the bottom of the stack, each with what is stacked on it."""
    status = devices.pool.status()
    chunk = devices.pool.chunk_size
    pool = Node("pool", devices.backend.pool_name(root), status.total_data * chunk, status.used_data * chunk)
    pool.children = _thin_devices(catalog, devices)
    roots, below = devices.backend.structure(devices.devices, status)
    for node in below:
        node.children.append(pool)
    return roots


def _thin_devices(catalog: Catalog, devices: DeviceSet) -> list[Node]:
    catalog.require_whole()
    mapped = {number: found.mapped_blocks for number, found in devices.pool.devices().items()}
    known = {device.hash: device for device in devices.state.devices()}

    def node(kind: str, name: str, device: Device, note: str = "") -> Node:
        blocks = mapped.get(device.device_id)
        used = None if blocks is None else blocks * devices.pool.chunk_size
        return Node(kind, name, device.size, used, note or f"thin device {device.device_id}")

    names: dict[str | None, list[str]] = {}
    for image in catalog.images():
        shown = [str(reference) for reference in catalog.references(image.id) if reference.tag]
        names.setdefault(image.top, []).extend(shown or [bare_id(image.id)[:12]])
    base = node("base", ", ".join([BASE, *names.get(None, ())]), known[BASE])
    layers: dict[str | None, Node] = {None: base}
    found = catalog.layers()
    for layer in found:
        images = names.get(layer.chain_id, [])
        short = bare_id(layer.diff_id)[:12]
        layers[layer.chain_id] = node(
            "image" if images else "layer", ", ".join(images) or short, known[layer.device]
        )
    for layer in found:
        layers[layer.parent].children.append(layers[layer.chain_id])
    for container in catalog.containers():
        layers[container.top].children.append(node("container", container.name, known[container.device]))
    snapshots: dict[int | None, Node] = {None: base}
    if SNAPSHOT_BASE in known:
        snapshots[None] = node("base", SNAPSHOT_BASE, known[SNAPSHOT_BASE])
        base.children.append(snapshots[None])
    for row in catalog.snapshots.devices():
        snapshots[row.id] = node("snapshot", row.key, known[row.device])
        snapshots[row.parent].children.append(snapshots[row.id])
    deleted = [node("deleted", device.hash[:12], device) for device in known.values() if device.deleted]
    return [base, *deleted]
