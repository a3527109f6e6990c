# SPDX-License-Identifier: Apache-2.0
"""A file tree as a dictionary: of a mounted file system, and of its device through our reader."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from lamella.fs.entry import KINDS, Entry, Kind

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.store.tree import Tree

Found = dict[bytes, tuple[object, ...]]
"""Path to kind, mode, owner, group, modification time, size, digest, target and extended attributes."""


def of_mount(folder: Path) -> Found:
    """The tree below a mount; further hard links of a file name its first path in order."""
    found: Found = {}
    first: dict[int, bytes] = {}
    top = os.fsencode(folder)
    for path in [top, *sorted(_below(top), key=lambda path: path.split(b"/"))]:
        status = os.lstat(path)
        name = path[len(top) + 1 :]
        kind, size, digest, target = KINDS[stat.S_IFMT(status.st_mode)], 0, "", b""
        if kind is not Kind.DIRECTORY and status.st_nlink > 1:
            if status.st_ino in first:
                found[name] = (Kind.HARDLINK, first[status.st_ino])
                continue
            first[status.st_ino] = name
        if kind is Kind.FILE:
            size = status.st_size
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        elif kind is Kind.SYMLINK:
            target = os.readlink(path)
        xattrs = {
            os.fsencode(key): os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (
            *(kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns),
            *(size, digest, target, xattrs),
        )
    return found


def of_store(tree: Tree) -> Found:
    """The tree of our reader, in the same form."""
    found: Found = {}
    for entry in tree.walk():
        if entry.kind is Kind.HARDLINK:
            found[entry.path] = (Kind.HARDLINK, entry.target)
        else:
            found[entry.path] = _facts(tree, entry)
    return found


def _facts(tree: Tree, entry: Entry) -> tuple[object, ...]:
    digest = ""
    if entry.kind is Kind.FILE:
        summed = hashlib.sha256()
        for piece in tree.read(b"/" + entry.path):
            summed.update(piece)
        digest = summed.hexdigest()
    return (
        *(entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime_ns),
        *(entry.size, digest, entry.target, entry.xattrs),
    )


def _below(folder: bytes) -> list[bytes]:
    paths = []
    for root, folders, files in os.walk(folder):
        if root == folder:
            folders.remove(b"lost+found")  # the file system's own
        paths += [os.path.join(root, name) for name in [*folders, *files]]
    return paths
