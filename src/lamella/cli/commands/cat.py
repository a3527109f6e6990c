# SPDX-License-Identifier: Apache-2.0
"""Print files of a container or an image."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.parsing import name_and_path, open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella cat web:/etc/hostname
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME[:PATH]", help="a container or an image")
    parser.add_argument("path", nargs="*", metavar="PATH")


def run(args: argparse.Namespace) -> int:
    name, first = name_and_path(args.name, args.path[0] if args.path else None)
    paths = [first, *(path.encode("utf-8", "surrogateescape") for path in args.path[1:])]
    with open_store(args, read_only=True) as store, store.tree(name) as tree:
        for path in paths:
            for piece in tree.read(path):
                sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0
