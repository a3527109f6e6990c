# SPDX-License-Identifier: Apache-2.0
"""Fetch an image from a registry straight into the pool; every digest is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.image_fields import IMAGE_FIELDS
from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_or_set_up
from lamella.cli.progress_line import progress

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella pull debian:12
  lamella pull --insecure-registry localhost:5000/mine
"""
JSON = IMAGE_FIELDS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="+", metavar="IMAGE", help="name, name:tag or name@digest")
    parser.add_argument(
        "--insecure-registry", action="store_true", help="allow plain HTTP and unverified certificates"
    )
    parser.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", help="default: this machine's")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store

    if not Store.exists(args.root):
        for name in args.image:  # a store is made only for what can be pulled
            Store.look_up(name, insecure_registry=args.insecure_registry, platform=args.platform)
    images = []
    with open_or_set_up(args) as store:
        for name in args.image:
            image = store.pull(
                name,
                insecure_registry=args.insecure_registry,
                platform=args.platform,
                progress=progress(args.quiet),
            )
            images.append(image.as_dict())
            if args.json:
                continue
            print(f"Digest: {image.digest}" if image.digest else f"Image: {image.id}")
            print(f"Pulled: {', '.join(image.references) or image.id}")
    if args.json:
        print_json(images)
    return 0
