# SPDX-License-Identifier: Apache-2.0
"""Remove images that nothing uses: those without a name, or with --all also those with one.

An image that a container was created from stays, as does one that is mounted, and all containers do. It is
``docker image prune``.

With --unknown-devices, remove instead thin devices that are in the pool and not in state.db, which check
lists; without a terminal or --force they are only shown. They are left where the pool and state.db were of
two moments (see repair), and may be all that is left of a container of another moment."""

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
    from collections.abc import Sequence

    from lamella.store.unknown_devices import UnknownDevice

EXAMPLE = """\
example:
  lamella prune --force
  lamella prune --all --force --filter until=240h

  lamella prune --unknown-devices           # shows them, and asks
"""
JSON = """\
untagged[]  names that were removed
deleted[]   ids of the images and layers that were removed
freed       bytes of the pool's data that became free
devices[]   with --unknown-devices, in place of the two lists: the thin devices that were found
devices[].device_id      its id in the pool
devices[].mapped         bytes that it maps, some perhaps shared with others
devices[].transaction_id the pool's transaction in which it was created
removed[]   with --unknown-devices: ids of those that were removed
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also images with a name")
    parser.add_argument("-f", "--force", action="store_true", help="do not ask for confirmation")
    parser.add_argument(
        "--unknown-devices",
        action="store_true",
        help="instead of images: thin devices that are in the pool and not in state.db",
    )
    add_filter(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.unknown_devices:
        return _unknown_devices(args)
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


def _unknown_devices(args: argparse.Namespace) -> int:
    if args.all or args.filter:
        raise UsageError(
            "--all and --filter choose images, and --unknown-devices removes none", hint="leave them out"
        )

    def agree(found: Sequence[UnknownDevice]) -> bool:
        if args.force or args.json or not sys.stdin.isatty():
            return bool(args.force)
        for device in found:
            print(device)
        return _sure("these thin devices, and what is in them")

    with open_store(args) as store:
        done = store.remove_unknown_devices(agree=agree)
    if args.json:
        print_json(done.as_dict())
        return 0
    for device in done.found:
        if device.device_id in done.removed:
            print(f"removed: {device}")
        elif done.removed:
            print(f"in use, and not removed: {device}")
        else:
            print(device)
    if not done.found:
        print("Every thin device of the pool is in state.db.")
    elif not done.removed:
        print(
            "Nothing was removed. To remove them and their content: lamella prune --unknown-devices --force"
        )
    print(f"Total reclaimed space: {human_size(done.freed)}")
    return 0


def _ask(named: bool) -> bool:
    what = "all images without at least one container associated to them" if named else "all dangling images"
    return _sure(what)


def _sure(what: str) -> bool:
    print(f"WARNING! This will remove {what}.", flush=True)
    try:
        return input("Are you sure you want to continue? [y/N] ").strip().lower() == "y"
    except EOFError:
        return False
