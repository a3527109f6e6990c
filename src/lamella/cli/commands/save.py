# SPDX-License-Identifier: Apache-2.0
"""Write images to an archive that docker, skopeo and lamella read."""

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
  lamella save -o debian.tar debian:12
  lamella save --format oci-archive debian:12 > debian.oci
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="+", metavar="IMAGE")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")
    parser.add_argument(
        "--format",
        choices=("docker-archive", "oci-archive", "oci-dir"),
        default="docker-archive",
        help="default: docker-archive",
    )


def run(args: argparse.Namespace) -> int:
    if args.output is None and (args.format == "oci-dir" or sys.stdout.isatty()):
        raise UsageError("save has nowhere to write to", hint="name a file with -o, or redirect the output")
    with open_store(args, read_only=True) as store:
        store.save(
            args.image, args.output or sys.stdout.buffer, format=args.format, progress=progress(args.quiet)
        )
    return 0
