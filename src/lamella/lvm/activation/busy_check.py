# SPDX-License-Identifier: Apache-2.0
"""Whether a volume may be deactivated, with LVM2's messages where it may not."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import mountinfo
from lamella.block.sysfs import device_folder, holders
from lamella.errors import BusyError

if TYPE_CHECKING:
    from lamella.devicemapper.client import DeviceInfo, DeviceMapper

SYS_FS = Path("/sys/fs")
TRIES, PAUSE = 25, 0.2
"""How long a device may be open for a moment (by udev), as in LVM2: 5 s altogether."""


def has_holders(info: DeviceInfo) -> bool:
    """Whether another block device is on top of it."""
    return bool(holders(device_folder(info.number)))


def has_file_system(info: DeviceInfo) -> bool:
    """Whether a file system on it is mounted, in any mount namespace as far as the kernel tells."""
    with suppress(OSError):
        if any((each.major, each.minor) == (info.major, info.minor) for each in mountinfo.mounts()):
            return True
    return any(SYS_FS.glob(f"*/dm-{info.minor}"))


def check_unused(dm: DeviceMapper, uuid: str, full_name: str) -> None:
    """Raise :class:`BusyError` if the device with that UUID is open; waits for processes that open it for a
    moment.
    """
    for left in reversed(range(TRIES)):
        info = dm.find(uuid=uuid)
        if info is None or not info.open_count:
            return
        if has_holders(info):
            raise BusyError(
                f"Logical volume {full_name} is used by another device.", hint=f"lsblk {info.node}"
            )
        if has_file_system(info):
            raise BusyError(
                f"Logical volume {full_name} contains a filesystem in use.",
                hint=f"unmount it: findmnt {info.node}",
            )
        if not left:
            raise BusyError(f"Logical volume {full_name} in use.", hint=f"see who: lsof {info.node}")
        time.sleep(PAUSE)
