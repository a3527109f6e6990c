# SPDX-License-Identifier: Apache-2.0
"""Layers and containers that a repair of the pool could not save whole: who uses them, and the next step.

A repair marks their devices in ``state.db`` (:class:`lamella.driver.state.Device`). A marked layer is not
used: ``load`` and ``pull`` unpack it anew, and until then what would be made from it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.driver.state import BASE, SNAPSHOT_BASE
from lamella.errors import CorruptError
from lamella.store.names import bare_id

if TYPE_CHECKING:
    from lamella.driver.open_devices import OpenDevices
    from lamella.store.catalog import Catalog, Container, Image, Layer


def users_of(catalog: Catalog) -> dict[str, list[str]]:
    """What uses each device, by its name: the base device, images, containers, and what these are made of."""
    users: dict[str, list[str]] = {BASE: ["the base device"], SNAPSHOT_BASE: ["the base device of snapshots"]}
    of_image = set()
    for image in catalog.images():
        for layer in catalog.chain(image.top):
            users.setdefault(layer.device, []).append(f"image {shown_name(catalog, image)}")
            of_image.add(layer.device)
    for container in catalog.containers():
        users.setdefault(container.device, []).append(f"container {container.name}")
        for layer in catalog.chain(container.top):
            if layer.device not in of_image:  # the image was removed by force
                users.setdefault(layer.device, []).append(f"a layer of container {container.name}")
    for row in catalog.snapshots.devices():
        users.setdefault(row.device, []).append(f"snapshot {row.key}")
    return users


def shown_name(catalog: Catalog, image: Image) -> str:
    """The image's first name, or the beginning of its id."""
    references = catalog.references(image.id)
    return str(references[0]) if references else bare_id(image.id)[:12]


def findings(catalog: Catalog, devices: OpenDevices) -> tuple[list[str], list[str]]:
    """What is damaged or missing, named by image and container; and the next steps."""
    problems, advice = [], []
    users = users_of(catalog)
    images = [
        image
        for image in catalog.images()
        if any(devices.damage(layer.device) for layer in catalog.chain(image.top))
    ]
    for device in devices.state.devices(deleted=False):
        damage = devices.damage(device.hash)
        if damage:
            whose = ", ".join(users.get(device.hash, [f"device {device.hash}"]))
            problems.append(f"{whose}: {damage}{_cure(catalog, device.hash)}")
    for image in images:
        pulled = any(reference.digest for reference in catalog.references(image.id))
        advice.append(f"lamella pull {shown_name(catalog, image)}" if pulled else "lamella load -i ARCHIVE")
    for container in catalog.containers():
        if devices.damage(container.device):
            advice += [f"lamella cp {container.name}:/ FOLDER", f"lamella rm {container.name}"]
    return problems, list(dict.fromkeys(advice))


def discrepancies(catalog: Catalog, devices: OpenDevices) -> list[str]:
    """What the pool and ``state.db`` do not both have, and what to do about it; without reading mappings."""
    unknown, lost = devices.unknown_devices()
    found = [
        f"thin device {number} is in the pool, and state.db does not have it: another program made it, or it "
        "was left behind; lamella prune --unknown-devices shows and removes such devices"
        for number in unknown
    ]
    users = users_of(catalog) if lost else {}
    for device in lost:
        whose = ", ".join(users.get(device.hash, [f"device {device.hash}"]))
        number = device.device_id
        found.append(f"{whose}: thin device {number} is not in the pool{_cure(catalog, device.hash)}")
    return found


def _cure(catalog: Catalog, device: str) -> str:
    """What is to be done about a damaged device."""
    if device == BASE:
        return "; it is made anew with the next lowest layer that is unpacked"
    if device == SNAPSHOT_BASE:
        return "; it is made anew with the next snapshot without a parent"
    if any(container.device == device for container in catalog.containers()):
        return "; copy out what is left of it, and remove it"
    if any(row.device == device for row in catalog.snapshots.devices()):
        return "; remove it with all that was made upon it, and have containerd unpack the image again"
    return "; load or pull the image again, which unpacks this layer anew"


def require_whole(catalog: Catalog, devices: OpenDevices, top: str | None, what: str, name: str) -> None:
    """Raise :class:`CorruptError` where the tree of layer *top*, which *what* of *name* needs, is damaged."""
    layer = catalog.layer(top) if top is not None else None
    damage = devices.damage(layer.device if layer is not None else BASE)
    if damage:
        part = f"its layer {_short(layer)}" if layer is not None else "the base device"
        raise CorruptError(
            f"{what} {name}: {part} is damaged: {damage}",
            hint="load or pull the image again, which unpacks the layer anew; see: lamella check",
        )


def require_whole_layers(catalog: Catalog, devices: OpenDevices, image: Image, what: str, name: str) -> None:
    """The same for each layer of an image, as all of them are needed."""
    for layer in catalog.chain(image.top):
        require_whole(catalog, devices, layer.chain_id, what, name)


def require_whole_container(catalog: Catalog, devices: OpenDevices, container: Container, what: str) -> None:
    """The same for a container and the image that it is compared with."""
    require_whole(catalog, devices, container.top, what, container.name)
    damage = devices.damage(container.device)
    if damage:
        raise CorruptError(
            f"{what} {container.name}, which is damaged: {damage}",
            hint=f"copy what is left of it out: lamella cp {container.name}:/ FOLDER; then remove it",
        )


def _short(layer: Layer) -> str:
    return layer.diff_id.partition(":")[2][:12]
