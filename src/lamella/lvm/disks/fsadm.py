# SPDX-License-Identifier: Apache-2.0
"""Resize the file system on an active volume with its own tools, as ``--resizefs`` asks.

ext2 to ext4 grow mounted or not, and shrink when they are not mounted; XFS only grows, and only while it is
mounted. The output of the tools is passed through.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import mountinfo, programs
from lamella.errors import BusyError, CorruptError, LamellaError, MissingError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

EXT = ("ext2", "ext3", "ext4")
PACKAGES = {"resize2fs": "e2fsprogs", "e2fsck": "e2fsprogs", "xfs_growfs": "xfsprogs"}
REPAIRED = 1
"""e2fsck's exit code, from 2 on, says that something is left to do."""
MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What is on the volume's *node* (``/dev/mapper/VG-LV``)."""

    node: str
    kind: str
    mounted_on: str = ""
    """One of the places where it is mounted; "" for none."""


def find_file_system(node: str) -> FileSystem:
    """The file system on the volume. Raises :class:`UnsupportedError` for none, or one that is not resized
    here.
    """
    from lamella.block.file import FileDevice
    from lamella.lvm.disks.signatures import find_signatures

    device = FileDevice(node, read_only=True, lock=False)
    try:
        kinds = [each.type for each in find_signatures(device) if each.usage == "filesystem"]
    finally:
        device.close()
    kind = kinds[0] if kinds else ""
    if kind not in (*EXT, "xfs"):
        what = f'Filesystem "{kind}" on device' if kind else "No file system on device"
        raise UnsupportedError(f'{what} "{node}" that can be resized.', hint="leave --resizefs out")
    return FileSystem(node, kind, mounted_on(node))


def mounted_on(node: str) -> str:
    """Where the device is mounted in our mount namespace, "" if it is not."""
    number = os.stat(node).st_rdev
    wanted = os.major(number), os.minor(number)
    for mount in mountinfo.parse(MOUNTS.read_bytes()):
        if (mount.major, mount.minor) == wanted:
            return mount.point
    return ""


def check(found: FileSystem) -> None:
    """Run fsck on it, unless it is mounted, or XFS. Raises :class:`CorruptError`.

    resize2fs asks for it on a file system that was mounted since the last check.
    """
    if found.mounted_on or found.kind == "xfs":
        return
    if _run([_tool("e2fsck"), "-f", "-p", found.node]) > REPAIRED:
        raise CorruptError("Filesystem check failed.", hint=f"e2fsck -f {found.node}")


def grow(found: FileSystem) -> None:
    """Grow it to the size of its volume."""
    if found.kind == "xfs":
        _grow_xfs(found)
    elif _run([_tool("resize2fs"), found.node]):
        raise LamellaError("Filesystem resize failed.", hint=f"resize2fs {found.node}")


def _grow_xfs(found: FileSystem) -> None:
    words = [_tool("xfs_growfs")]
    if found.mounted_on:
        done = _run([*words, found.mounted_on])
    else:
        with tempfile.TemporaryDirectory(prefix="lamella-") as place:
            if _run(["mount", "-t", "xfs", "-o", "nouuid", found.node, place]):
                raise LamellaError("Filesystem resize failed.", hint=f"mount {found.node} and xfs_growfs it")
            try:
                done = _run([*words, place])
            finally:
                _run(["umount", place])
    if done:
        raise LamellaError("Filesystem resize failed.", hint=f"xfs_growfs {found.mounted_on or found.node}")


def shrink(found: FileSystem, size: int, *, confirm: Callable[[str], bool]) -> None:
    """Shrink it to *size* bytes. A mounted one is unmounted for it, after asking, and mounted again."""
    if found.kind == "xfs":
        raise UnsupportedError("Xfs filesystem shrinking is unsupported.", hint="copy it to a smaller volume")
    place = found.mounted_on
    if place:
        if not confirm(f'Do you want to unmount "{place}" ? [Y|n] '):
            raise BusyError(f'Cannot proceed with mounted filesystem "{place}".', hint=f"umount {place}")
        if _run(["umount", place]):
            raise BusyError(f"cannot unmount {place}", hint=f"see what uses it: fuser -vm {place}")
    try:
        if place:
            check(FileSystem(found.node, found.kind))
        if _run([_tool("resize2fs"), found.node, f"{size // 1024}K"]):
            raise LamellaError("Filesystem resize failed.", hint=f"resize2fs {found.node}")
    finally:
        if place:
            _run(["mount", found.node, place])


def _tool(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        raise MissingError(f"{name} is not installed", hint=f"it is in the package {PACKAGES[name]}")
    return path


def _run(words: list[str]) -> int:
    sys.stdout.flush()
    return programs.run(words, stdin=subprocess.DEVNULL).returncode
