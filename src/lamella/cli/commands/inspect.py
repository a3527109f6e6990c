# SPDX-License-Identifier: Apache-2.0
"""Print the details of images and containers, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lists import add_format, print_rows
from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella inspect debian:12
  lamella inspect --format '{{.GraphDriver.Data.DeviceName}}' web
"""
JSON = """\
[].Id                    the id
[].Created               when it was made, RFC 3339
[].GraphDriver.Name      "devicemapper"
[].GraphDriver.Data.*    device id, device-mapper name and size of its thin device
[].GraphDriver.State.*   whether that is active and suspended, and where it is mounted
[].Config.*              the image's configuration, or what the container took from it
[].Name                  containers: the name, after a slash
[].Path                  containers: the program
[].Args[]                containers: its arguments
[].State.*               containers: always that of a container that was never started
[].Image                 containers: the image's id
[].Driver                containers: "devicemapper"
[].Platform              containers: "linux"
[].Mounts[]              containers: always empty
[].RepoTags[]            images: names with tags
[].RepoDigests[]         images: names with digests
[].Parent                images: always empty
[].Comment               images: the last message of its history
[].DockerVersion         images: the version of Docker that made it
[].Author                images: who made it
[].Architecture          images: the processor, in Go's words
[].Variant               images: the processor's variant, if it has one
[].Os                    images: "linux"
[].Size                  images: bytes of the files in all its layers
[].VirtualSize           images: the same
[].RootFS.*              images: the digests of its unpacked layers
[].Metadata.LastTagTime  images: when it was made or last tagged
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="+", metavar="NAME", help="an image or a container")
    parser.add_argument("--type", choices=("image", "container"), help="only one of that type")
    add_format(parser, "-f")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        found = [store.inspect(name, kind=args.type) for name in args.name]
    if args.format and not args.json:
        print_rows(args.format, found, {})
    else:
        print_json(found)
    return 0
