# SPDX-License-Identifier: Apache-2.0
"""Give a container another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.parsing import open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella rename web old-web
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("name", metavar="NEW_NAME", help="letters, digits and _.- after the first")


def run(args: argparse.Namespace) -> int:
    with open_store(args) as store:
        store.rename(args.container, args.name)
    return 0
