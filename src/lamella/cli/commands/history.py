# SPDX-License-Identifier: Apache-2.0
"""Show how an image was made: its steps, the latest first, and the size of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella.cli.lists import add_list_options, print_list, shortened, shown_id, time_shown
from lamella.cli.output import age
from lamella.cli.parsing import open_store
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

    from lamella.store.results import HistoryStep

EXAMPLE = """\
example:
  lamella history debian:12
  lamella history --no-trunc --format '{{.CreatedBy}}' debian:12
"""
JSON = """\
[].id          the image's id for its last step; empty for the others
[].created     when the step was made, RFC 3339; null where unknown
[].created_by  the command that made it
[].size        bytes of the files in its layer; 0 for a step without one
[].comment     a remark
"""
HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
CREATED_BY_WIDTH = 45
"""Docker's."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument(
        "-H",
        "--human",
        choices=("true", "false"),
        default="true",
        help="sizes and times for people, or in bytes and RFC 3339",
    )
    add_list_options(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        steps = store.history(args.image)
    if args.only_ids and not args.json:
        for step in steps:
            print(_id(args, step))
        return 0
    rows = [_row(args, step) for step in steps]
    print_list(args, steps, rows, HEADINGS, ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"))
    return 0


def _id(args: argparse.Namespace, step: HistoryStep) -> str:
    return shown_id(args, step.id) if step.id else "<missing>"


def _row(args: argparse.Namespace, step: HistoryStep) -> dict[str, Any]:
    from lamella.store.results import time_text

    human = args.human == "true"
    stamp = time_text(step.created) if step.created else ""
    return {
        "ID": _id(args, step),
        "CreatedSince": (age(step.created) if human else stamp) if step.created else "N/A",
        "CreatedAt": time_shown(step.created) if human and step.created else stamp,
        "CreatedBy": shortened(args, step.created_by, CREATED_BY_WIDTH),
        "Size": human_size(step.size) if human else str(step.size),
        "Comment": step.comment,
    }
