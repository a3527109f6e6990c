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
from lamella.lvm.disks.scan import block_devices
from lamella.lvm.session.config import Config, accepts, config_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ENVIRONMENT = "LAMELLA_DEVICES"
"""A comma-separated list of disks that replaces all others."""
NAME = "devices"
"""The list's name in the state root."""


def disks_of_machine(config: Config, sys_block: Path) -> list[str]:
    """Every disk that LVM2's settings let it scan, without plain files."""
    if config.flag("devices/use_devicesfile"):
        listed = read_devices_file(config_folder() / "devices" / config.text("devices/devicesfile"))
    else:
        listed = block_devices(sys_block)
    filters = [config.strings("devices/global_filter"), config.strings("devices/filter")]
    return [path for path in listed if all(accepts(patterns, path) for patterns in filters)]


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
