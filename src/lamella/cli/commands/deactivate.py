# SPDX-License-Identifier: Apache-2.0
"""Deactivate the named containers in device-mapper, or all of the store with its pool and loop devices.

Nothing is deactivated while any of it is in use: the message says by whom. Afterwards the user engine can
open the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella deactivate
  lamella deactivate web
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", metavar="NAME", help="a container or an image")
    parser.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="first unmount what `lamella mount` mounted in the store's folder",
    )


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store

    for line in Store.deactivate(args.name, root=args.root, unmount=args.all, wait=args.wait):
        print(line)
    return 0
