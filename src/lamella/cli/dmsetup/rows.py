# SPDX-License-Identifier: Apache-2.0
"""A line of ``dmsetup info -c``: one device, and what its fields ask device-mapper for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.dmsetup.backend import Source
    from lamella.cli.dmsetup.options import Options
    from lamella.devicemapper.device import DeviceInfo


@dataclass(eq=False)
class Row:
    """One device with what its fields show."""

    devices: Source
    info: DeviceInfo
    options: Options

    @cached_property
    def uses(self) -> Sequence[tuple[int, int]]:
        """Numbers of the devices that it uses."""
        return self.devices.deps(self.info.name)

    @cached_property
    def used_by(self) -> list[DeviceInfo]:
        """The devices that use it."""
        own = (self.info.major, self.info.minor)
        everybody = [self.devices.info(name) for name in self.devices.names()]
        return [each for each in everybody if own in self.devices.deps(each.name)]
