# SPDX-License-Identifier: Apache-2.0
"""What device-mapper holds for volumes, read from sysfs: for users who may not use device-mapper itself."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from lamella.block.sysfs import attribute, holders, mapped_devices, number_attribute
from lamella.lvm.format.ids import dm_uuid
from lamella.lvm.report.view import KernelState

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.lvm.format.model import LogicalVolume, VolumeGroup


class SysfsView:
    """The state of volumes by what is in *sys_block*, which is read at the first question."""

    def __init__(self, sys_block: Path) -> None:
        self._sys_block = sys_block

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """By UUID."""
        return {device.uuid: device.folder for device in mapped_devices(self._sys_block)}

    def state(self, group: VolumeGroup, lv: LogicalVolume) -> KernelState | None:
        """The state of an active volume; None if the kernel does not have it."""
        if not self._folders:
            return None
        uuid = dm_uuid(group.uuid, lv.uuid)
        folder = self._folders.get(uuid)
        if folder is None:
            folder = next((at for name, at in self._folders.items() if name.startswith(uuid + "-")), None)
        if folder is None:
            return None
        major, _, minor = attribute(folder, "dev").partition(":")
        if not major.isdigit() or not minor.isdigit():
            return None
        read_ahead = number_attribute(folder, "queue/read_ahead_kb")
        users = len(holders(folder))
        return KernelState(
            int(major),
            int(minor),
            suspended=attribute(folder, "dm/suspended") == "1",
            open=users > 0,
            open_count=users,
            read_only=attribute(folder, "ro") == "1",
            read_ahead=-1 if read_ahead is None else read_ahead * 1024,
        )
