# SPDX-License-Identifier: Apache-2.0
"""Create a container: a writable snapshot of an image. Prints its ID; with --activate also its node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_store, open_with_kernel_engine

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella create --name web debian:12
  lamella create --activate debian:12
"""
JSON = """\
id         the container's id, 64 hexadecimal digits
name       its name
image      the image's name, as it was given
image_id   the image's id
created    when it was made, RFC 3339
size       bytes of its file system
command[]  the program and its arguments
mounted[]  empty
labels.*   its labels
node       its device node; null without --activate
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--name", help="default: a random one")
    parser.add_argument("--size", metavar="SIZE", help="size of its file system, if larger than the image's")
    parser.add_argument("--activate", action="store_true", help="activate its block device (kernel's engine)")
    parser.add_argument("--storage-opt", metavar="size=SIZE", help="the same, as docker create has it")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.errors import UsageError
    from lamella.units import parse_size

    size = args.size
    if args.storage_opt:
        key, _, value = args.storage_opt.partition("=")
        if key != "size" or not value:
            raise UsageError(f"unknown container option {args.storage_opt!r}", hint="only size=SIZE is known")
        size = size or value
    with open_with_kernel_engine(args) if args.activate else open_store(args) as store:
        made = store.create(
            args.image, name=args.name, size=parse_size(size) if size else None, activate=args.activate
        )
        node = store.node(made.id) if args.activate else None
    if args.json:
        print_json(made.as_dict() | {"node": None if node is None else str(node)})
        return 0
    print(made.id)
    if node is not None:
        print(node)
    return 0
