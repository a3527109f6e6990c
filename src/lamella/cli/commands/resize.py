# SPDX-License-Identifier: Apache-2.0
"""Extend a container's file system, also while it is mounted. It cannot be reduced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella resize web 20G
  lamella resize web +5G
"""
JSON = """\
name  the container, as it was given
size  bytes of its file system
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("size", metavar="SIZE", help="the new size; with a plus sign: an increment")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.units import human_size, parse_size

    more = args.size.startswith("+")
    with open_store(args) as store:
        size = store.resize(args.container, parse_size(args.size.removeprefix("+")), more=more)
    if args.json:
        print_json({"name": args.container, "size": size})
        return 0
    print(f"{args.container} has {human_size(size)} now.")
    return 0
