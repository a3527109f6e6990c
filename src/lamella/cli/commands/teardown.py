# SPDX-License-Identifier: Apache-2.0
"""Remove the store: all images and containers in it, and what setup created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.parsing import open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella teardown --force
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="even if it has images or containers")


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store
    from lamella.store.root import Root

    left = Store.abandon(args.root, wait=args.wait)
    root = Root.at(args.root).path
    if left is None:
        with open_store(args) as store:
            left = store.teardown(force=args.force)
    print(f"Removed the store in {root}.")
    for remark in left:
        print(f"Left: {remark}")
    return 0
