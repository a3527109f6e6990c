# SPDX-License-Identifier: Apache-2.0
"""Unmount a container or an image, and deactivate its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json, print_warnings
from lamella.cli.parsing import add_json

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella umount web
  lamella umount /srv/web
"""
JSON = """\
warnings[]  who still uses a device
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="+", metavar="NAME|DIR", help="a container, an image, or a mount point")
    parser.add_argument(
        "-l", "--lazy", action="store_true", help="detach it now, clean up when it is no longer in use"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store

    warnings = []
    for name in args.name:
        warnings += Store.unmount(name, root=args.root, lazy=args.lazy, wait=args.wait)
    if args.json:
        print_json({"warnings": warnings})
    else:
        print_warnings(warnings)
    return 0
