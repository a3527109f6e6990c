# SPDX-License-Identifier: Apache-2.0
"""Put the pool into the kernel, with its loop devices or volumes; and the named containers and images.

Prints their nodes. What is active already stays as it is. Commands do this by themselves when they need it;
it is for programs that use the nodes, and for after a boot (--print-unit).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.parsing import open_in_kernel

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella activate
  lamella activate web db
  lamella activate --print-unit > /etc/systemd/system/lamella-activate.service
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", metavar="NAME", help="a container or an image")
    parser.add_argument(
        "--print-unit", action="store_true", help="print a systemd unit that does this after a boot"
    )


def run(args: argparse.Namespace) -> int:
    if args.print_unit:
        import sys

        from lamella.store.root import Root
        from lamella.store.systemd_unit import unit

        module = sys.argv[0].endswith("__main__.py")
        program = [sys.executable, "-m", "lamella"] if module else [sys.argv[0]]
        print(unit(program, Root.at(args.root).path), end="")
        return 0
    with open_in_kernel(args) as store:
        for node in store.activate(args.name):
            print(node)
    return 0
