# SPDX-License-Identifier: Apache-2.0
"""Show what takes the pool's space, and what removing an image or a container would free.

SPACE is what each row takes, and adds up to the pool's: an image's is in its layers' rows. MAPPED includes
what is shared with other rows. FREES is what is free after rm or rmi, with layers that nothing else uses.

"shared" is what devices have in common whose origin is gone, "other" is in thin devices that state.db lacks,
and "leaked" is in none: lamella repair frees it."""

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
[].kind       pool, base, layer, image, container, snapshot, deleted, other, shared or leaked
[].name       the first name of an image, the beginning of a layer's diff id, or another thing's name or key
[].mapped     bytes of the chunks that it refers to, shared or not
[].exclusive  bytes of the chunks that nothing else refers to
[].space      bytes that are counted in this row only; those of all others add up to the pool's
[].frees      bytes that removing it frees; null where it cannot be removed
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
        ("KIND", "NAME", "SPACE", "MAPPED", "FREES"),
        [
            (
                row.kind,
                row.name or "-",
                "-" if row.kind == "image" else human_size(row.space),
                human_size(row.mapped),
                "-" if row.frees is None else human_size(row.frees),
            )
            for row in rows
        ],
    )
    if state.lines():
        print_warnings([state.text(worded)])
    return 0
