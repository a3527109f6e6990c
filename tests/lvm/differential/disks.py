# SPDX-License-Identifier: Apache-2.0
"""Loop devices and a folder of settings whose whole content can be kept and put back."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import missing
from tests.lvm.differential.programs import environment

SIZE = 512 << 20
"""Bytes of each disk; that of the disks in the archives of tests/fixtures."""
COUNT = 5
BLKFLSBUF = 0x1261
CONF = """\
global {{ activation=0 use_lvmpolld=0 locking_dir="{folder}/locks" }}
devices {{ use_devicesfile=0 hints="none" dir="/dev" scan=["/dev"] filter=[{accepted},"r|.*|"] }}
"""


@dataclass(frozen=True)
class Content:
    """All that is on the disks, as runs of bytes at offsets, and the files of the settings' folder."""

    disks: tuple[tuple[tuple[int, bytes], ...], ...]
    files: tuple[tuple[str, bytes], ...]


class Disks:
    """*COUNT* loop devices over files in *folder*, and ``etc`` there as LVM2's folder."""

    def __init__(self, folder: Path, count: int = COUNT) -> None:
        if os.geteuid() != 0 or shutil.which("losetup") is None:
            missing("a loop device (root and losetup)")
        self.folder = folder
        self.etc = folder / "etc"
        self.root = folder / "root"
        self.files = [folder / f"disk{number}" for number in range(count)]
        self.devices: list[str] = []
        (folder / "locks").mkdir()
        self.etc.mkdir()
        shared = Path("/etc/lvm/profile")
        if shared.is_dir():
            shutil.copytree(shared, self.etc / "profile")
        for path in self.files:
            with path.open("wb") as stream:
                stream.truncate(SIZE)
            done = subprocess.run(["losetup", "-f", "--show", str(path)], capture_output=True, text=True)
            if done.returncode:
                self.close()
                missing(f"a loop device ({done.stderr.strip()})")
            self.devices.append(done.stdout.strip())
        # LVM2 reads disks in the order of their numbers, and losetup gives any that is free.
        order = sorted(range(count), key=lambda at: int(self.devices[at].removeprefix("/dev/loop")))
        self.devices = [self.devices[at] for at in order]
        self.files = [self.files[at] for at in order]
        accepted = ",".join(f'"a|^{device}$|"' for device in self.devices)
        (self.etc / "lvm.conf").write_text(CONF.format(folder=folder, accepted=accepted))

    @property
    def around(self) -> dict[str, str]:
        """The environment of a command on these disks."""
        return environment(self.etc, self.root)

    def close(self) -> None:
        """Detach the loop devices."""
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=False)
        self.devices.clear()

    def content(self) -> Content:
        """What is on the disks and in the folder now."""
        files = sorted(path for path in self.etc.rglob("*") if path.is_file())
        return Content(
            tuple(_runs(path) for path in self.files),
            tuple((str(path.relative_to(self.etc)), path.read_bytes()) for path in files),
        )

    def put_back(self, content: Content, now: Content | None = None) -> None:
        """Make disks and folder what they were; *now*, if given, is what they are, and spares the rest."""
        for number, runs in enumerate(content.disks):
            if now is not None and now.disks[number] == runs:
                continue
            _write_runs(self.files[number], runs)
            with open(self.devices[number], "rb") as stream:
                fcntl.ioctl(stream, BLKFLSBUF)
        wanted = dict(content.files)
        for path in list(self.etc.rglob("*")):
            if path.is_file() and str(path.relative_to(self.etc)) not in wanted:
                path.unlink()
        for name, text in wanted.items():
            path = self.etc / name
            if not path.is_file() or path.read_bytes() != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)


def _runs(path: Path) -> tuple[tuple[int, bytes], ...]:
    found: list[tuple[int, bytes]] = []
    with path.open("rb") as stream:
        number, at = stream.fileno(), 0
        while True:
            try:
                start = os.lseek(number, at, os.SEEK_DATA)
            except OSError:
                return tuple(found)
            at = os.lseek(number, start, os.SEEK_HOLE)
            data = os.pread(number, at - start, start)
            if data.count(0) != len(data):
                found.append((start, data))


def _write_runs(path: Path, runs: tuple[tuple[int, bytes], ...]) -> None:
    with path.open("r+b") as stream:
        stream.truncate(0)
        stream.truncate(SIZE)
        for start, data in runs:
            os.pwrite(stream.fileno(), data, start)
