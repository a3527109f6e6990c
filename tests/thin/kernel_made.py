# SPDX-License-Identifier: Apache-2.0
"""What is known of the fixtures thin-a and thin-c: these numbers differ where they are made anew."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class KernelMade:
    """Blocks count 4096 bytes; ``folder`` is the unpacked fixture."""

    folder: Path
    devices: list[int]
    mapping_root: int
    details_root: int
    leaf: int
    """The block that is damaged in ``damaged/bottom_leaf``."""
    held_root: int
    """Block of the held snapshot's superblock, in ``held``."""
    free_blocks: int
    """Of the metadata, in ``clean``."""
    time: int
    """Of the superblock, in ``clean``."""

    @classmethod
    def read(cls, folder: Path) -> KernelMade:
        info = json.loads((folder / "INFO.json").read_text())
        dump = (folder / "clean" / "thin_dump.skipmap.txt").read_text()
        time = re.search(r'<superblock [^>]*time="(\d+)"', dump)
        assert time is not None
        return cls(
            folder,
            info["devs"],
            info["mapping_root"],
            info["details_root"],
            info["leaf"],
            int(info["status_held"].split()[6]),
            info["meta_sm"][0] - info["meta_sm"][1],
            int(time[1]),
        )

    @property
    def hit_devices(self) -> list[int]:
        """Those that lack mappings, when the leaf is damaged, in what real ``thin_dump --repair`` prints."""
        whole = _by_device(self.folder / "clean" / "thin_dump.txt")
        left = _by_device(self.folder / "damaged" / "bottom_leaf" / "thin_dump.repair.txt")
        return [number for number in self.devices if whole[number] != left[number]]

    @property
    def last_snapshot(self) -> int:
        """The device that was made last, but for the one with the largest id."""
        return self.devices[-2]


def _by_device(path: Path) -> dict[int, str]:
    """What of a dump in XML is inside each device's element."""
    found = re.findall(r'<device dev_id="(\d+)"[^>]*>\n(.*?)</device>', path.read_text(), re.DOTALL)
    return {int(number): mappings for number, mappings in found}
