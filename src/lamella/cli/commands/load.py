# SPDX-License-Identifier: Apache-2.0
"""Unpack an image archive into the pool; every digest is verified before anything is visible.

Takes docker-archive and oci-archive files (plain, gzip or zstd) and OCI layout folders, recognised
by their content. Without FILE it reads standard input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.image_fields import IMAGE_FIELDS
from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_or_set_up
from lamella.cli.progress_line import progress
from lamella.errors import UsageError

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella load -i debian.tar
  docker save debian:12 | lamella load
"""
JSON = IMAGE_FIELDS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", type=Path, help="archive or OCI layout folder")
    parser.add_argument("-i", "--input", metavar="FILE", type=Path, help="the same, as docker load has it")
    parser.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", help="default: this machine's")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.file and args.input:
        raise UsageError("two archives were given", hint="load them one at a time")
    source = args.file or args.input
    if source == Path("-"):
        source = None
    from lamella.store import Store

    line = progress(args.quiet)
    with (
        Store.open_archive(source, root=args.root, platform=args.platform, progress=line) as archive,
        open_or_set_up(args) as store,
    ):
        images = store.load(archive, progress=line)
        if args.json:
            print_json([image.as_dict() for image in images])
            return 0
        for image in images:
            for name in image.references or ():
                print(f"Loaded image: {name}")
            if not image.references:
                print(f"Loaded image ID: {image.id}")
    return 0
