# SPDX-License-Identifier: Apache-2.0
"""List files in a container or an image."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from lamella.cli.output import exact_name, nanosecond_time, print_json, show_name
from lamella.cli.parsing import add_json, open_store
from lamella.fs.entry import TYPE_BITS, Kind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from lamella.fs.entry import Entry
    from lamella.store import Store
    from lamella.store.tree import Tree

EXAMPLE = """\
example:
  lamella ls -l web:/etc
  lamella ls web /etc
"""
JSON = """\
[].path      the path inside
[].kind      "file", "directory", "symlink", "hardlink", "char", "block", "fifo" or "socket"
[].mode      permissions, four octal digits
[].uid       the owner's number
[].gid       the group's number
[].size      bytes
[].modified  when it was last changed, RFC 3339 with nine digits of the second
[].target    where a symlink leads; null for others
[].device[]  a device's major and minor number; null for others
[].xattrs.*  extended attributes, values in hexadecimal
"""


_TYPE_BITS = {**TYPE_BITS, Kind.HARDLINK: stat.S_IFREG}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME[:PATH]", help="a container or an image")
    parser.add_argument("path", nargs="?", metavar="PATH", help="default: /")
    parser.add_argument("-l", action="store_true", dest="long", help="mode, owner, size, time, target")
    parser.add_argument("-R", action="store_true", dest="recursive", help="recursively, with whole paths")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store, _opened(store, args) as (tree, path):
        entries = tree.walk(path) if args.recursive else tree.ls(path)
        if args.json:
            print_json([_as_dict(entry) for entry in entries])
            return 0
        for entry in entries:
            shown = show_name(entry.path if args.recursive else os.path.basename(entry.path))
            print(_long(entry, shown) if args.long else shown)
    return 0


@contextmanager
def _opened(store: Store, args: argparse.Namespace) -> Iterator[tuple[Tree, bytes]]:
    name, path = store.place(args.name) if args.path is None else (args.name, os.fsencode(args.path))
    with store.tree(name) as tree:
        yield tree, path


def _as_dict(entry: Entry) -> dict[str, object]:
    return {
        "path": "/" + exact_name(entry.path),
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "modified": nanosecond_time(entry.mtime_ns),
        "target": exact_name(entry.target) if entry.target else None,
        "device": [entry.major, entry.minor] if entry.kind in (Kind.CHAR, Kind.BLOCK) else None,
        "xattrs": {exact_name(key): value.hex() for key, value in entry.xattrs.items()},
    }


def _long(entry: Entry, shown: str) -> str:
    mode = stat.filemode(_TYPE_BITS[entry.kind] | entry.mode)
    size = f"{entry.major}, {entry.minor}" if entry.kind in (Kind.CHAR, Kind.BLOCK) else str(entry.size)
    moment = datetime.fromtimestamp(entry.mtime_ns // 10**9).strftime("%Y-%m-%d %H:%M")
    arrow = f" -> {show_name(entry.target)}" if entry.kind is Kind.SYMLINK else ""
    return f"{mode} {entry.uid:>5} {entry.gid:>5} {size:>10} {moment} {shown}{arrow}"
