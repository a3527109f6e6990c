# SPDX-License-Identifier: Apache-2.0
"""Copy files between this machine and a container, as ``docker cp`` does.

CONTAINER:PATH names a place inside; anything else is a path here; ``-`` is a tar archive on
standard input or output. Files can also be copied out of an image."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.parsing import name_and_path, open_store
from lamella.cli.progress_line import progress
from lamella.errors import UsageError

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella cp web:/etc/hosts .
  lamella cp ./site web:/var/www
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument(
        "-L", "--follow-link", action="store_true", help="copy what SOURCE leads to where it is a symlink"
    )
    parser.add_argument("-a", "--archive", action="store_true", help="keep owners (numeric) when copying in")


def run(args: argparse.Namespace) -> int:
    inward, outward = _inside(args.target), _inside(args.source)
    if inward == outward:
        raise UsageError(
            "cp copies between this machine and a container",
            hint="write exactly one of the two as CONTAINER:PATH",
        )
    if inward:
        name, path = name_and_path(args.target, relative=True)
        with open_store(args) as store:
            source = sys.stdin.buffer if args.source == "-" else args.source
            store.copy_in(
                name,
                source,
                path,
                keep_owner=args.archive,
                follow_link=args.follow_link,
                progress=progress(args.quiet),
            )
    else:
        name, path = name_and_path(args.source, relative=True)
        with open_store(args, read_only=True) as store:
            # As text: a Path would lose the slash at its end.
            target = sys.stdout.buffer if args.target == "-" else args.target
            store.copy_out(name, path, target, follow_link=args.follow_link, progress=progress(args.quiet))
    return 0


def _inside(text: str) -> bool:
    """Whether *text* is CONTAINER:PATH; a path that begins with . or / never is."""
    return ":" in text and not text.startswith((".", "/"))
