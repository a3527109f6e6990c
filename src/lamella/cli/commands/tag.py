# SPDX-License-Identifier: Apache-2.0
"""Give an image another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.parsing import open_store

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella tag debian:12 mine:latest
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IMAGE")
    parser.add_argument("target", metavar="NAME[:TAG]")


def run(args: argparse.Namespace) -> int:
    with open_store(args) as store:
        store.tag(args.source, args.target)
    return 0
