# SPDX-License-Identifier: Apache-2.0
"""List the images in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import age, print_json, print_table
from lamella.cli.parsing import add_json, open_store, short_id, split_reference
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella images
  lamella images -q
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", action="store_true", dest="only_ids", help="only the IDs")
    parser.add_argument("--no-trunc", action="store_true", help="whole IDs")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        images = store.images()
    if args.json:
        print_json([image.as_dict() for image in images])
        return 0
    rows = []
    for image in images:
        shown = image.id if args.no_trunc else short_id(image.id)
        if args.only_ids:
            print(shown)
            continue
        for name in image.references or ("<none>:<none>",):
            repository, tag = split_reference(name)
            rows.append((repository, tag, shown, age(image.created), human_size(image.size)))
    if not args.only_ids:
        print_table(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), rows)
    return 0
