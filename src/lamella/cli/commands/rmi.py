# SPDX-License-Identifier: Apache-2.0
"""Remove images: their names, and the layers that nothing else uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.parsing import open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella rmi debian:12
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="+", metavar="IMAGE")
    parser.add_argument("-f", "--force", action="store_true", help="even if containers were created from it")


def run(args: argparse.Namespace) -> int:
    with open_store(args) as store:
        for name in args.image:
            for line in store.remove_image(name, force=args.force):
                print(line)
    return 0
