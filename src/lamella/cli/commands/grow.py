# SPDX-License-Identifier: Apache-2.0
"""Extend the pool, also while containers use it.

SIZE is a total (200G) or an increment (+20G, +20%); in a volume group also a share of its free space
(+100%FREE). loop-lvm: the pool's files are extended. direct-lvm: its volumes are extended, and --disk adds
disks to the group first; without a size, data gets all their space. A pool that is full, or read-only
because its metadata is full, works again once it is extended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json, print_warnings
from lamella.cli.parsing import add_json

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella grow --data +20%
  lamella grow --metadata +100%
  lamella grow --disk /dev/vdc
"""
JSON = """\
data.before      bytes of the pool's data device before
data.after       and now
metadata.before  bytes of the pool's metadata device before
metadata.after   and now
state            the pool's state in a word; empty if it could not be opened
warnings[]       warnings, also printed on standard error
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="SIZE", default="", help="new size of the data device")
    parser.add_argument("--metadata", metavar="SIZE", default="", help="new size of the metadata device")
    parser.add_argument(
        "--disk", metavar="DISK", action="append", default=[], help="add a disk first; may be repeated"
    )
    parser.add_argument("-f", "--force", action="store_true", help="use disks that are not empty")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store

    done = Store.grow(
        args.root,
        data=args.data,
        metadata=args.metadata,
        disks=args.disk,
        force=args.force,
        wait=args.wait,
        engine=args.engine,
    )
    if args.json:
        print_json(done.as_dict())
        return 0
    for line in done.lines():
        print(line)
    print_warnings(done.warnings)
    return 0
