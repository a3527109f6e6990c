# SPDX-License-Identifier: Apache-2.0
"""The disks that a command scans.

In this order: ``--devices``, ``$LAMELLA_DEVICES``, ``--devicesfile``; else the file ``devices`` of the state
root, and for root also every disk of the machine that LVM2 would scan. Plain files count as devices, and so
does an NBD address.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block.opening import is_remote
from lamella.block.sysfs import attribute
from lamella.cli.lvm.errors import BadCommand
from lamella.errors import NotFoundError
from lamella.lvm.session.devices_file import (
    ENVIRONMENT,
    NAME,
    change_list,
    devices_file_path,
    disks_of_machine,
    read_devices_file,
)
from lamella.lvm.session.devname_search import find_renamed
from lamella.lvm.session.system_devices import SystemDevices
from lamella.store.default_root import default_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.session.config import Config
    from lamella.lvm.session.environment import Environment


def state_root(args: Arguments) -> Path:
    """``--root``, ``$LAMELLA_ROOT``, or the default place of a store."""
    named = args.text("root")
    return Path(named).absolute() if named else default_root()


ENTERING = ("pvcreate", "vgcreate", "vgextend", "vgimportclone", "vgimportdevices")
"""Commands that enter the devices they name, or find, in the devices file."""

MAKING = ("pvcreate", "vgcreate", "vgimportclone")
"""Those that make the devices file which ``--devicesfile`` names, and do not look at other disks then."""


def is_explicit(args: Arguments) -> bool:
    """Whether the user named the disks, so that no list is read or changed."""
    return args.has("devices") or bool(os.environ.get(ENVIRONMENT)) or args.has("devicesfile")


def system_devices(args: Arguments, config: Config) -> SystemDevices | None:
    """The devices file that ``--devicesfile`` or the settings name, whether it exists or not; or None.

    Raises :class:`BadCommand` where it is given together with ``--devices``.
    """
    if args.has("devices") and args.has("devicesfile"):
        raise BadCommand("A --devices list cannot be used with --devicesfile.")
    manages = args.command.name == "lvmdevices"  # not limited by a list of devices
    if (args.has("devices") and not manages) or os.environ.get(ENVIRONMENT):
        return None
    if args.has("devicesfile"):
        name = args.text("devicesfile")
    elif os.geteuid() == 0 and config.flag("devices/use_devicesfile"):
        name = config.text("devices/devicesfile")
    else:
        name = ""
    if not name:
        return None
    if "/" in name and args.command.name in ("lvmdevices", "vgimportdevices"):
        raise BadCommand("Invalid devices file name.")
    return SystemDevices.read(Path(name) if "/" in name else devices_file_path(name))


def find_devices(
    args: Arguments, config: Config, environment: Environment, listed: SystemDevices | None = None
) -> list[str]:
    """The paths to scan, each once, in LVM2's order. *listed* is what :func:`system_devices` gave.

    Raises :class:`NotFoundError` for a missing list of paths.
    """
    if args.has("devices"):
        return _in_order(_split(args.texts("devices")))
    named = os.environ.get(ENVIRONMENT)
    if named:
        return _in_order(_split([named]))
    if args.command.name == "vgimportdevices":  # looks for what is not in the file
        return _in_order(disks_of_machine(config, environment.sys_block, devices_file=False))
    if args.has("devicesfile") and listed is not None:
        if listed.path.is_file():
            return _in_order(_entered(listed, config, environment))
        if "/" in args.text("devicesfile"):
            said = f"Devices file not found: {listed.path}"
            raise NotFoundError(said, hint="write one path per line into it")
        if args.command.name in MAKING:  # the file is made with what the command names
            return []
    found = read_devices_file(state_root(args) / NAME)
    if listed is not None and listed.path.is_file():
        found += _entered(listed, config, environment)
    elif os.geteuid() == 0:
        machine = disks_of_machine(config, environment.sys_block, devices_file=False)
        found += [path for path in machine if not _is_loop_over(path, found, environment.sys_block)]
    return _in_order(found)


def _entered(listed: SystemDevices, config: Config, environment: Environment) -> list[str]:
    """The devices in a devices file, also those that have another name now."""
    found = listed.find(environment.sys_block)
    if listed.is_list:
        return found
    find_renamed(listed, config.text("devices/search_for_devnames"), environment.sys_block)
    return [entry.path for entry in listed.entries if entry.path]


def _is_loop_over(path: str, listed: Sequence[str], sys_block: Path) -> bool:
    """Whether *path* is a loop device over one of the files listed, as activation attaches it."""
    name = os.path.basename(path)
    if not listed or not name.startswith("loop"):
        return False
    backing = attribute(sys_block / name, "loop/backing_file")
    return any(os.path.abspath(one) == backing for one in listed)


def remember_files(args: Arguments, add: Sequence[str], remove: Sequence[str] = ()) -> None:
    """Add plain files and NBD addresses to the state root's list, where later commands find them.

    Disks of the machine need no list: they are found anyway.
    """
    if is_explicit(args):
        return
    plain = [name if is_remote(name) else os.path.abspath(name) for name in add if _is_unlisted(name)]
    change_list(state_root(args) / NAME, plain, remove)


def _is_unlisted(name: str) -> bool:
    """A plain file or an NBD address, which no scan finds."""
    if is_remote(name):
        return True
    try:
        return stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        return False


def _split(texts: Sequence[str]) -> list[str]:
    return [part for text in texts for part in text.split(",") if part]


def _in_order(names: Sequence[str]) -> list[str]:
    """Each once: what is no block device as given, then the devices as LVM2 visits them.

    LVM2 keeps them in a tree whose keys are the 32-bit device numbers with their bytes reversed, so the low
    byte of the minor number decides first. The order shows where groups and volumes are listed unsorted.
    """
    return sorted(dict.fromkeys(names), key=_visited)


def _visited(name: str) -> bytes:
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return b""
    return (found.st_rdev & 0xFFFFFFFF).to_bytes(4, "little") if stat.S_ISBLK(found.st_mode) else b""
