# SPDX-License-Identifier: Apache-2.0
"""Create an image from a container: its image's layers, and one more with its changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_store
from lamella.cli.progress_line import progress

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella commit -m "add the site" -c 'CMD ["/bin/serve"]' web mine:1
"""
JSON = """\
id  the new image's id
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("reference", nargs="?", metavar="NAME[:TAG]")
    parser.add_argument("-m", "--message", default="", help="comment for the image's history")
    parser.add_argument("-a", "--author", default="", help="author of the image")
    parser.add_argument(
        "-c", "--change", action="append", default=[], metavar="INSTRUCTION", help="a Dockerfile instruction"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args) as store:
        made = store.commit(
            args.container,
            args.reference,
            message=args.message,
            author=args.author,
            changes=args.change,
            progress=progress(args.quiet),
        )
    if args.json:
        print_json({"id": made})
    else:
        print(made)
    return 0
