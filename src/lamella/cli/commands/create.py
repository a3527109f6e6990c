# SPDX-License-Identifier: Apache-2.0
"""Create a container: a writable snapshot of an image. Prints its ID; with --activate its node as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.parsing import open_in_kernel, open_store

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
    parser.add_argument("--size", metavar="SIZE", help="its file system's size, if larger than the image's")
    parser.add_argument("--activate", action="store_true", help="with its block device (kernel's engine)")
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
    with open_in_kernel(args) if args.activate else open_store(args) as store:
        made = store.create(
            args.image, name=args.name, size=parse_size(size) if size else None, activate=args.activate
        )
        node = store.node(made.id) if args.activate else None
    print(made.id)
    if node is not None:
        print(node)
    return 0
