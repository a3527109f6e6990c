# SPDX-License-Identifier: Apache-2.0
"""Remove containers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

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
        "-f", "--force", action="store_true", help="unmount it first; one that is not there is no error"
    )


def run(args: argparse.Namespace) -> int:
    with open_store(args) as store:
        for name in args.container:
            warnings = store.remove_container(name, force=args.force)
            print(name, flush=True)
            for warning in warnings:
                print(f"WARNING: {warning}", file=sys.stderr)
    return 0
