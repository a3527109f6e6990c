# SPDX-License-Identifier: Apache-2.0
"""Which volume groups the kernel is using: device-mapper devices whose UUID starts with the group's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError
from lamella.lvm.format.ids import without_dashes

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "LVM-"


def active_devices(sys_block: Path) -> list[tuple[str, str]]:
    """(name, UUID) of every device-mapper device that LVM made. Reads ``/sys/block/dm-*/dm``."""
    found = []
    try:
        entries = sorted(sys_block.glob("dm-*/dm/uuid"))
    except OSError:
        return []
    for entry in entries:
        try:
            uuid = entry.read_text().strip()
            name = (entry.parent / "name").read_text().strip()
        except OSError:
            continue  # it went away meanwhile
        if uuid.startswith(PREFIX):
            found.append((name, uuid))
    return found


def active_in(group_uuid: str, sys_block: Path) -> list[str]:
    """Names of the kernel's devices that belong to the group."""
    prefix = PREFIX + without_dashes(group_uuid)
    return [name for name, uuid in active_devices(sys_block) if uuid.startswith(prefix)]


def refuse_active(group: str, group_uuid: str, sys_block: Path) -> None:
    """Raise :class:`BusyError` if the kernel uses a volume of the group."""
    names = active_in(group_uuid, sys_block)
    if names:
        shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        raise BusyError(
            f"volume group {group} is active in the kernel ({shown}) and is not changed from here",
            hint=f"use the host's own LVM commands, or deactivate it first: vgchange -an {group}",
        )
