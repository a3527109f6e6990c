# SPDX-License-Identifier: Apache-2.0
"""List the images in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lists import add_list_options, print_list, shown_id
from lamella.cli.output import age
from lamella.cli.parsing import open_store, split_reference
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella images
  lamella images -q
"""
JSON = """\
[].id            the image's id, "sha256:" and 64 hexadecimal digits
[].references[]  its names with tags
[].digests[]     its names with the digests under which registries gave it
[].digest        the digest that a registry gave it under in this run; empty
[].created       when it was made, ISO 8601
[].size          bytes of the files in all its layers
[].layers        how many layers it has
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_list_options(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        images = store.images()
    rows = [
        (*split_reference(name), shown_id(args, image.id), age(image.created), human_size(image.size))
        for image in images
        for name in image.references or ("<none>:<none>",)
    ]
    print_list(args, images, ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), rows)
    return 0
