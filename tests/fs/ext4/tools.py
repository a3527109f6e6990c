# SPDX-License-Identifier: Apache-2.0
"""Oracles for the ext4 tests: e2fsck, kernel mounts on loop devices, and trees as plain values."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.fs.ext4.make import make_ext4
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
GIB = 1 << 30


def make_image(path: Path, size: int = 256 * MIB, *arguments: str, prezeroed: bool = True) -> Path:
    """A sparse file with a fresh file system of ours in it."""
    with FileDevice.create(path, size) as device:
        make_ext4(device, mkfs_args=arguments, prezeroed=prezeroed)
    return path


def fsck(image: Path) -> None:
    """Fail unless e2fsck finds nothing to do, not even a directory to optimise."""
    program = shutil.which("e2fsck")
    if program is None:
        missing("the program e2fsck")
    done = subprocess.run([str(program), "-fn", str(image)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for word in ("Pass 3A", "Optimizing", "Fix", "Clear", "optimize"):
        assert word not in said, said


def debugfs(tool: Callable[[str], str], image: Path, request: str) -> None:
    """Change the file system in *image* by a request of the real debugfs."""
    subprocess.run([tool("debugfs"), "-w", "-R", request, str(image)], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether this machine lets us loop-mount ext4."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which("mount") is not None


@contextmanager
def mounted(image: Path, *, read_only: bool = True) -> Iterator[Path]:
    """The image, mounted by the kernel; skips where that cannot be."""
    if not can_mount():
        pytest.skip("mounting needs root and loop devices, which are not here")
    where = image.with_name(image.name + ".mnt")
    where.mkdir(exist_ok=True)
    option = "loop,ro" if read_only else "loop"
    done = subprocess.run(
        ["mount", "-t", "ext4", "-o", option, str(image), str(where)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and ("loop device" in done.stderr or "unknown filesystem" in done.stderr):
        pytest.skip(f"no loop mount here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    try:
        yield where
    finally:
        unmount(where, image)


def unmount(where: Path, image: Path) -> None:
    """Unmount a loop mount, and wait until the kernel has let go of the image, which it writes until then.

    A namespace that another test made meanwhile keeps a mount of its own until it ends.
    """
    subprocess.run(["umount", str(where)], check=True)
    end = time.monotonic() + 60
    while subprocess.run(["losetup", "-j", str(image)], capture_output=True, check=True).stdout:
        assert time.monotonic() < end, f"{image} is still mounted somewhere"
        time.sleep(0.02)


@dataclass(frozen=True)
class Node:
    """Everything about a name that must come out alike."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    rdev: int
    links: int
    target: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    digest: str
    holes: tuple[int, ...]


def tree_of(root: Path, *, times: bool = True) -> dict[bytes, Node]:
    """All names below *root* (itself as ``b"."``), lost+found left out."""
    start = os.fsencode(root)
    found: dict[bytes, Node] = {}
    waiting = [b"."]
    while waiting:
        path = waiting.pop()
        full = os.path.join(start, path)
        found[path] = _node(full, times)
        if stat.S_ISDIR(found[path].mode):
            names = set(os.listdir(full)) - ({b"lost+found"} if path == b"." else set())
            waiting.extend(os.path.join(path, name) for name in names)
    return found


def names(root: Path) -> set[str]:
    """Paths below *root*, without lost+found."""
    return {os.fsdecode(path)[2:] for path in tree_of(root) if path != b"."}


def _node(full: bytes, times: bool) -> Node:
    info = os.lstat(full)
    is_file = stat.S_ISREG(info.st_mode)
    is_directory = stat.S_ISDIR(info.st_mode)
    names = sorted(os.listxattr(full, follow_symlinks=False))
    digest = ""
    holes: tuple[int, ...] = ()
    if is_file:
        digest, holes = _content(full, info.st_size)
    return Node(
        mode=info.st_mode,
        uid=info.st_uid,
        gid=info.st_gid,
        mtime_ns=info.st_mtime_ns if times else 0,
        size=0 if is_directory else info.st_size,
        rdev=info.st_rdev,
        links=info.st_nlink,
        target=os.readlink(full) if stat.S_ISLNK(info.st_mode) else b"",
        xattrs=tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in names),
        digest=digest,
        holes=holes,
    )


def _content(full: bytes, size: int) -> tuple[str, tuple[int, ...]]:
    """Digest of the stored pieces, and where these begin and end."""
    digest = hashlib.sha256()
    edges: list[int] = []
    descriptor = os.open(full, os.O_RDONLY)
    try:
        at = 0
        while at < size:
            try:
                start = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError:
                break
            stop = os.lseek(descriptor, start, os.SEEK_HOLE)
            edges += [start, stop]
            os.lseek(descriptor, start, os.SEEK_SET)
            left = stop - start
            while left:
                data = os.read(descriptor, min(left, MIB))
                digest.update(data)
                left -= len(data)
            at = stop
    finally:
        os.close(descriptor)
    return digest.hexdigest(), tuple(edges)
