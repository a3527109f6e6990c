# SPDX-License-Identifier: Apache-2.0
"""The list of disks in the state root, and the disks of the machine that LVM2 would scan.

The list, the file ``devices``, has one path or NBD address per line. It holds plain files, which no scan
would find, and the disks of a store.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella.block import system
from lamella.block.atomic_file import replace_file, sync_directory
from lamella.block.sysfs import block_name
from lamella.lvm.disks.disk import is_block_device
from lamella.lvm.disks.scan import block_devices
from lamella.lvm.session.config import Config, accepted_name
from lamella.lvm.session.known_settings import config_folder
from lamella.lvm.session.system_devices import NONE, SystemDevices

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lamella.lvm.session.environment import Environment

ENVIRONMENT = "LAMELLA_DEVICES"
"""A comma-separated list of disks that replaces all others."""
NAME = "devices"
"""The list's name in the state root."""


def disks_of_machine(config: Config, sys_block: Path, *, devices_file: bool = True) -> list[str]:
    """Every disk that LVM2's settings let it scan, without plain files.

    The disks in LVM2's devices file, if it is used and there is one; else those that pass the filters. A
    filter is asked for every name of a device: one under /dev/disk or /dev/mapper too.
    """
    if devices_file and config.flag("devices/use_devicesfile"):
        devices = devices_file_path(config.text("devices/devicesfile"))
        if devices.is_file():
            return SystemDevices.read(devices).find(sys_block)
    listed = block_devices(sys_block)
    filters = [config.strings("devices/global_filter"), config.strings("devices/filter")]
    filters = [patterns for patterns in filters if patterns != ["a|.*|"]]
    if not filters:
        return listed
    aliases = device_names()
    found: list[str] = []
    for path in listed:
        names = [path, *aliases.get(path, [])]
        for patterns in filters:
            name = accepted_name(patterns, names)
            names = [name, *(one for one in names if one != name)] if name else []
            if not names:
                break
        found += names[:1]
    return found


def devices_file_path(name: str) -> Path:
    """The file of LVM2's that ``devices/devicesfile`` or ``--devicesfile`` names."""
    return config_folder() / "devices" / name


def devices_file(config: Config) -> SystemDevices | None:
    """LVM2's devices file, if the settings say that it is used, and it exists and is no list of paths."""
    if os.geteuid() != 0 or not config.flag("devices/use_devicesfile"):
        return None
    path = devices_file_path(config.text("devices/devicesfile"))
    listed = SystemDevices.read(path) if path.is_file() else None
    return None if listed is None or listed.is_list else listed


def enter_disks(
    config: Config, environment: Environment, paths: Iterable[str], command: str, *, made: bool = True
) -> None:
    """Enter those of *paths* that are block devices in the devices file, if one is used, with their PVIDs.

    *made* False: only bring entries that are there up to date, as after pvremove, which leaves them.
    """
    from lamella.lvm.session.devname_search import pvid_at
    from lamella.lvm.session.locks import devices_file_lock

    devices = [path for path in paths if is_block_device(path)]
    listed = devices_file(config)
    if listed is None or not devices:
        return
    with devices_file_lock(environment.lock_dir, listed.path.name):
        listed = SystemDevices.read(listed.path)
        listed.find(environment.sys_block)
        before = [str(entry) for entry in listed.entries]
        for path in devices:
            known = listed.entry_of(path)
            pvid = pvid_at(path)
            if known is not None:
                known.pvid = pvid or known.pvid
            elif made:
                listed.enter(path, pvid or NONE)
        if [str(entry) for entry in listed.entries] != before:
            listed.write(command)


def device_names(dev: str = "/dev") -> dict[str, list[str]]:
    """The links below ``/dev`` to block devices, as LVM2 finds them: by what they lead to."""
    found: dict[str, list[str]] = {}
    folders = [dev]
    while folders:
        folder = folders.pop()
        for entry in _entries(folder):
            if entry.is_symlink():
                found.setdefault(os.path.realpath(entry.path), []).append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif folder == f"{dev}/mapper" and is_block_device(entry.path):  # no udev makes links
                number = os.stat(entry.path).st_rdev
                kernel = block_name(os.major(number), os.minor(number))
                found.setdefault(f"{dev}/{kernel}", []).append(entry.path)
    return {path: sorted(names, key=lambda name: (name.count("/"), name)) for path, names in found.items()}


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # another process removed it
        return []


def read_devices_file(path: Path) -> list[str]:
    """Paths in a list: one per line, or LVM2's ``IDTYPE=... DEVNAME=/dev/sdb`` lines. Empty if missing."""
    try:
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise system.explain(error, "read the list of devices", str(path)) from error
    found = []
    for line in lines:
        text = line.strip()
        if not text or text.startswith(("#", "VERSION=", "SYSTEMID=", "HASH=", "PRODUCT_UUID=")):
            continue
        if text.startswith("IDTYPE="):
            words = dict(word.partition("=")[::2] for word in text.split())
            name = words.get("DEVNAME", ".")
            if name != ".":
                found.append(name)
        else:
            found.append(text)
    return found


def change_list(path: Path, add: Iterable[str], remove: Sequence[str] = ()) -> None:
    """Add names to the list at *path* and remove others; an empty list is removed."""
    listed = read_devices_file(path)
    wanted = [name for name in listed if name not in remove]
    wanted += [name for name in dict.fromkeys(add) if name not in wanted]
    if wanted == listed and (wanted or not path.exists()):
        return
    try:
        if wanted:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, "".join(f"{name}\n" for name in wanted))
        else:
            path.unlink()
            sync_directory(path.parent)
    except OSError as error:
        raise system.explain(error, "keep the list of devices", str(path)) from error


def named_in_environment() -> list[str]:
    """The disks in ``$LAMELLA_DEVICES``."""
    return [part for part in os.environ.get(ENVIRONMENT, "").split(",") if part]
