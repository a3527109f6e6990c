# SPDX-License-Identifier: Apache-2.0
"""Make the missing links ``/dev/VG/LV`` of active volumes, and remove those of inactive ones."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.block.system import explain
from lamella.devicemapper.nodes import mapper_path, udev_runs
from lamella.errors import LamellaError
from lamella.lvm.activation import device_changes
from lamella.lvm.activation.device_tree import is_own_pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.devicemapper.client import DeviceInfo
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup

ABSENT = (
    "The link {} should have been created by udev but it was not found. Falling back to direct link creation."
)
WRONG = (
    "Symlink {} that should have been created by udev does not have correct target. "
    "Falling back to direct link creation"
)
STALE = (
    "The link {} should have been removed by udev but it is still present. "
    "Falling back to direct link removal."
)


def mend_link(
    group: VolumeGroup, lv: LogicalVolume, info: DeviceInfo | None, tell: Callable[[str], None]
) -> None:
    """Make or remove the volume's link, as its device *info* says (None: the volume is not active).

    *tell* is called with what udev should have done. Hidden volumes and pools with thin volumes have no link.
    Raises :class:`LamellaError` if something that is no link is in its place.
    """
    path = device_changes.DEV / group.name / lv.name
    expected = tell if udev_runs() else lambda text: None
    try:
        if info is None:
            _drop(path, expected)
        elif group.is_visible(lv) and not is_own_pool(lv):
            _make(path, info, expected)
    except OSError as error:
        raise explain(error, "make or remove", str(path)) from error


def _make(path: Path, info: DeviceInfo, expected: Callable[[str], None]) -> None:
    if _leads_to(path, os.makedev(info.major, info.minor)):
        return
    if path.is_symlink():
        expected(WRONG.format(path))
    elif os.path.lexists(path):
        raise LamellaError(
            f"Symbolic link {mapper_path(info.name)} not created: file exists",
            hint=f"{path} is no link: move it away, then try again",
        )
    else:
        expected(ABSENT.format(path))
    device_changes.make_link(path, info.name)


def _drop(path: Path, expected: Callable[[str], None]) -> None:
    if os.path.lexists(path):
        expected(STALE.format(path))
        if not path.is_symlink():
            raise LamellaError(f"{path} not symbolic link - not removing")
        path.unlink(missing_ok=True)
    with suppress(OSError):  # there is no such folder, or it has links of other volumes
        path.parent.rmdir()


def _leads_to(path: Path, number: int) -> bool:
    with suppress(OSError):
        found = path.stat()
        return path.is_symlink() and stat.S_ISBLK(found.st_mode) and found.st_rdev == number
    return False
