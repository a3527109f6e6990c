# SPDX-License-Identifier: Apache-2.0
"""What stands for the block devices of the user engine's snapshots where nothing is mounted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella.driver.device_set import DeviceSet


class Nodes:
    """Stands for the block devices of the user engine; records which are attached."""

    def __init__(self, devices: DeviceSet) -> None:
        self.devices = devices
        self.attached: set[str] = set()
        self.open: set[str] = set()

    def attach(self, name: str, *, read_only: bool) -> Path:
        self.devices.get(name)
        self.attached.add(name)
        return Path("/dev/ro" if read_only else "/dev/rw") / name

    def detach(self, name: str) -> bool:
        self.attached.discard(name)
        return name not in self.open

    def is_open(self, name: str) -> bool:
        return name in self.open

    def name_of(self, path: str) -> str | None:
        return path.rpartition("/")[2] if path.startswith("/dev/rw/") else None

    def forget_cached(self, name: str) -> None:
        assert name in self.attached

    def detach_unused(self) -> None:
        self.attached &= self.open

    def finish_detaching(self) -> None:
        pass

    def close(self) -> None:
        self.attached.clear()
