# SPDX-License-Identifier: Apache-2.0
"""List the containers in the store. Their values: :class:`lamella.store.results.ContainerSummary`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lists import add_list_options, print_list, shown_id
from lamella.cli.output import age
from lamella.cli.parsing import open_store, short_id
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella ps
"""
JSON = """\
[].id         the container's id, 64 hexadecimal digits
[].name       its name
[].image      the image's name, as it was given to create
[].image_id   the image's id
[].created    when it was made, ISO 8601
[].size       bytes of its file system
[].command[]  the program and its arguments
[].mounted[]  where it is mounted, as seen from here
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="for compatibility: all are always listed")
    add_list_options(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        containers = store.containers()
    mounted = any(container.mounted for container in containers)
    print_list(
        args,
        containers,
        ("CONTAINER ID", "IMAGE", "CREATED", "SIZE", *(("MOUNTED",) if mounted else ()), "NAMES"),
        [
            (
                shown_id(args, container.id),
                short_id(container.image)
                if container.image.startswith("sha256:") and not args.no_trunc
                else container.image,
                age(container.created),
                human_size(container.size),
                *((", ".join(container.mounted),) if mounted else ()),
                container.name,
            )
            for container in containers
        ],
    )
    return 0
