# SPDX-License-Identifier: Apache-2.0
"""Remove containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json, print_warnings
from lamella.cli.parsing import add_json, open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella rm web
"""
JSON = """\
[].name        the container, as it was given
[].warnings[]  who still uses its device
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", nargs="+", metavar="CONTAINER")
    parser.add_argument(
        "-f", "--force", action="store_true", help="unmount it first; ignore one that does not exist"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    done = []
    with open_store(args) as store:
        for name in args.container:
            warnings = store.remove_container(name, force=args.force)
            done.append({"name": name, "warnings": warnings})
            if args.json:
                continue
            print(name)
            print_warnings(warnings)
    if args.json:
        print_json(done)
    return 0
