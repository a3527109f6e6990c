# SPDX-License-Identifier: Apache-2.0
"""List the images in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import age, print_json, print_table
from lamella.cli.parsing import add_list_options, open_store, shown_id, split_reference
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella images
  lamella images -q
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_list_options(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        images = store.images()
    if args.json:
        print_json([image.as_dict() for image in images])
        return 0
    rows = []
    for image in images:
        shown = shown_id(args, image.id)
        if args.only_ids:
            print(shown)
            continue
        for name in image.references or ("<none>:<none>",):
            repository, tag = split_reference(name)
            rows.append((repository, tag, shown, age(image.created), human_size(image.size)))
    if not args.only_ids:
        print_table(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), rows)
    return 0
