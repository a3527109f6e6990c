# SPDX-License-Identifier: Apache-2.0
"""Records what the guest's kernel reads in a copy of a pool: each device's content, and each file in it."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.commands import attempt, dmsetup, run
from scripts.docker_stores.daemon import ROOT
from scripts.docker_stores.digests import PIECE, digest

if TYPE_CHECKING:
    from collections.abc import Iterator

MORE = 64 << 20
"""Bytes by which the copy of a pool is extended: the replay of a journal may need new chunks."""
POINT = Path("/mnt")
FEATURES = "2 skip_block_zeroing error_if_no_space"


def record(work: Path, dump: str, folder: Path, fs: str, base_size: int) -> None:
    """Write the files of *folder* about the pool with ``data`` and ``metadata`` in *work*, of which *dump* is
    thin_dump's output. These copies are changed."""
    folder.mkdir()
    names = _names()
    chunk = int(re.findall(r'data_block_size="(\d+)"', dump)[0])
    with _pool(work, chunk):
        (folder / "pool.txt").write_text(dmsetup("status", "--noflush", "truth-pool"))
    os.truncate(work / "data", (work / "data").stat().st_size + MORE)
    with _pool(work, chunk) as pool:
        for text in re.findall(r'<device dev_id="(\d+)"', dump):
            number = int(text)
            name, size = names.get(number, ("", base_size))
            dmsetup("create", "truth", "--table", f"0 {size >> 9} thin {pool} {number}")
            node = _node("truth")
            (folder / f"{number}.sha256").write_text(f"{_digest(node)}\n")
            blkid = attempt("blkid", "-p", node).stdout
            status = dmsetup("status", "truth")
            (folder / f"{number}.blkid").write_text(f"{blkid}{status}name={name}\n")
            if blkid:
                options = ["-o", "nouuid"] if fs == "xfs" else []
                run("mount", "-t", fs, *options, node, POINT)
                lines = [json.dumps(row, sort_keys=True) + "\n" for row in manifest(POINT)]
                (folder / f"{number}.manifest.jsonl").write_text("".join(lines))
                run("umount", POINT)
            dmsetup("remove", "--retry", "truth")


def _names() -> dict[int, tuple[str, int]]:
    """Docker's name and size (bytes) of each thin device."""
    found = {}
    for path in (ROOT / "devicemapper/metadata").iterdir():
        kept = json.loads(path.read_text())
        if "size" in kept:
            found[kept["device_id"]] = (path.name, kept["size"])
    return found


def _node(name: str) -> str:
    """The device node that the kernel makes."""
    return "/dev/dm-" + dmsetup("info", "-c", "--noheadings", "-o", "minor", name).strip()


@contextmanager
def _pool(work: Path, chunk: int) -> Iterator[str]:
    """Activate the copy of a pool in *work* with chunks of *chunk* sectors; gives its node."""
    nodes = [run("losetup", "-f", "--show", work / half).strip() for half in ("metadata", "data")]
    sectors = (work / "data").stat().st_size >> 9
    table = f"0 {sectors} thin-pool {' '.join(nodes)} {chunk} 0 {FEATURES}"
    dmsetup("create", "truth-pool", "--table", table)
    try:
        yield _node("truth-pool")
    finally:
        dmsetup("remove", "--retry", "truth-pool")
        for node in nodes:
            run("losetup", "-d", node)


def _digest(node: str) -> str:
    """The digest of a device, read with O_DIRECT: through the page cache it takes ten times as long."""
    descriptor = os.open(node, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, PIECE) as buffer, memoryview(buffer) as view, os.fdopen(descriptor, "rb", 0) as file:

        def pieces() -> Iterator[memoryview]:
            while count := file.readinto(view):
                with view[:count] as piece:
                    yield piece

        return digest(pieces())


def manifest(top: Path) -> Iterator[dict[str, Any]]:
    """A row for *top* and every name below it, a folder before its content; times in nanoseconds."""
    root = os.fsencode(top)
    todo = [b""]
    while todo:
        path = todo.pop()
        yield _described(root + path, path or b"/")
        if stat.S_ISDIR(os.lstat(root + path).st_mode):
            todo.extend(path + b"/" + name for name in sorted(os.listdir(root + path), reverse=True))


def _described(where: bytes, path: bytes) -> dict[str, Any]:
    status = os.lstat(where)
    row: dict[str, Any] = {
        "path": os.fsdecode(path), "mode": oct(status.st_mode), "ino": status.st_ino,
        "nlink": status.st_nlink, "uid": status.st_uid, "gid": status.st_gid, "mtime": status.st_mtime_ns,
    }  # fmt: skip
    names = os.listxattr(where, follow_symlinks=False)
    if names:
        row["xattrs"] = {name: os.getxattr(where, name, follow_symlinks=False).hex() for name in names}
    if stat.S_ISREG(status.st_mode):
        row["size"] = status.st_size
        with open(where, "rb") as file:
            row["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        row["target"] = os.fsdecode(os.readlink(where))
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        row["rdev"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    return row
