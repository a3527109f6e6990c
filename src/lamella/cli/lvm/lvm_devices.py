# SPDX-License-Identifier: Apache-2.0
"""``lvmdevices``: show, check and change LVM2's devices file."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.session.system_devices import Entry, SystemDevices

NOT_ENABLED = "Devices file not enabled."
_PVID = re.compile(r"[0-9A-Za-z]{32}")


def lvmdevices(context: Context) -> None:
    """Show the devices file, or do what an option says with it, under the file's lock."""
    from lamella.lvm.session.devname_search import unknown_setting
    from lamella.lvm.session.locks import devices_file_lock
    from lamella.lvm.session.system_devices import SystemDevices

    listed, args = context.system_devices, context.args
    if listed is None:
        raise Failed(NOT_ENABLED)
    pvid = args.text("addpvid") or args.text("delpvid")
    plain = pvid.replace("-", "")
    if pvid and not _PVID.fullmatch(plain):
        raise Failed("Invalid PVID.")
    around = context.environment
    with devices_file_lock(None if context.test else around.lock_dir, listed.path.name):
        listed = SystemDevices.read(listed.path)
        reads = not any(args.has(name) for name in ("adddev", "addpvid", "deldev", "delpvid", "update"))
        if reads and not listed.path.is_file():
            raise Failed("Devices file does not exist.")
        listed.find(around.sys_block)
        faults = unknown_setting(context.config.text("devices/search_for_devnames"))
        for line in (*faults, *listed.foreign(around.system_id), *listed.unfound):
            context.console.warn(line)
        if args.has("check") or args.has("update"):
            _check(context, listed)
        elif args.has("adddev"):
            _add(context, listed, args.text("adddev"))
        elif args.has("addpvid"):
            _add_pvid(context, listed, plain)
        elif args.has("deldev"):
            _remove(context, listed, _to_remove(context, listed, args.text("deldev")))
        elif args.has("delpvid"):
            _remove_pvid(context, listed, plain)
        else:
            for entry in listed.entries:
                context.console.print(_line(entry))


def _line(entry: Entry) -> str:
    from lamella.lvm.session.system_devices import shown

    part = f" PART={entry.part}" if entry.part else ""
    return (
        f"Device {entry.path or 'none'} IDTYPE={entry.kind} IDNAME={shown(entry.name)} "
        f"DEVNAME={shown(entry.device)} PVID={shown(entry.pvid)}{part}"
    )


def _write(context: Context, listed: SystemDevices) -> None:
    if not context.test:
        listed.write(context.name)


def _check(context: Context, listed: SystemDevices) -> None:
    """Compare the entries with the devices; with ``--update`` write them as they should be."""
    from lamella.lvm.disks.disk import open_shared
    from lamella.lvm.disks.scan import scan
    from lamella.lvm.session.devname_search import find_renamed
    from lamella.lvm.session.system_devices import NONE, VERSION

    console = context.console
    how = context.config.text("devices/search_for_devnames")
    nameless = any(entry.name == NONE for entry in listed.entries)
    lost = find_renamed(listed, how, context.environment.sys_block, quiet=True)
    if lost and how == "none":
        console.print('Not searching for missing devnames, search_for_devnames="none".')
    found = scan([entry.path for entry in listed.entries if entry.path], opener=open_shared)
    try:
        wrong = listed.disagreements(found)
        for line in (*wrong, *listed.renamed):
            console.warn(line)
        needed = bool(wrong or lost or nameless)
        if context.args.has("check"):
            if needed:
                raise Failed("Updates needed for devices file.")
            return
        if not needed:
            console.print("No update for devices file is needed.")
            return
        listed.update(found)
    finally:
        found.close()
    _write(context, listed)
    console.print(f"Updated devices file to version {VERSION}.{listed.count}")


def _device(path: str) -> str:
    """The block device below ``/dev`` that *path* names; "" if there is none."""
    from lamella.lvm.disks.disk import is_block_device

    there = path.startswith("/dev/") and not path.endswith("/") and is_block_device(path)
    return os.path.realpath(path) if there else ""


def _add(context: Context, listed: SystemDevices, path: str) -> None:
    from lamella.lvm.disks.device_ids import device_id
    from lamella.lvm.disks.disk import Disk, open_shared
    from lamella.lvm.format.ids import without_dashes
    from lamella.lvm.session.system_devices import KINDS, NONE

    console = context.console
    device = _device(path)
    if not device:
        raise Failed(f"No device found for {path}.")
    disk = Disk.open(device, open_shared)
    try:
        pvid = without_dashes(disk.label.uuid) if disk.label is not None else ""
        kind = context.args.text("deviceidtype")
        if kind and kind != "devname" and kind not in KINDS:
            console.warn(f"WARNING: ignoring unknown device_id type {kind}.")
            kind = ""
        elif kind in KINDS and not device_id(os.path.basename(device), kind):
            console.warn(f"WARNING: ignoring deviceidtype {kind} which is not available for device.")
            kind = ""
        others = [one for one in listed.entries if pvid and one.pvid == pvid and one.path != device]
        if others:
            used = others[0].path or "missing device"
            console.warn(
                f"WARNING: adding device {device} with PVID {pvid} which is already used for {used}."
            )
            if not console.ask("Add device with duplicate PV to devices file?"):
                console.print("Device not added.")
                _write(context, listed)
                return
        listed.enter(device, pvid or NONE, kind)
    finally:
        disk.close()
    _write(context, listed)


def _add_pvid(context: Context, listed: SystemDevices, pvid: str) -> None:
    from lamella.lvm.disks.scan import block_devices
    from lamella.lvm.session.devname_search import devices_with

    known = next((entry for entry in listed.entries if entry.pvid == pvid), None)
    if known is not None and (known.path or known.device):
        raise Failed(f"PVID already exists in devices file for {known.path or known.device}.")
    found = devices_with({pvid}, block_devices(context.environment.sys_block)).get(pvid, [])
    if not found:
        missing = f"PVID {pvid} not found on any devices."
        raise Failed(f"{missing}\n{missing}")
    context.console.print(f"Found PVID {pvid} on {found[0]}.")
    _add(context, listed, found[0])


def _to_remove(context: Context, listed: SystemDevices, name: str) -> Entry:
    """The entry that ``--deldev`` means: a device by any of its names, or with ``--deviceidtype`` by that."""
    from lamella.lvm.session.system_devices import KINDS

    args, console = context.args, context.console
    kind = args.text("deviceidtype")
    if args.has("deviceidtype"):
        if kind != "devname" and kind not in KINDS:
            raise Failed("Unknown device_id type.")
        if name.startswith("/dev/"):
            console.warn("WARNING: to remove a device by name, do not include --deviceidtype.")
        found = [entry for entry in listed.entries if (entry.kind, entry.name) == (kind, name)]
        if not found:
            raise Failed(f"No devices file entry with device id {kind} {name}.")
        return found[0]
    if not name.startswith("/dev/"):
        console.warn("WARNING: to remove a device by device id, include --deviceidtype.")
    there = listed.entry_of(name)
    found = [there] if there is not None else [one for one in listed.entries if one.device == name]
    if not found:
        raise Failed(f"No devices file entry for {name}.")
    return found[0]


def _remove_pvid(context: Context, listed: SystemDevices, pvid: str) -> None:
    found = [entry for entry in listed.entries if entry.pvid == pvid]
    if not found:
        raise Failed("PVID not found in devices file.")
    _remove(context, listed, found[0])


def _remove(context: Context, listed: SystemDevices, entry: Entry) -> None:
    listed.entries.remove(entry)
    _write(context, listed)
