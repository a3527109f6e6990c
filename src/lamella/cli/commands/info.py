# SPDX-License-Identifier: Apache-2.0
"""Show the pool's state, usage and settings, in the lines of ``docker info``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json, print_warnings
from lamella.cli.parsing import add_json, open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella info
  lamella info --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        info = store.info()
    if args.json:
        print_json(info.as_dict())
        return 0
    print(f"Containers: {info.containers}")
    if info.mounted:
        print(f" Mounted: {info.mounted}")
    print(f"Images: {info.images}")
    print("Storage Driver: devicemapper")
    for label, value in info.lines():
        print(f" {label}: {value}")
    print_warnings(info.warnings)
    return 0
