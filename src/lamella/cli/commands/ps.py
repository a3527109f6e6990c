# SPDX-License-Identifier: Apache-2.0
"""List the containers in the store. Their values: :class:`lamella.store.results.ContainerSummary`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lamella.cli.lists import add_filter, add_list_options, print_list, shortened, shown_id, time_shown
from lamella.cli.output import age
from lamella.cli.parsing import open_store, short_id
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

    from lamella.store.results import ContainerSummary

EXAMPLE = """\
example:
  lamella ps
  lamella ps --filter ancestor=debian:12 --format 'table {{.Names}}\\t{{.CreatedAt}}'
"""
JSON = """\
[].id         the container's id, 64 hexadecimal digits
[].name       its name
[].image      the image's name, as it was given to create
[].image_id   the image's id
[].created    when it was made, RFC 3339
[].size       bytes of its file system
[].command[]  the program and its arguments
[].mounted[]  where it is mounted, as seen from here
[].labels.*   its labels
"""
HEADINGS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Mounted": "MOUNTED",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
COMMAND_WIDTH = 20
"""Docker's, without the quotation marks."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="for compatibility: all are always listed")
    add_filter(parser, "-f")
    add_list_options(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        containers = store.containers(args.filter)
    mounted = ("Mounted",) if any(container.mounted for container in containers) else ()
    columns = ("ID", "Image", "RunningFor", "Size", *mounted, "Names")
    headings = {**HEADINGS, "Label": lambda key: key} if args.format else HEADINGS
    print_list(args, containers, [_row(args, each) for each in containers], headings, columns)
    return 0


def _row(args: argparse.Namespace, container: ContainerSummary) -> dict[str, Any]:
    plain_id = container.image == container.image_id and not args.no_trunc
    command = shortened(args, " ".join(container.command), COMMAND_WIDTH)
    return {
        "ID": shown_id(args, container.id),
        "Image": short_id(container.image) if plain_id else container.image,
        "Command": f'"{command}"',
        "CreatedAt": time_shown(container.created),
        "RunningFor": age(container.created),
        "Ports": "",
        "State": "created",
        "Status": "Created",
        "Size": human_size(container.size),
        "Names": container.name,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(container.labels.items())),
        "Label": partial(_label, container.labels),
        "Mounts": "",
        "Mounted": ", ".join(container.mounted),
        "LocalVolumes": "0",
        "Networks": "",
        "Platform": "linux",
    }


def _label(labels: dict[str, str], key: str) -> str:
    return labels.get(key, "")
