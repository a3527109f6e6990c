# SPDX-License-Identifier: Apache-2.0
"""Mount a container, or an image read-only, and print the mount point. Needs root and the kernel's engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_with_kernel_engine

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella mount web
  lamella mount web /srv/web -o noatime
"""
JSON = """\
mounted  the mount point
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a container or an image")
    parser.add_argument(
        "folder", nargs="?", metavar="DIR", help="mount point (default: mnt/ID in the store's folder)"
    )
    parser.add_argument("-r", "--read-only", action="store_true", help="mount read-only; images always are")
    parser.add_argument(
        "-o",
        dest="options",
        action="append",
        default=[],
        metavar="OPTIONS",
        help="as for mount(8); added to dm.mountopt",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_with_kernel_engine(args) as store:
        where = store.mount(args.name, args.folder, read_only=args.read_only, options=args.options)
    if args.json:
        print_json({"mounted": str(where)})
    else:
        print(where)
    return 0
