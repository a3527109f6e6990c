# SPDX-License-Identifier: Apache-2.0
"""Show the changes of a container since its image: A added, C changed, D deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import exact_name, print_json, show_name
from lamella.cli.parsing import add_json, open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella diff web
"""
JSON = """\
[].kind  "A" added, "C" changed, "D" deleted
[].path  the path inside the container
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", metavar="CONTAINER")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        changes = store.diff(args.container)
    if args.json:
        print_json([{"kind": change.kind, "path": "/" + exact_name(change.path)} for change in changes])
        return 0
    for change in changes:
        print(f"{change.kind} /{show_name(change.path)}")
    return 0
