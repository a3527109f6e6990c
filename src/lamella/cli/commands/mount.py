# SPDX-License-Identifier: Apache-2.0
"""Mount a container, or an image read-only, and print where. Needs root and the kernel's engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.parsing import open_in_kernel

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella mount web
  lamella mount web /srv/web -o noatime
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a container or an image")
    parser.add_argument(
        "folder", nargs="?", metavar="DIR", help="where (default: mnt/ID in the store's folder)"
    )
    parser.add_argument("-r", "--read-only", action="store_true", help="images are in any case")
    parser.add_argument(
        "-o",
        dest="options",
        action="append",
        default=[],
        metavar="OPTIONS",
        help="as mount's, after dm.mountopt",
    )


def run(args: argparse.Namespace) -> int:
    with open_in_kernel(args) as store:
        print(store.mount(args.name, args.folder, read_only=args.read_only, options=args.options))
    return 0
