# SPDX-License-Identifier: Apache-2.0
"""From what was found on disks to what reports show: metadata areas, device numbers, the kernel's state."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from lamella.lvm.format.ids import without_dashes
from lamella.lvm.report.view import DeviceInfo, GroupView, KernelState, Surroundings, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.disk import Disk, MetadataCopy
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.session.config import Config
    from lamella.lvm.session.session import Session

SECTOR = 512


def time_format(config: Config) -> str:
    """The format in which reports print times, as ``strftime`` takes it everywhere."""
    return config.text("report/time_format").replace("%T", "%H:%M:%S")


def make(session: Session, config: Config, activator: KernelActivator | None) -> Surroundings:
    """The state of the kernel's devices, as far as the settings let reports ask for it.

    Without *activator* it comes from sysfs, and how full thin pools are from their metadata.
    """
    times, mark = time_format(config), config.flag("report/mark_hidden_devices")
    if not config.flag("global/activation"):
        return Surroundings(activation=False, mark_hidden=mark, time_format=times)
    from lamella.lvm.report.thin_usage import ThinUsage

    usage = ThinUsage(session)
    if activator is None:
        kernel = Kernel(session.environment.sys_block)
        return Surroundings(True, kernel.state, usage.of, mark, times)
    from lamella.lvm.report.kernel_state import KernelView

    view = KernelView(activator.dm)

    def thin_usage(group: VolumeGroup, lv: LogicalVolume) -> Usage:
        target = view.target(group, lv)
        if target is not None:
            return target.usage
        found = next((each for each in session.scan.groups if each.group is group), None)
        if found is not None and session.kernel(found) is None:
            return usage.of(group, lv)  # not the kernel's to activate: the engine in user space opens it
        return Usage()

    return Surroundings(
        True, view.state, thin_usage, mark, times, view.active, view.target, view.itself,
        activator.monitored,
    )  # fmt: skip


def device_info(disk: Disk, *, duplicate: bool = False) -> DeviceInfo:
    """What a report shows of a disk and its label."""
    major = minor = -1
    try:
        status = os.stat(disk.path)
        if stat.S_ISBLK(status.st_mode):
            major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    except OSError:
        pass  # a remote disk, or gone by now: it has no number
    good = [copy for copy in disk.copies if not copy.problem]
    return DeviceInfo(
        disk.path,
        disk.size,
        major,
        minor,
        disk.label.uuid if disk.label is not None else "",
        len(disk.copies),
        sum(not copy.ignored for copy in good),
        min((copy.size for copy in good), default=0),
        min((free_room(copy) for copy in good), default=0),
        duplicate=duplicate,
    )


def free_room(copy: MetadataCopy) -> int:
    """Bytes that the area's text may grow by, in whole sectors as LVM2 counts them."""
    if copy.header is None:
        return 0
    return max(copy.header.max_text - copy.header.committed.size, 0) // SECTOR * SECTOR


def group_view(found: FoundGroup, around: Surroundings) -> GroupView:
    """A group with its disks, for reports."""
    devices = {uuid: device_info(disk) for uuid, disk in found.disks.items()}
    return GroupView(found.group, devices, around)


class Kernel:
    """What device-mapper holds, from ``/sys/block``; read at the first question."""

    def __init__(self, sys_block: Path) -> None:
        self._sys_block = sys_block
        self._folders: dict[str, Path] | None = None

    def _find(self) -> dict[str, Path]:
        found = {}
        try:
            names = [name for name in os.listdir(self._sys_block) if name.startswith("dm-")]
        except OSError:
            names = []
        for name in names:
            folder = self._sys_block / name
            uuid = _read(folder / "dm" / "uuid")
            if uuid.startswith("LVM-"):
                found[uuid] = folder
        return found

    def state(self, group: VolumeGroup, lv: LogicalVolume) -> KernelState | None:
        """The state of an active volume; None if the kernel does not have it."""
        if self._folders is None:
            self._folders = self._find()
        if not self._folders:
            return None
        uuid = "LVM-" + without_dashes(group.uuid) + without_dashes(lv.uuid)
        folder = self._folders.get(uuid)
        if folder is None:
            folder = next((at for name, at in self._folders.items() if name.startswith(uuid + "-")), None)
        if folder is None:
            return None
        major, _, minor = _read(folder / "dev").partition(":")
        if not major.isdigit() or not minor.isdigit():
            return None
        read_ahead = _read(folder / "queue" / "read_ahead_kb")
        return KernelState(
            int(major),
            int(minor),
            suspended=_read(folder / "dm" / "suspended") == "1",
            open=any(_names(folder / "holders")),
            open_count=len(_names(folder / "holders")),
            read_only=_read(folder / "ro") == "1",
            read_ahead=int(read_ahead) * 1024 if read_ahead.isdigit() else -1,
        )


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
