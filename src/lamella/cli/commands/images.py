# SPDX-License-Identifier: Apache-2.0
"""List the images in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella.cli.image_fields import IMAGE_FIELDS
from lamella.cli.lists import add_filter, add_list_options, print_list, shown_id, time_shown
from lamella.cli.output import age
from lamella.cli.parsing import open_store, split_reference
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from lamella.store.results import ImageSummary

EXAMPLE = """\
example:
  lamella images
  lamella images -q
  lamella images --filter dangling=true --format '{{.ID}} {{.Size}}'
"""
JSON = IMAGE_FIELDS
HEADINGS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "VIRTUAL SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", metavar="REPOSITORY[:TAG]", help="only images of this name")
    parser.add_argument("-a", "--all", action="store_true", help="for compatibility: all are always listed")
    parser.add_argument("--digests", action="store_true", help="show the digests")
    add_filter(parser, "-f")
    add_list_options(parser)


def run(args: argparse.Namespace) -> int:
    filters = [*args.filter, *([f"reference={args.image}"] if args.image else [])]
    with open_store(args, read_only=True) as store:
        images = store.images(filters)
    rows = [row for image in images for row in _rows(args, image)]
    digest = ("Digest",) if args.digests else ()
    columns = ("Repository", "Tag", *digest, "ID", "CreatedSince", "Size")
    print_list(args, images, rows, HEADINGS, columns)
    return 0


def _rows(args: argparse.Namespace, image: ImageSummary) -> Iterator[dict[str, Any]]:
    """A row for each of its names, or one for an image without any."""
    unknown = "<none>"
    digests = {name.partition("@")[0]: name.partition("@")[2] for name in image.digests}
    names = [split_reference(name) for name in image.references]
    tagged = {repository for repository, _ in names}
    names += [(repository, unknown) for repository in digests if repository not in tagged]
    for repository, tag in names or [(unknown, unknown)]:
        yield {
            "ID": shown_id(args, image.id),
            "Repository": repository,
            "Tag": tag,
            "Digest": digests.get(repository, unknown),
            "CreatedSince": age(image.created),
            "CreatedAt": time_shown(image.created),
            "Size": human_size(image.size),
            "Containers": "N/A",
            "VirtualSize": human_size(image.size),
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
        }
