# SPDX-License-Identifier: Apache-2.0
"""Trees to test with: made on the host with everything a layer can carry, and read back from there."""

from __future__ import annotations

import os
import random
import stat
import struct
import subprocess
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.fs.entry import KINDS, Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ROOT = os.geteuid() == 0
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""``cap_net_raw=ep`` as ``security.capability`` has it."""
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 7, 0xFFFFFFFF),
        (2, 6, 1000),
        (2, 5, 70000),
        (4, 5, 0xFFFFFFFF),
        (16, 7, 0xFFFFFFFF),
        (32, 4, 0xFFFFFFFF),
    )
)


def make_rich_tree(top: Path, *, large: bool = True, far: bool = False) -> None:
    """Fill an empty folder with every kind of thing, some of it only as root."""
    root = os.fsencode(top)

    def put(name: bytes, data: bytes = b"", mode: int = 0o644) -> bytes:
        path = root + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
        return path

    generator = random.Random(7)
    put(b"empty")
    put(b"small", b"hello\n")
    put(b"bin/tool", generator.randbytes(70_000), 0o4755)
    put(b"bin/other", generator.randbytes(4096), 0o2711)
    put(b"one-block", generator.randbytes(4096))
    put("späße/größe".encode(), b"utf-8 name")
    put(b"latin/caf\xe9-\xff\x01", b"name in no encoding")
    put(b"n" * 255, b"longest name")
    put(b"/".join([b"deep" * 20] * 8) + b"/leaf", b"far down")
    put(b"a-b", b"sorts between a and a/x")
    put(b"a/x", b"x")
    if large:
        put(b"large", generator.randbytes(3 << 20) + bytes(1 << 20) + generator.randbytes(12_345))
    for number in range(300):
        put(b"many/%03d-%s" % (number, b"y" * (number % 60)), b"%d" % number)
    os.symlink(b"small", root + b"/short-link")
    os.symlink(b"/" + b"t" * 200 + b"/" + b"u" * 200, root + b"/long-link")
    os.symlink(b"x" * 60, root + b"/link-of-60")
    os.symlink(b"x" * 59, root + b"/link-of-59")
    os.symlink(b"../../../outside", root + b"/a/up")
    os.mkfifo(root + b"/fifo", 0o600)
    os.link(root + b"/small", root + b"/a/second-name")
    os.link(root + b"/small", root + b"/zz-third-name")
    os.mkdir(root + b"/sticky")
    os.chmod(root + b"/sticky", 0o1777)
    sparse = put(b"sparse")
    with open(sparse, "r+b") as file:
        for offset in (0, 1 << 20, (5 << 20) + 4096):
            file.seek(offset)
            file.write(generator.randbytes(8192))
        file.truncate(8 << 20)
    hole = put(b"only-a-hole")
    os.truncate(hole, 1 << 20)
    marked = put(b"marked", b"with attributes")
    many = put(b"many-attributes")
    attributes = [
        (marked, b"user.comment", b"plain \x00\xff bytes"),
        (marked, b"user.empty", b""),
        *((many, b"user.number%d" % number, b"v" * number * 3) for number in range(12)),
        (root + b"/a", b"user.on-directory", b"yes"),
    ]
    if ROOT:
        attributes += [
            (root + b"/bin/tool", b"security.capability", CAPABILITY),
            (root + b"/bin/tool", b"trusted.overlay.opaque", b"y"),
            (root + b"/one-block", b"system.posix_acl_access", ACL),
            (root + b"/sticky", b"system.posix_acl_default", ACL),
        ]
    # A folder in a container may refuse any of these; the tree then has less in it.
    for where, name, value in attributes:
        with suppress(OSError):
            os.setxattr(where, name, value)
    if ROOT:
        with suppress(OSError):
            os.mknod(root + b"/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            os.mknod(root + b"/large-numbers", 0o660 | stat.S_IFBLK, os.makedev(300, 70_000))
        with suppress(OSError):
            os.chown(root + b"/small", 1000, 100)
            os.chown(root + b"/sticky", 3_000_000_000, 4_000_000_000)
        os.chmod(root + b"/sticky", 0o1777)
    for number, where in enumerate(sorted(_all_paths(root), reverse=True)):
        # mke2fs takes over neither fractions nor the bits beyond 2038, so only *far* times have them.
        seconds = (-86_400, 1_000_000_000, 1_700_000_000, 4_000_000_000 if far else 0)[number % 4] + number
        moment = seconds * 1_000_000_000 + (123_456_789 + number if far else 0)
        os.utime(where, ns=(moment, moment), follow_symlinks=False)


def _all_paths(top: bytes) -> Iterable[bytes]:
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            yield folder + b"/" + name
    yield top


def host_entries(top: Path | bytes) -> list[Entry]:
    """The tree under a folder as the reader walks one: directories first, names in order of bytes."""
    root = os.fsencode(top)
    seen: dict[tuple[int, int], bytes] = {}
    found: list[Entry] = []

    def visit(path: bytes) -> None:
        where = root + b"/" + path if path else root
        status = os.lstat(where)
        kind = KINDS[stat.S_IFMT(status.st_mode)]
        entry = Entry(
            path, kind, status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns,
            xattrs={
                os.fsencode(name): os.getxattr(where, name, follow_symlinks=False)
                for name in os.listxattr(where, follow_symlinks=False)
            },
        )  # fmt: skip
        if kind is Kind.FILE:
            entry.size = status.st_size
        elif kind is Kind.SYMLINK:
            entry.target = os.readlink(where)
        elif kind in (Kind.CHAR, Kind.BLOCK):
            entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if kind is not Kind.DIRECTORY and status.st_nlink > 1:
            first = seen.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                entry.kind, entry.target, entry.size = Kind.HARDLINK, first, 0
        found.append(entry)
        if kind is Kind.DIRECTORY:
            for name in sorted(os.listdir(where)):
                if path or name != b"lost+found":
                    visit(path + b"/" + name if path else name)

    visit(b"")
    return found


def plain(entries: Iterable[Entry], *, whole_seconds: bool = False) -> list[Entry]:
    """Entries without their sparse maps, which tell how bytes are stored and not which they are."""
    return [
        replace(
            entry,
            data=None,
            mtime_ns=entry.mtime_ns // 1_000_000_000 * 1_000_000_000 if whole_seconds else entry.mtime_ns,
        )
        for entry in entries
    ]


def by_path(entries: Iterable[Entry]) -> dict[bytes, Entry]:
    """Entries by path, for readable comparisons."""
    return {entry.path: entry for entry in entries}


def make_ext4(image: Path, top: Path, *arguments: str, size: str = "64M") -> None:
    """An image that the real ``mke2fs -d`` fills from a folder."""
    with open(image, "wb") as file:
        file.truncate(1)
    command = ["mke2fs", "-q", "-F", *arguments, "-d", os.fspath(top), os.fspath(image), size]
    subprocess.run(command, check=True, capture_output=True)
