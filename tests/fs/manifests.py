# SPDX-License-Identifier: Apache-2.0
"""A file tree as a list of plain rows, of what a kernel saw and of what our readers see.

A row has a file's type and mode, owner, time, size, the digest of its bytes, its target, device numbers and
attributes; a further name of a file has only the name that came first.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any

from lamella.fs.entry import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamella.fs.reader import TreeReader

    Rows = dict[str, dict[str, Any]]

TYPES = {kind: bits for bits, kind in KINDS.items()}


def read(reader: TreeReader[Any]) -> Rows:
    """What one of our readers sees."""
    rows: Rows = {}
    for entry in reader.walk():
        path = "/" + os.fsdecode(entry.path)
        if entry.kind is Kind.HARDLINK:
            rows[path] = {"first": "/" + os.fsdecode(entry.target)}
            continue
        row: dict[str, Any] = {
            "mode": oct(TYPES[entry.kind] | entry.mode), "uid": entry.uid, "gid": entry.gid,
            "mtime": entry.mtime_ns,
        }  # fmt: skip
        if entry.xattrs:
            row["xattrs"] = {os.fsdecode(name): value.hex() for name, value in entry.xattrs.items()}
        if entry.kind is Kind.FILE:
            row |= {"size": entry.size, "sha256": _digest(reader.read(entry.path))}
        elif entry.kind is Kind.SYMLINK:
            row["target"] = os.fsdecode(entry.target)
        elif entry.kind in (Kind.CHAR, Kind.BLOCK):
            row["rdev"] = [entry.major, entry.minor]
        rows[path] = row
    return rows


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def recorded(manifest: Rows) -> Rows:
    """The same of a store's manifest, whose rows have inode numbers and numbers of links."""
    rows: Rows = {}
    first: dict[int, str] = {}
    for path, row in manifest.items():
        if path == "/lost+found":
            continue
        kept = {key: value for key, value in row.items() if key not in ("ino", "nlink")}
        if row["nlink"] > 1 and not stat.S_ISDIR(int(row["mode"], 8)):
            met = first.setdefault(row["ino"], path)
            if met != path:
                kept = {"first": met}
        rows[path] = kept
    return rows
