# SPDX-License-Identifier: Apache-2.0
"""What mended metadata lacks or adds, compared with a store's record, in the names that people know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.driver.state import BASE
from lamella.store.catalog import Catalog

if TYPE_CHECKING:
    from lamella.driver.state import State
    from lamella.store.repair import Repair
    from lamella.thin.tools.check import CheckReport
    from lamella.thin.tools.repair import RepairReport

SHOWN = 10
"""Most problems and devices that are told one by one."""


def tell_losses(state: State, mended: RepairReport, sound: CheckReport, found: Repair) -> None:
    """Say what is lost, by the names that people know."""
    names = _names(state)
    known = {device.device_id: device for device in state.devices()}
    note = state.note()
    pending = {number for _, number in note.devices} if note else set()
    told = set()
    for outcome in mended.incomplete:
        told.add(outcome.dev_id)
        told_of = f"{names.get(outcome.dev_id, 'a device that nobody needs')}: {outcome}"
        if outcome.saved < outcome.expected:
            found.lost.append(told_of)
        else:
            found.remarks.append(f"doubtful: {told_of}")
    for number, device in known.items():
        if number in sound.devices or number in pending or device.deleted:
            continue
        if number not in told:
            found.lost.append(f"{names.get(number, device.hash)}: thin device {number} is gone")
        if device.hash == BASE:
            found.refusal = "the base device is lost, and without it no store can be opened"
    if mended.searched:
        found.remarks.append(
            "doubtful: the superblock did not lead to the lists of devices; the newest that are there "
            "were taken, and what was written last before the damage may be missing"
        )
    strangers = sorted(set(sound.devices) - set(known) - pending)
    if strangers:
        shown = ", ".join(map(str, strangers[:SHOWN]))
        found.remarks.append(f"also there: thin devices that state.db does not know ({shown})")


def _names(state: State) -> dict[int, str]:
    """What needs each thin device, by its id: the base device, images, containers."""
    catalog = Catalog(state)
    users: dict[str, list[str]] = {BASE: ["the base device"]}
    for image in catalog.images():
        references = catalog.references(image.id)
        shown = str(references[0]) if references else image.id.removeprefix("sha256:")[:12]
        for layer in catalog.chain(image.top):
            users.setdefault(layer.device, []).append(f"image {shown}")
    for container in catalog.containers():
        users.setdefault(container.device, []).append(f"container {container.name}")
    return {
        device.device_id: ", ".join(users[device.hash]) for device in state.devices() if device.hash in users
    }
