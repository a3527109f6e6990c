# SPDX-License-Identifier: Apache-2.0
"""Disks, LVM2 on them, devices and mounts for tests in the guest, all removed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

ROUNDS = int(os.environ.get("LAMELLA_ROUNDS", "3"))
"""Rounds of the tests that repeat."""


def run(*command: object, **variables: str) -> str:
    """The standard output of a command, run with *variables* in its environment; it has to succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1", **variables},
    )
    words = " ".join(str(word) for word in command)
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def wait_for(condition: Callable[[], bool], timeout: float = 60) -> bool:
    """Wait until *condition* holds; False after *timeout* seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def dmsetup(*arguments: object) -> str:
    """``dmsetup`` without waiting for udev, which takes most of the time under emulation."""
    return run("dmsetup", "--noudevrules", "--noudevsync", *arguments)


def node(name: str) -> str:
    """The kernel's own node of a device-mapper device, ``/dev/dm-N``."""
    return "/dev/dm-" + run("dmsetup", "info", "-c", "--noheadings", "-o", "minor", name).strip()


class Disk:
    """A loop device of a sparse file, and LVM2 restricted to it, with volume group *group*."""

    def __init__(self, path: Path, size: int, group: str) -> None:
        self.path, self.group = path, group
        with path.open("wb") as file:
            file.truncate(size)
        self.device = run("losetup", "--find", "--show", path).strip()

    def lvm(self, command: str, *arguments: object, config: str = "") -> str:
        """Run a command of the real LVM2, with more *config* if given."""
        config += (
            f' devices {{ filter=[ "a|^{self.device}$|", "r|.*|" ] use_devicesfile=0 }} '
            "activation { monitoring=0 } backup { backup=0 archive=0 }"
        )
        return run(command, "--config", config, *arguments)

    def close(self) -> None:
        """Deactivate what is on it and detach it."""
        with contextlib.suppress(AssertionError):
            self.lvm("vgchange", "-an", self.group)
        subprocess.run(["losetup", "--detach", self.device], check=False)
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def disk(path: Path, size: int, group: str) -> Iterator[Disk]:
    """A :class:`Disk` for as long as the block lasts. Its profile is removed with it."""
    with no_activation_by_events():
        made = Disk(path, size, group)
        try:
            yield made
        finally:
            made.close()
            for profile in Path("/etc/lvm/profile").glob(f"{group}-*"):
                profile.unlink()


@contextlib.contextmanager
def no_activation_by_events() -> Iterator[None]:
    """Disable LVM2's event-based activation of groups on loop devices."""
    local = Path("/etc/lvm/lvmlocal.conf")
    before = local.read_text() if local.exists() else ""
    local.write_text(f"{before}\nglobal {{ event_activation = 0 }}\n")
    try:
        yield
    finally:
        local.write_text(before)


@contextlib.contextmanager
def thin_device(pool: str, name: str, number: int, size: int) -> Iterator[str]:
    """Thin device *number* of the active *pool* as device *name*; gives its node."""
    dmsetup("create", name, "--table", f"0 {size // 512} thin {node(pool)} {number}")
    try:
        yield node(name)
    finally:
        dmsetup("remove", "--retry", name)


@contextlib.contextmanager
def mounted(device: str, folder: Path, *options: str) -> Iterator[Path]:
    """The ext4 file system on *device*, mounted at *folder*, which is created if missing."""
    folder.mkdir(exist_ok=True)
    run("mount", "-t", "ext4", *options, device, folder)
    try:
        yield folder
    finally:
        run("umount", folder)


def assert_same_tree(tar: Path, folder: Path) -> None:
    """GNU tar finds no difference between the archive *tar* and *folder*."""
    run("tar", "--compare", "--numeric-owner", "--file", tar, "--directory", folder)


def change_tree(folder: Path, chooser: random.Random, mark: str) -> None:
    """Create, change, move, link and delete files, as a container does."""
    place = folder / f"work-{mark}"
    place.mkdir(exist_ok=True)
    for number in range(40):
        (place / f"small-{number}").write_text(f"{mark} {number}\n" * chooser.randrange(1, 400))
    with (place / "large").open("wb") as file:
        piece = chooser.randbytes(1 << 20)
        for number in range(3):
            file.write(piece[number:] + piece[:number])
        file.seek(8 << 20)  # a hole
        file.write(b"the end")
    (place / "link").symlink_to("large")
    os.link(place / "large", place / "again")
    os.setxattr(place / "large", "user.mark", mark.encode())
    os.chown(place / "small-1", 1000, 1001)
    (place / "small-2").chmod(0o4751)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    old = [path for path in files if place not in path.parents]
    for path in chooser.sample(old, min(len(old), 12)):
        path.unlink()
    for path in chooser.sample(files, min(len(files), 6)):
        if path.exists():
            with path.open("ab") as file:
                file.write(chooser.randbytes(5000))
    os.replace(place / "small-0", place / "moved")
    earlier = sorted(folder.glob("work-*"))
    if len(earlier) > 2:
        shutil.rmtree(earlier[0])
