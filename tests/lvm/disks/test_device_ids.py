# SPDX-License-Identifier: Apache-2.0
"""What identifies a device in a devices file: the types of lvmdevices(8), from a sysfs made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.lvm.disks.device_ids import best_id, device_id, partition_number

if TYPE_CHECKING:
    from pathlib import Path

DISKS = {
    "sda": {"device/wwid": "naa.5000c500a1b2c3d4\n", "device/serial": "unused"},
    "sdb": {"device/wwid": "t10.ATA     QEMU HARDDISK\n"},
    "nvme0n1": {"wwid": "nvme.1b36-31\n"},
    "vda": {"serial": "disk one\n"},
    "loop3": {"loop/backing_file": "/srv/a b.img\n"},
    "md0": {"md/uuid": "1b2c:3d\n"},
    "dm-0": {"dm/uuid": "mpath-3600a\n"},
    "dm-1": {"dm/uuid": "CRYPT-LUKS2-77-c\n"},
    "vdb": {},
}
IDS = {
    "sda": ("sys_wwid", "naa.5000c500a1b2c3d4"),
    "sdb": ("sys_wwid", "t10.ATA_____QEMU_HARDDISK"),
    "nvme0n1": ("sys_wwid", "nvme.1b36-31"),
    "vda": ("sys_serial", "disk_one"),
    "loop3": ("loop_file", "/srv/a_b.img"),
    "md0": ("md_uuid", "1b2c:3d"),
    "dm-0": ("mpath_uuid", "mpath-3600a"),
    "dm-1": ("crypt_uuid", "CRYPT-LUKS2-77-c"),
    "vdb": ("devname", "/dev/vdb"),
}


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """``/sys/class/block`` with a partition sda1."""
    links = tmp_path / "class"
    links.mkdir()
    for name, attributes in DISKS.items():
        folder = tmp_path / "devices" / name
        folder.mkdir(parents=True)
        for attribute, text in attributes.items():
            (folder / attribute).parent.mkdir(exist_ok=True)
            (folder / attribute).write_text(text)
        (links / name).symlink_to(folder)
    part = tmp_path / "devices" / "sda" / "sda1"
    part.mkdir()
    (part / "partition").write_text("1\n")
    (links / "sda1").symlink_to(part)
    return links


@pytest.mark.parametrize("name", IDS)
def test_the_identifier_that_is_entered(name: str, sysfs: Path) -> None:
    assert best_id(name, sysfs) == IDS[name]


def test_a_partition_has_its_disks_identifier_and_a_number(sysfs: Path) -> None:
    assert best_id("sda1", sysfs) == IDS["sda"]
    assert (partition_number("sda1", sysfs), partition_number("sda", sysfs)) == (1, 0)
    assert device_id("sda1", "sys_serial", sysfs) == "unused"
    assert device_id("dm-0", "crypt_uuid", sysfs) == ""
    assert device_id("gone", "sys_wwid", sysfs) == ""
