# SPDX-License-Identifier: Apache-2.0
"""What reports show beside the metadata: disks, device numbers, the state of devices in the kernel."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.lvm.format.physical_volume import PhysicalVolume
from lamella.lvm.report.view import DeviceInfo, GroupView, Sources, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.disk import Disk, MetadataCopy
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.session.config import Config
    from lamella.lvm.session.session import Session


def time_format(config: Config) -> str:
    """The format in which reports print times, as ``strftime`` takes it everywhere."""
    return config.text("report/time_format").replace("%T", "%H:%M:%S")


def make(session: Session, config: Config, activator: KernelActivator | None) -> Sources:
    """The state of the kernel's devices, as far as the settings let reports ask for it.

    Without *activator* it is read from sysfs, and the usage of thin pools from their metadata.
    """
    times, mark = time_format(config), config.flag("report/mark_hidden_devices")
    if not config.flag("global/activation"):
        return Sources(activation=False, mark_hidden=mark, time_format=times)
    from lamella.lvm.report.thin_usage import ThinUsage

    usage = ThinUsage(session)
    if activator is None:
        from lamella.lvm.report.sysfs_state import SysfsView

        kernel = SysfsView(session.environment.sys_block)
        return Sources(True, kernel.state, usage.of, mark, times)
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

    return Sources(
        True, view.state, thin_usage, mark, times, view.active, view.target, view.top_state,
        activator.monitored,
    )  # fmt: skip


UNKNOWN_GROUP = "[unknown]"
"""What reports say of the group of a disk that is in use while its group is not found."""


def device_info(disk: Disk, *, duplicate: bool = False) -> DeviceInfo:
    """What a report shows of a disk and its label."""
    major, minor = numbers(disk.path)
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
        extension=disk.label.extension_version if disk.label is not None else None,
        duplicate=duplicate,
        used=disk.label is not None and disk.label.used,
    )


def numbers(path: str) -> tuple[int, int]:
    """Major and minor number of a block device; -1 for anything else."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1  # a remote disk, or gone by now: it has no number
    if not stat.S_ISBLK(status.st_mode):
        return -1, -1
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def free_room(copy: MetadataCopy) -> int:
    """Bytes that the area's text may grow by, in whole sectors as LVM2 counts them; 0 for an ignored area."""
    if copy.header is None or copy.ignored:
        return 0
    return max(copy.header.max_text - copy.header.committed.size, 0) // SECTOR * SECTOR


def group_view(found: FoundGroup, sources: Sources) -> GroupView:
    """A group with its disks, for reports."""
    devices = {uuid: device_info(disk) for uuid, disk in found.disks.items()}
    return GroupView(found.group, devices, sources)


def orphan_view(disks: Iterable[Disk], sources: Sources) -> GroupView:
    """Physical volumes of no group, for reports; disks without a label are left out."""
    orphans, devices = [], {}
    for disk in disks:
        label = disk.label
        if label is None:
            continue
        pv = PhysicalVolume(label.uuid, disk.path, status=[], dev_sectors=label.device_size // SECTOR)
        if label.data_areas:
            pv.pe_start = label.data_areas[0][0] // SECTOR
        if label.boot_areas:
            pv.ba_start, pv.ba_size = (part // SECTOR for part in label.boot_areas[0])
        orphans.append(pv)
        devices[label.uuid] = info = device_info(disk)
        info.group = UNKNOWN_GROUP if info.used else ""
    return GroupView(None, devices, sources, orphans)


def duplicate_view(disks: Iterable[Disk], sources: Sources) -> GroupView:
    """Disks with the UUID of another one that is preferred: nothing on them is used, and little shown."""
    duplicates, devices = [], {}
    for disk in disks:
        if disk.label is None:
            continue
        duplicates.append(PhysicalVolume(disk.label.uuid, disk.path, status=[]))
        info = DeviceInfo(disk.path, disk.size, *numbers(disk.path), disk.label.uuid)
        info.extension, info.duplicate, info.used = None, True, disk.label.used
        info.group = next((copy.group.name for copy in disk.copies if copy.group is not None), "")
        devices[disk.label.uuid] = info
    return GroupView(None, devices, sources, duplicates)
