# SPDX-License-Identifier: Apache-2.0
"""Remove images: their names, and the layers that nothing else uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella rmi debian:12
"""
JSON = """\
untagged[]  names that were removed
deleted[]   ids of the images and layers that were removed
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="+", metavar="IMAGE")
    parser.add_argument("-f", "--force", action="store_true", help="even if containers were created from it")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    lines: list[str] = []
    with open_store(args) as store:
        for name in args.image:
            found = store.remove_image(name, force=args.force)
            lines += found
            for line in () if args.json else found:
                print(line)
    if args.json:
        from lamella.store.results import removal_as_dict

        print_json(removal_as_dict(lines))
    return 0
