# SPDX-License-Identifier: Apache-2.0
"""Layer 1: block devices. Files, raw devices and parts of them, all as one :class:`BlockDevice`."""

from lamella.block.device import SECTOR, BlockDevice
from lamella.block.file import FileDevice
from lamella.block.memory import MemoryDevice
from lamella.block.opening import open_device
from lamella.block.part import Part

__all__ = ["SECTOR", "BlockDevice", "FileDevice", "MemoryDevice", "Part", "open_device"]
