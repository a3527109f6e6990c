# SPDX-License-Identifier: Apache-2.0
"""Write a container's whole file system as a tar archive."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.parsing import open_store
from lamella.cli.progress_line import progress
from lamella.errors import UsageError

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella export web -o web.tar
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", metavar="CONTAINER", help="a container or an image")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")


def run(args: argparse.Namespace) -> int:
    if args.output is None and sys.stdout.isatty():
        raise UsageError("export has nowhere to write to", hint="name a file with -o, or redirect the output")
    with open_store(args, read_only=True) as store:
        store.export(args.container, args.output or sys.stdout.buffer, progress=progress(args.quiet))
    return 0
