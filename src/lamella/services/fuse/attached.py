# SPDX-License-Identifier: Apache-2.0
"""A volume that is served as a file, on which there is a loop device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.services.fuse.gone import GoneDevice

if TYPE_CHECKING:
    from lamella.block import BlockDevice
    from lamella.block.loop import LoopDevice
    from lamella.driver.device_set import DeviceSet


@dataclass
class Attached:
    """The store's device, its file's name, and what was opened for it."""

    device: str
    device_id: int
    file: str
    volume: BlockDevice
    loop: LoopDevice

    def close_volume(self, devices: DeviceSet) -> None:
        """Nothing uses it any more."""
        self.volume.close()
        if not isinstance(self.volume, GoneDevice):
            devices.engine.let_go(self.device)
