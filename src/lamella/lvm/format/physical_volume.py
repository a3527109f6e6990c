# SPDX-License-Identifier: Apache-2.0
"""A physical volume, as LVM2's text has it. Sizes named ``*_sectors`` count 512-byte sectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR

if TYPE_CHECKING:
    from lamella.lvm.format.text import Section

EXPORTED, ALLOCATABLE = "EXPORTED", "ALLOCATABLE"


@dataclass(slots=True, eq=False)
class PhysicalVolume:
    """One disk of a group, or (with ``group_name`` empty) a disk that belongs to none yet.

    ``device`` is the path at which the disk was found, or the text's hint while it is missing.
    """

    uuid: str
    device: str
    name: str = ""
    """Its key in the group's text: ``pv0``, ``pv1``; numbered again at every write, as LVM does."""
    status: list[str] = field(default_factory=lambda: [ALLOCATABLE])
    flags: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    dev_sectors: int = 0
    """The size in the text: what LVM may use of the disk (``--setphysicalvolumesize`` lowers it)."""
    pe_start: int = 0
    """Where extent 0 lies on the disk, in sectors."""
    pe_count: int = 0
    ba_start: int = 0
    """Boot loader area, in sectors; size 0 means none."""
    ba_size: int = 0
    device_id: str = ""
    device_id_type: str = ""
    extra: Section = field(default_factory=dict)
    missing: bool = False
    """No device with its UUID was found."""

    @property
    def path(self) -> str:
        """The device's path as LVM shows it: "[unknown]" while it is missing."""
        return "[unknown]" if self.missing else self.device

    @property
    def size(self) -> int:
        """Bytes that LVM may use of the disk, its own metadata included."""
        return self.dev_sectors * SECTOR

    @property
    def allocatable(self) -> bool:
        return ALLOCATABLE in self.status

    @property
    def exported(self) -> bool:
        return EXPORTED in self.status
