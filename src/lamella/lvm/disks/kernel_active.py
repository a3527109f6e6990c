# SPDX-License-Identifier: Apache-2.0
"""Which volume groups are active in the kernel: device-mapper devices whose UUID starts with the group's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.sysfs import mapped_devices
from lamella.errors import BusyError
from lamella.lvm.format.ids import dm_uuid

if TYPE_CHECKING:
    from pathlib import Path


def active_in(group_uuid: str, sys_block: Path) -> list[str]:
    """Names of the kernel's devices that belong to the group."""
    prefix = dm_uuid(group_uuid)
    return [device.name for device in mapped_devices(sys_block) if device.uuid.startswith(prefix)]


def refuse_active(group: str, group_uuid: str, sys_block: Path) -> None:
    """Raise :class:`BusyError` if a volume of the group is active in the kernel."""
    names = active_in(group_uuid, sys_block)
    if names:
        shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        raise BusyError(
            f"volume group {group} is active in the kernel ({shown}) and is not changed from here",
            hint=f"use the host's own LVM commands, or deactivate it first: vgchange -an {group}",
        )
