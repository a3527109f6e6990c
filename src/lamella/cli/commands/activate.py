# SPDX-License-Identifier: Apache-2.0
"""Activate the pool, with its loop devices or volumes, and the named containers and images in device-mapper.

Prints their device nodes. What is already active is left alone. Commands activate what they need themselves;
this is for programs that use the nodes, and for boot (--print-unit).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_with_kernel_engine

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella activate
  lamella activate web db
  lamella activate --print-unit > /etc/systemd/system/lamella-activate.service
"""
JSON = """\
nodes[]  device nodes: the pool, then what was named
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", metavar="NAME", help="a container or an image")
    parser.add_argument(
        "--print-unit", action="store_true", help="print a systemd unit that does this at boot"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.print_unit:
        import sys

        from lamella.cli.process import program as started_as
        from lamella.store.root import Root
        from lamella.store.systemd_unit import unit

        module = started_as().endswith("__main__.py")
        program = [sys.executable, "-m", "lamella"] if module else [started_as()]
        print(unit(program, Root.at(args.root).path), end="")
        return 0
    with open_with_kernel_engine(args) as store:
        nodes = store.activate(args.name)
    if args.json:
        print_json({"nodes": list(map(str, nodes))})
        return 0
    for node in nodes:
        print(node)
    return 0
