# SPDX-License-Identifier: Apache-2.0
"""Devices of LVM2's devices file that have nothing but their name, which may be another after a reboot.

An entry of the type ``devname`` is recognised by the PVID on the device; where that is elsewhere,
``devices/search_for_devnames`` says among which other devices it is looked for: "none", "all", or with "auto"
those that have no better identifier (lvm.conf(5)).
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from lamella.errors import LamellaError
from lamella.lvm.disks.device_ids import best_id
from lamella.lvm.disks.disk import Disk, open_shared
from lamella.lvm.disks.scan import block_devices
from lamella.lvm.format.ids import without_dashes
from lamella.lvm.session.system_devices import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lamella.lvm.session.system_devices import Entry, SystemDevices


def unknown_setting(how: str) -> list[str]:
    """What LVM2 says of another value of ``search_for_devnames`` than it knows."""
    known = how in ("none", "auto", "all")
    return [] if known else ["Ignoring unknown search_for_devnames setting, using auto."]


def find_renamed(devices: SystemDevices, how: str, sys_block: Path, *, quiet: bool = False) -> list[Entry]:
    """Compare the ``devname`` entries with what is on their devices, and look for the missing ones.

    What LVM2 says of it is kept in ``devices.renamed``; with *quiet*, as ``lvmdevices`` says it. Returns the
    entries that were missing, of which some may have been found.
    """
    devices.renamed = said = []
    lost = []
    for entry in devices.entries:
        if entry.kind != "devname" or entry.pvid == NONE:
            continue
        if entry.path and pvid_at(entry.path) not in ("", entry.pvid):
            said.append(f"Devices file PVID {entry.pvid} not found on device {entry.path}.")
            entry.name, entry.path = NONE, ""
            devices.wrong = True
        if not entry.path:
            lost.append(entry)
    if not lost or how == "none":
        return lost
    taken = {os.path.realpath(entry.path) for entry in devices.entries if entry.path}
    others = [path for path in block_devices(sys_block) if path not in taken]
    if how != "all":
        others = [path for path in others if best_id(os.path.basename(path))[0] == "devname"]
    found = devices_with({entry.pvid for entry in lost}, others)
    for entry in lost:
        paths = found.get(entry.pvid, [])
        if not paths:
            continue
        said.append(f"Devices file PVID {entry.pvid} found on {paths[0]}.")
        if len(paths) > 1:
            said += [
                f"WARNING: found PVID {entry.pvid} on multiple devices {' '.join(paths)}.",
                "WARNING: duplicate PVIDs should be changed to be unique.",
                f"WARNING: use lvmdevices to select a device for PVID {entry.pvid}.",
            ]
            continue
        if not quiet:
            said.append(f"Devices file PVID {entry.pvid} updating IDNAME to {paths[0]}.")
        entry.name = entry.device = entry.path = paths[0]
        devices.found_again = True
    return lost


def devices_with(pvids: set[str], paths: Iterable[str]) -> dict[str, list[str]]:
    """Which of *paths* have each of these PVIDs."""
    found: dict[str, list[str]] = {}
    for path in paths:
        pvid = pvid_at(path)
        if pvid in pvids:
            found.setdefault(pvid, []).append(path)
    return found


def pvid_at(path: str) -> str:
    """The PVID on a device; :data:`NONE` without one, "" if it cannot be read."""
    try:
        with closing(Disk.open(path, open_shared)) as disk:
            return without_dashes(disk.label.uuid) if disk.label is not None else NONE
    except LamellaError:
        return ""
