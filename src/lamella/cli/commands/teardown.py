# SPDX-License-Identifier: Apache-2.0
"""Remove the store: all images and containers in it, and what setup created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella teardown --force
"""
JSON = """\
root    the store's folder
left[]  what could not be removed, in words
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="even if it has images or containers")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store
    from lamella.store.root import Root

    left = Store.abandon(args.root, wait=args.wait)
    root = Root.at(args.root).path
    if left is None:
        with open_store(args) as store:
            left = store.teardown(force=args.force)
    if args.json:
        print_json({"root": str(root), "left": left})
        return 0
    print(f"Removed the store in {root}.")
    for remark in left:
        print(f"Left: {remark}")
    return 0
