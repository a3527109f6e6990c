# SPDX-License-Identifier: Apache-2.0
"""Print files of a container or an image."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from lamella.cli.parsing import open_store

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
    with open_store(args, read_only=True) as store:
        name, first = (args.name, None) if args.path else store.place(args.name)
        with store.tree(name) as tree:
            for path in [first] if first is not None else map(os.fsencode, args.path):
                for piece in tree.read(path):
                    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0
