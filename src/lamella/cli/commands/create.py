# SPDX-License-Identifier: Apache-2.0
"""Create a container: a writable snapshot of an image. Prints its ID; with --activate also its node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.parsing import open_store, open_with_kernel_engine

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella create --name web debian:12
  lamella create --activate debian:12
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--name", help="default: a random one")
    parser.add_argument("--size", metavar="SIZE", help="size of its file system, if larger than the image's")
    parser.add_argument("--activate", action="store_true", help="activate its block device (kernel's engine)")
    parser.add_argument("--storage-opt", metavar="size=SIZE", help="the same, as docker create has it")


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
    print(made.id)
    if node is not None:
        print(node)
    return 0
