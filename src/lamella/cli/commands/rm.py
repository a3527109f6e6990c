# SPDX-License-Identifier: Apache-2.0
"""Remove containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_warnings
from lamella.cli.parsing import open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella rm web
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", nargs="+", metavar="CONTAINER")
    parser.add_argument(
        "-f", "--force", action="store_true", help="unmount it first; ignore one that does not exist"
    )


def run(args: argparse.Namespace) -> int:
    with open_store(args) as store:
        for name in args.container:
            warnings = store.remove_container(name, force=args.force)
            print(name)
            print_warnings(warnings)
    return 0
