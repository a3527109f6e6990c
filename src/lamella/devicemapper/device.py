# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a device."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.devicemapper.ioctl import Flag

if TYPE_CHECKING:
    from lamella.devicemapper.ioctl import Answer


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the kernel says of one device."""

    name: str
    uuid: str
    major: int
    minor: int
    open_count: int
    event_nr: int
    target_count: int
    suspended: bool
    read_only: bool
    live_table: bool
    inactive_table: bool
    deferred_remove: bool
    internal_suspend: bool

    @property
    def number(self) -> str:
        """ "major:minor", as tables name devices."""
        return f"{self.major}:{self.minor}"

    @property
    def node(self) -> str:
        """The node that the kernel itself makes, at once, where ``/dev`` is a devtmpfs."""
        return f"/dev/dm-{self.minor}"


def info_of(answer: Answer) -> DeviceInfo:
    """The header of an answer as a value."""
    flags = answer.flags
    return DeviceInfo(
        answer.name,
        answer.uuid,
        os.major(answer.dev),
        os.minor(answer.dev),
        answer.open_count,
        answer.event_nr,
        answer.target_count,
        Flag.SUSPEND in flags,
        Flag.READ_ONLY in flags,
        Flag.ACTIVE_PRESENT in flags,
        Flag.INACTIVE_PRESENT in flags,
        Flag.DEFERRED_REMOVE in flags,
        Flag.INTERNAL_SUSPEND in flags,
    )
