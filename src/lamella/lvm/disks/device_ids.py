# SPDX-License-Identifier: Apache-2.0
"""What a block device is recognised by in LVM2's devices file, whatever its name: lvmdevices(8).

The identifiers are in sysfs; spaces in them are written as underscores.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lamella.block.sysfs import SYS_CLASS_BLOCK, attribute, number_attribute

if TYPE_CHECKING:
    from pathlib import Path

OF_MAPPER = {"mpath_uuid": "mpath-", "crypt_uuid": "CRYPT-", "lvmlv_uuid": "LVM-"}
"""Types that are the UUID of a device-mapper device, by what it begins with."""
ATTRIBUTES = {
    "md_uuid": ("md/uuid",),
    "loop_file": ("loop/backing_file",),
    "sys_wwid": ("device/wwid", "wwid"),
    "sys_serial": ("device/serial", "serial"),
}
PREFERRED = (*OF_MAPPER, *ATTRIBUTES)
"""The types in the order in which the first that a device has is used; without any, ``devname`` is."""


def device_id(name: str, kind: str, sys_class: Path = SYS_CLASS_BLOCK) -> str:
    """The identifier of *kind* of the device called *name* ("sdb1"); "" if it has none.

    A partition has that of its disk.
    """
    folder = sys_class / name
    if (folder / "partition").exists():
        folder = folder.resolve().parent
    if kind in OF_MAPPER:
        uuid = attribute(folder, "dm/uuid")
        return _plain(uuid) if uuid.startswith(OF_MAPPER[kind]) else ""
    found = (attribute(folder, one) for one in ATTRIBUTES.get(kind, ()))
    return next((_plain(one) for one in found if one.strip()), "")


def partition_number(name: str, sys_class: Path = SYS_CLASS_BLOCK) -> int:
    """The number of a partition; 0 for a whole disk."""
    return number_attribute(sys_class / name, "partition") or 0


def best_id(name: str, sys_class: Path = SYS_CLASS_BLOCK) -> tuple[str, str]:
    """(type, identifier) that LVM2 enters for the device called *name*."""
    for kind in PREFERRED:
        found = device_id(name, kind, sys_class)
        if found:
            return kind, found
    return "devname", f"/dev/{name}"


def _plain(text: str) -> str:
    return re.sub(r"\s", "_", text.strip())
