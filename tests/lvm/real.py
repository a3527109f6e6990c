# SPDX-License-Identifier: Apache-2.0
"""The real LVM2 as judge, on loop devices and without device-mapper (``global/activation=0``)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.lvm.disks.scan import scan
from lamella.lvm.format.group_writer import Header, write_compact, write_readable
from lamella.lvm.session.environment import Environment
from lamella.lvm.session.session import Session
from tests.conftest import missing

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.lvm.format.model import VolumeGroup

NOISE = ("Activation disabled", "NOT backed up", "Skipping zeroing")


@dataclass
class RealLvm:
    """Some loop devices, and LVM2 commands that see nothing else."""

    devices: list[str]
    files: list[Path]
    extra: str = ""
    """Further configuration."""

    @property
    def config(self) -> str:
        accepted = ", ".join(f'"a|^{device}$|"' for device in self.devices)
        return (
            f'global {{ activation=0 }} devices {{ filter=[ {accepted}, "r|.*|" ] use_devicesfile=0 '
            'hints="none" pv_min_size=512 } backup { backup=0 archive=0 } ' + self.extra
        )

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command; its exit code is the caller's to look at."""
        return subprocess.run(
            [command, "--config", self.config, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
        )

    def ok(self, command: str, *arguments: str) -> str:
        """One command that has to succeed; what it prints."""
        result = self.run(command, *arguments)
        assert result.returncode == 0, (command, arguments, result.stdout, result.stderr)
        return result.stdout

    def complaints(self, result: subprocess.CompletedProcess[str]) -> list[str]:
        lines = [line.strip() for line in result.stderr.splitlines()]
        return [line for line in lines if line and not any(noise in line for noise in NOISE)]

    def backup(self, group: str, folder: Path) -> str:
        """The group as vgcfgbackup writes it, from the group's own section on."""
        target = folder / "backup"
        self.ok("vgcfgbackup", "-f", str(target), group)
        return own_section(target.read_text())

    def session(self) -> Session:
        return Session(self.devices, Environment(command_line="test", pv_min_size=512 << 10))

    def close(self) -> None:
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=False)


def start(folder: Path, count: int, size: int) -> RealLvm:
    """*count* empty loop devices of *size* bytes; skips where they or LVM2 are not to be had."""
    for tool in ("pvs", "losetup"):
        if shutil.which(tool) is None:
            missing(f"the program {tool}")
    if os.geteuid() != 0:
        missing("root, which loop devices need,")
    devices: list[str] = []
    files: list[Path] = []
    for number in range(count):
        path = folder / f"disk{number}.img"
        with path.open("wb") as stream:
            stream.truncate(size)
        made = subprocess.run(
            ["losetup", "-f", "--show", str(path)], capture_output=True, text=True, check=False
        )
        if made.returncode:
            RealLvm(devices, files).close()
            missing("a loop device")
        devices.append(made.stdout.strip())
        files.append(path)
    # LVM2 reads disks in the order of their numbers, and what it says of damage depends on the order;
    # losetup gives any free number when other tests use loop devices too.
    order = sorted(range(count), key=lambda at: int(devices[at].removeprefix("/dev/loop")))
    return RealLvm([devices[at] for at in order], [files[at] for at in order])


def own_section(text: str) -> str:
    """A backup without its header."""
    return text[text.index("\n\n", text.index("creation_time")) + 2 :]


def readable(group: VolumeGroup) -> str:
    """What :func:`own_section` gives of our own backup."""
    return own_section(write_readable(group, Header("", "host", "", 1)))


def normal(devices: list[str]) -> str:
    """The only group on the devices as text, without what differs between two runs of the same commands."""
    found = scan(devices)
    try:
        if not found.groups:
            return ""
        text = write_compact(found.groups[0].group, Header("", "", "", 0))
    finally:
        found.close()
    text = re.sub(r'id = "[^"]*"', "id", text)
    text = re.sub(r"creation_time = \d+|creation_host = .*", "", text)
    for number, device in enumerate(devices):
        text = text.replace(f'"{device}"', f"disk{number}")
    return text


def agree(lvm: RealLvm, folder: Path, name: str = "vg") -> None:
    """LVM2 accepts the group, and both of us write down the same."""
    checked = lvm.run("vgck", name)
    assert checked.returncode == 0, checked.stderr
    assert lvm.complaints(checked) == []
    found = scan(lvm.devices)
    assert [str(notice) for notice in found.all_notices()] == []
    own = readable(next(each.group for each in found.groups if each.group.name == name))
    found.close()
    assert own == lvm.backup(name, folder)
