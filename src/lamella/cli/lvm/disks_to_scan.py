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
from lamella.errors import NotFoundError
from lamella.lvm.session.config import Config, config_folder
from lamella.lvm.session.devices_file import (
    ENVIRONMENT,
    NAME,
    change_list,
    disks_of_machine,
    read_devices_file,
)
from lamella.store.default_root import default_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.session.environment import Environment


def state_root(args: Arguments) -> Path:
    """``--root``, ``$LAMELLA_ROOT``, or the default place of a store."""
    named = args.text("root")
    return Path(named).absolute() if named else default_root()


def is_explicit(args: Arguments) -> bool:
    """Whether the user named the disks, so that no list is read or changed."""
    return args.has("devices") or bool(os.environ.get(ENVIRONMENT)) or args.has("devicesfile")


def find_devices(args: Arguments, config: Config, environment: Environment) -> list[str]:
    """The paths to scan, each once, in order. Raises :class:`NotFoundError` for a missing devices file."""
    if args.has("devices"):
        return _unique(_split(args.texts("devices")))
    named = os.environ.get(ENVIRONMENT)
    if named:
        return _unique(_split([named]))
    if args.has("devicesfile"):
        name = args.text("devicesfile")
        path = Path(name) if "/" in name else config_folder() / "devices" / name
        if not path.is_file():
            raise NotFoundError(f"Devices file not found: {path}", hint="write one path per line into it")
        return read_devices_file(path)
    found = read_devices_file(state_root(args) / NAME)
    if os.geteuid() == 0:
        machine = disks_of_machine(config, environment.sys_block)
        found += [path for path in machine if not _is_loop_over(path, found, environment.sys_block)]
    return _unique(found)


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


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))
