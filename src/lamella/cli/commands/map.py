# SPDX-License-Identifier: Apache-2.0
"""Show the storage stack, from the disks to the containers, with sizes and usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json, print_table
from lamella.cli.parsing import add_json, open_store
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

    from lamella.driver.stack_node import Node

EXAMPLE = """\
example:
  lamella map --tree
  lamella map --json
"""
JSON = """\
[].kind      "disk", "file", "lv", "pool", "base", "layer", "image", "container" or "deleted"
[].name      its name
[].size      bytes
[].used      bytes in use; null where that is unknown
[].note      a remark, such as the thin device's id; may be missing
[].repeated  true, instead of children, for a node shown before
[].children  nodes that use it, with the same fields
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tree", action="store_true", help="draw it as a tree (default: a plain list)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.driver.stack_node import lines

    with open_store(args, read_only=True) as store:
        roots = store.map()
    if args.json:
        seen: set[int] = set()
        print_json([root.as_dict(seen) for root in roots])
        return 0
    rows = []
    for node, branches, again in lines(roots):
        if again and not args.tree:
            continue
        rows.append(_row(node, branches if args.tree else "", again))
    print_table(("NAME", "TYPE", "SIZE", "USED", "USE%", ""), rows)
    return 0


def _row(node: Node, branches: str, again: bool) -> tuple[str, ...]:
    used = "" if node.used is None else human_size(node.used)
    share = "" if node.used is None or not node.size else f"{100 * node.used / node.size:.2f}"
    note = "as above" if again and node.children else node.note
    return (branches + node.name, node.kind, human_size(node.size), used, share, note)
