# SPDX-License-Identifier: Apache-2.0
"""Show the space that the pool, images and containers use, shared and exclusive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json, print_table, print_warnings
from lamella.cli.parsing import add_json, open_store
from lamella.remedies import worded
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella df
"""
JSON = """\
[].kind       "pool", "base", "image", "container" or "deleted"
[].name       the image's first name, the container's name, or the device's
[].mapped     bytes of the chunks that it refers to, shared or not
[].exclusive  bytes of the chunks that nothing else refers to
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        rows, state = store.df(), store.health()
    if args.json:
        print_json([row.as_dict() for row in rows])
        return 0
    print_table(
        ("KIND", "NAME", "MAPPED", "EXCLUSIVE"),
        [(row.kind, row.name, human_size(row.mapped), human_size(row.exclusive)) for row in rows],
    )
    if state.lines():
        print_warnings([state.text(worded)])
    return 0
