# SPDX-License-Identifier: Apache-2.0
"""Remove images that nothing uses: those without a name, or with --all also those with one.

An image that a container was created from stays, as does one that is mounted, and all containers do. It is
``docker image prune``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.lists import add_filter
from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_store
from lamella.errors import UsageError
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella prune --force
  lamella prune --all --force --filter until=240h
"""
JSON = """\
untagged[]  names that were removed
deleted[]   ids of the images and layers that were removed
freed       bytes of the pool's data that became free
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also images with a name")
    parser.add_argument("-f", "--force", action="store_true", help="do not ask for confirmation")
    add_filter(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if not args.force and not sys.stdin.isatty():
        raise UsageError("prune asks before it removes anything", hint="leave the question out with --force")
    with open_store(args) as store:
        done = store.prune(args.filter, named=args.all, agree=lambda: args.force or _ask(args.all))
    if args.json:
        print_json(done.as_dict())
        return 0
    if done.lines:
        print("Deleted Images:")
        for line in done.lines:
            print(line[:1].lower() + line[1:])
        print()
    print(f"Total reclaimed space: {human_size(done.freed)}")
    return 0


def _ask(named: bool) -> bool:
    what = "all images without at least one container associated to them" if named else "all dangling images"
    print(f"WARNING! This will remove {what}.", flush=True)
    try:
        return input("Are you sure you want to continue? [y/N] ").strip().lower() == "y"
    except EOFError:
        return False
