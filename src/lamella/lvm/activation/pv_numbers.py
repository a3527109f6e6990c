# SPDX-License-Identifier: Apache-2.0
"""The disks of a volume group by number ("major:minor"), plain files attached to loop devices."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.block.opening import is_remote
from lamella.block.system import block_device_size
from lamella.closing import Closing
from lamella.errors import MissingError, Remedy, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamella.block.loop import LoopDevice
    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.disks.scan import FoundGroup


def wait_for_loop_devices(disks: Iterable[str]) -> None:
    """Wait until the plain files among *disks* have no loop device that is about to detach.

    A device that nothing in the kernel uses any more stays attached as long as udev has it open. Under a
    lock of LVM's this may time out, as udev's rules may wait for that lock: wait again without it.
    """
    files = [path for path in disks if os.path.isfile(path)]
    if files:
        from lamella.block.loop import wait_until_free

        for path in files:
            wait_until_free(path)


class GroupDisks(Mapping[str, str], Closing):
    """ "major:minor" by the physical volume's UUID, looked up on demand.

    A plain file is attached to a loop device, which detaches itself when nothing uses it any more; keep this
    open until the tables that refer to it are loaded. Missing disks are left out. Raises
    :class:`UnsupportedError` for a disk behind NBD, which has no block device here.
    """

    def __init__(self, found: FoundGroup) -> None:
        self._found = found
        self._known: dict[str, str] = {}
        self._loops: list[LoopDevice] = []

    def __getitem__(self, uuid: str) -> str:
        if uuid not in self._known:
            self._known[uuid] = self._number(self._found.disks[uuid])
        return self._known[uuid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found.disks)

    def __len__(self) -> int:
        return len(self._found.disks)

    def _number(self, disk: Disk) -> str:
        path = disk.path
        if is_remote(path):
            raise UnsupportedError(
                f"{path} of volume group {self._found.group.name} is an NBD address, not a block device",
                steps=[Remedy.ATTACH_NBD],
            )
        try:
            status = os.stat(path)
        except OSError as error:
            raise MissingError(f"cannot find {path}: {os.strerror(error.errno or 0)}") from error
        if stat.S_ISBLK(status.st_mode):
            return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        from lamella.block.loop import attach

        loop = attach(path, locked=disk.locked_file)
        self._loops.append(loop)
        if block_device_size(loop.fd) < status.st_size // SECTOR * SECTOR:
            loop.set_capacity()  # the file has grown since
        major, minor = loop.device
        return f"{major}:{minor}"

    def close(self) -> None:
        """Close the loop devices; those that a table uses stay attached."""
        for loop in self._loops:
            loop.close()
        self._loops.clear()
        self._known.clear()
