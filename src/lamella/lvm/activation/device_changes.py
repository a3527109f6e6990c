# SPDX-License-Identifier: Apache-2.0
"""Create and remove the devices of volumes, with their names and links, and roll back on failure."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.devicemapper.nodes import QUIET_COOKIE, Udev, drop_name, make_name, mapper_path, udev_cookie
from lamella.errors import BusyError, LamellaError, NotFoundError
from lamella.lvm.activation.device_tree import resolved
from lamella.lvm.format.names import split_dm_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from lamella.devicemapper.client import DeviceInfo, DeviceMapper, TargetLine
    from lamella.devicemapper.nodes import Cookie
    from lamella.devicemapper.table import Target
    from lamella.lvm.activation.device_tree import WantedDevice

    Answer = TypeVar("Answer")

DEV = Path("/dev")
BLKRASET, BLKRAGET = 0x1262, 0x1263
TRIES, PAUSE = 100, 0.05
"""How often the removal of a device that udev has open for a moment is tried."""


class Changes:
    """Changes to devices by one command; :meth:`roll_back` removes the created ones. Use :func:`changes`."""

    def __init__(self, dm: DeviceMapper, cookie: Cookie | None) -> None:
        self.dm = dm
        self.cookie = cookie
        self.numbers: dict[str, str] = {}
        """ "major:minor" of devices by UUID."""
        self._made: list[WantedDevice] = []

    # -- one device ------------------------------------------------------------------------------

    def number(self, uuid: str) -> str:
        """The number ("major:minor") of the device; :class:`NotFoundError` if it does not exist."""
        if uuid not in self.numbers:
            self.numbers[uuid] = self.dm.info(uuid=uuid).number
        return self.numbers[uuid]

    def table(self, device: WantedDevice) -> tuple[Target, ...]:
        """The table with the current numbers of the devices below."""
        for below in device.below:
            self.number(below)
        return resolved(device.table, self.numbers)

    def make(self, device: WantedDevice) -> DeviceInfo:
        """Create the device with its table; on failure it does not exist."""
        table = self.table(device)
        self.dm.create(device.name, device.uuid, minor=device.minor, read_only=device.read_only)
        try:
            self.dm.load(device.name, table, read_only=device.read_only)
            info = self._with_cookie(device.udev, lambda value: self.dm.resume(device.name, cookie=value))
        except BaseException:
            with suppress(LamellaError):
                self.dm.remove(device.name, cookie=QUIET_COOKIE)
            raise
        self._made.append(device)
        self.numbers[device.uuid] = info.number
        if self.cookie is None:
            make_name(device.name, info.major, info.minor)
            self._link(device)
        if device.read_ahead is not None:
            set_read_ahead(info, device.read_ahead)
        return info

    def rename(self, device: WantedDevice, old: str) -> None:
        """Rename the device *old* to the wanted name."""
        self._with_cookie(device.udev, lambda value: self.dm.rename(old, device.name, cookie=value))
        if self.cookie is None:
            info = self.dm.info(device.name)
            drop_name(old)
            make_name(device.name, info.major, info.minor)
            drop_links(old)
            self._link(device)

    def _link(self, device: WantedDevice) -> None:
        if device.link:
            make_link(DEV / device.link, device.name)

    def reload(self, device: WantedDevice, table: Sequence[Target], *, freeze: bool = False) -> None:
        """Replace the table of a live device at once."""
        self.dm.load(device.name, table, read_only=device.read_only)
        try:
            self.dm.suspend(device.name, freeze=freeze)
        except BaseException:
            with suppress(LamellaError):
                self.dm.clear(device.name)
            raise
        self.resume(device.name, device.udev)

    def resume(self, name: str, flags: Udev) -> None:
        """Resume a device, with a cookie, as that may cause a uevent."""
        self._with_cookie(flags, lambda value: self.dm.resume(name, cookie=value))

    def remove(self, info: DeviceInfo, flags: Udev = Udev.NO_LIBRARY_FALLBACK) -> None:
        """Remove an unused device; waits for udev if that has it open for a moment."""
        for left in reversed(range(TRIES)):
            try:
                self._with_cookie(flags, lambda value: self.dm.remove(info.name, cookie=value))
                break
            except NotFoundError:
                return
            except BusyError:
                if not left:
                    raise
                time.sleep(PAUSE)
        self.numbers.pop(info.uuid, None)
        if self.cookie is None:
            drop_links(info.name)
            drop_name(info.name)

    def _with_cookie(self, flags: Udev, change: Callable[[int], Answer]) -> Answer:
        """Make one change that causes a uevent, and count it in the cookie only if it did.

        The kernel reports whether there was a uevent: removing a device that never had a table causes none.
        """
        if self.cookie is None:
            return change(QUIET_COOKIE)
        value = self.cookie.value(flags)
        try:
            answer = change(value)
        except BaseException:
            self.cookie.drop()
            raise
        if not self.dm.made_event:
            self.cookie.drop()
        return answer

    # -- failing ---------------------------------------------------------------------------------

    def roll_back(self) -> None:
        """Remove the created devices, the last first; errors are ignored."""
        for device in reversed(self._made):
            info = self.dm.find(uuid=device.uuid)
            if info is not None:
                with suppress(LamellaError):
                    self.remove(info, device.udev)
        self._made.clear()


@contextmanager
def changes(dm: DeviceMapper, shared: SharedCookie | None = None) -> Iterator[Changes]:
    """Changes that are rolled back if the block raises.

    Waits at the end of the block until udev has processed them; with *shared*, that cookie's owner waits.
    """
    with nullcontext(shared.cookie) if shared is not None else udev_cookie() as cookie:
        made = Changes(dm, cookie)
        try:
            yield made
        except BaseException:
            made.roll_back()
            raise


@dataclass(frozen=True, slots=True)
class SharedCookie:
    """The cookie of several changes, for which udev is waited for once."""

    cookie: Cookie | None


def same_table(live: Sequence[TargetLine], wanted: Sequence[Target]) -> bool:
    """Whether the kernel's table is the wanted one."""
    return [one.line.split() for one in live] == [one.line.split() for one in wanted]


def set_read_ahead(info: DeviceInfo, sectors: int) -> None:
    """Set the device's read-ahead."""
    with suppress(OSError):
        descriptor = os.open(info.node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, BLKRASET, sectors)
        finally:
            os.close(descriptor)


def read_ahead(node: str) -> int:
    """Sectors that the kernel reads ahead on a block device."""
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(descriptor, BLKRAGET, bytes(8))
    finally:
        os.close(descriptor)
    found: int = struct.unpack("@l", answer)[0]
    return found


def make_link(path: Path, name: str) -> None:
    """Create *path*, which is ``/dev/VG/LV``, for the device called *name*, where udev does not."""
    path.parent.mkdir(exist_ok=True)
    target = mapper_path(name)
    with suppress(OSError):
        if os.readlink(path) == str(target):
            return
    with suppress(FileNotFoundError):
        path.unlink()
    path.symlink_to(target)


def drop_links(name: str) -> None:
    """Remove ``/dev/VG/LV`` of the device called *name*, and an empty folder ``/dev/VG``."""
    group, volume, layer = split_dm_name(name)
    if layer or not volume:
        return  # not the device of a volume itself
    path = DEV / group / volume
    with suppress(OSError):
        if os.readlink(path) == str(mapper_path(name)):
            path.unlink()
            path.parent.rmdir()
