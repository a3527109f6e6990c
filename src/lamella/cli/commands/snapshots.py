# SPDX-License-Identifier: Apache-2.0
"""List, inspect and remove the snapshots that containerd keeps on the store's pool.

EXCLUSIVE is what nothing else maps, SHARED what a snapshot has in common with others; a view takes nothing.
KEY is containerd's own, or a beginning of it or of the name in it. What is removed here stays in containerd's
records: as long as containerd works, remove it there (ctr snapshots rm), and this only what is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lists import shortened
from lamella.cli.output import age, print_json, print_table
from lamella.cli.parsing import add_json, open_store
from lamella.errors import UsageError
from lamella.printable import printable
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella snapshots ls
  lamella snapshots inspect k8s.io/12/web
  lamella snapshots rm k8s.io/12/web
"""
JSON = """\
[].key             ls, inspect: containerd's key; rm: that of what was removed
[].namespace       containerd's namespace in the key; empty if it has none
[].kind            "active", "committed" or "view"
[].parent          the key of the snapshot that it was made upon; empty without one
[].created         when it was made or committed, RFC 3339
[].updated         when its labels were last changed, RFC 3339
[].size            bytes of its file system
[].exclusive       bytes of the pool that nothing else maps
[].shared          bytes of the pool that others map as well
[].labels.*        its labels
[].children[]      inspect: the keys of the snapshots upon it
[].device.name     inspect: the device-mapper name of its device
[].device.id       inspect: the number of its thin device; null if it is lost
[].device.active   inspect: whether it is active in device-mapper
[].device.mounted[]  inspect: where it is mounted, as seen from here
[].device.damage   inspect: what is missing of it, in words; empty for one that is whole
"""
KEY_WIDTH = 48


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("ls", "inspect", "rm"), help="what to do")
    parser.add_argument("key", nargs="*", metavar="KEY", help="snapshots to inspect or to remove")
    parser.add_argument("--no-trunc", action="store_true", help="show whole keys")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.action == "ls" and args.key:
        raise UsageError("'snapshots ls' takes no key", hint="lamella snapshots inspect KEY")
    if args.action != "ls" and not args.key:
        raise UsageError(f"'snapshots {args.action}' needs a key", hint="lamella snapshots ls shows them")
    if args.action == "rm":
        return _remove(args)
    with open_store(args, read_only=True) as store:
        if args.action == "inspect":
            print_json([store.inspect_snapshot(key) for key in args.key])
            return 0
        found = store.snapshots()
    if args.json:
        print_json([each.as_dict() for each in found])
        return 0
    print_table(
        ("KEY", "KIND", "PARENT", "CREATED", "SIZE", "EXCLUSIVE", "SHARED"),
        [
            (
                shortened(args, printable(each.key), KEY_WIDTH),
                each.kind,
                shortened(args, printable(each.parent), KEY_WIDTH) or "-",
                age(each.created),
                human_size(each.size),
                human_size(each.exclusive),
                human_size(each.shared),
            )
            for each in found
        ],
    )
    return 0


def _remove(args: argparse.Namespace) -> int:
    removed = []
    with open_store(args) as store:
        for key in args.key:
            removed.append(store.remove_snapshot(key))
            if not args.json:
                print(printable(removed[-1]))
    if args.json:
        print_json([{"key": key} for key in removed])
    return 0
