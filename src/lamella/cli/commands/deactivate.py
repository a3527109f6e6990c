# SPDX-License-Identifier: Apache-2.0
"""Deactivate the named containers in device-mapper, or all of the store with its pool and loop devices.

Nothing is deactivated while any of it is in use: the message says by whom. Afterwards the user engine can
open the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella deactivate
  lamella deactivate web
"""
JSON = """\
done[]  what was done, in words
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", metavar="NAME", help="a container or an image")
    parser.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="first unmount what `lamella mount` mounted in the store's folder",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store

    done = Store.deactivate(args.name, root=args.root, unmount=args.all, wait=args.wait)
    if args.json:
        print_json({"done": done})
        return 0
    for line in done:
        print(line)
    return 0
