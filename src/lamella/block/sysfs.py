# SPDX-License-Identifier: Apache-2.0
"""What sysfs tells of block devices: names, numbers, attributes, and the devices on top of them.

A device is given by its folder: ``/sys/block/NAME``, or ``/sys/dev/block/MAJOR:MINOR``. The attributes
are those of the kernel's ``Documentation/ABI/stable/sysfs-block``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SYS_BLOCK = Path("/sys/block")
SYS_DEV_BLOCK = Path("/sys/dev/block")
SYS_CLASS_BLOCK = Path("/sys/class/block")


def device_folder(number: str | int) -> Path:
    """The folder of the device "major:minor", or of the number as ``st_rdev`` has it."""
    if isinstance(number, int):
        number = f"{os.major(number)}:{os.minor(number)}"
    return SYS_DEV_BLOCK / number


def attribute(folder: Path, name: str) -> str:
    """An attribute's text without the newline; "" where the device or the attribute is not there."""
    try:
        return os.fsdecode((folder / name).read_bytes()).rstrip("\n")
    except OSError:
        return ""


def number_attribute(folder: Path, name: str) -> int | None:
    """An attribute that is a number; None where it is not there."""
    try:
        return int(attribute(folder, name))
    except ValueError:
        return None


def block_name(major: int, minor: int) -> str | None:
    """The kernel's own name ("vdb", "dm-0"), or None if there is no such device."""
    with suppress(OSError):
        return (SYS_DEV_BLOCK / f"{major}:{minor}").readlink().name
    return None


def read_ahead(major: int, minor: int) -> int | None:
    """Sectors that are read ahead, or None if there is no such device."""
    kib = number_attribute(device_folder(f"{major}:{minor}"), "queue/read_ahead_kb")
    return None if kib is None else kib * 2


def is_partition(path: str) -> bool:
    """Whether the node *path*, called as the kernel calls the device, is a partition."""
    return (SYS_CLASS_BLOCK / os.path.basename(path) / "partition").exists()


def holders(folder: Path) -> list[Path]:
    """The folders of the block devices that lie on the device."""
    return device_folders(folder / "holders")


def with_slaves(number: str, sys: Path = Path("/sys")) -> set[str]:
    """The numbers of the device "major:minor" and of all devices that it lies on, at any depth."""
    found, todo = set[str](), [number]
    while todo:
        one = todo.pop()
        if one in found:
            continue
        found.add(one)
        todo += [attribute(slave, "dev") for slave in (sys / "dev/block" / one / "slaves").glob("*")]
    return found - {""}


def device_folders(sys_block: Path = SYS_BLOCK, prefix: str = "") -> list[Path]:
    """The folders of whole disks whose names begin with *prefix*, by name; empty where there is no sysfs."""
    return [sys_block / name for name in disk_names(sys_block) if name.startswith(prefix)]


def disk_names(sys_block: Path = SYS_BLOCK) -> list[str]:
    """The names of whole disks, sorted; empty where there is no sysfs.

    A machine may have a thousand, most of them loop devices: a path for each takes much longer.
    """
    try:
        return sorted(os.listdir(sys_block))
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class MappedDevice:
    """A device of device-mapper."""

    folder: Path
    name: str
    uuid: str


def mapped_devices(sys_block: Path = SYS_BLOCK) -> list[MappedDevice]:
    """The devices of device-mapper by the kernel's names for them; those without a table are not in sysfs."""
    folders = device_folders(sys_block, "dm-")
    found = [MappedDevice(each, attribute(each, "dm/name"), attribute(each, "dm/uuid")) for each in folders]
    return [each for each in found if each.name]
