# SPDX-License-Identifier: Apache-2.0
"""Check the pool's metadata, and mend what is damaged into a new place.

The damaged metadata is only read. What is mended is checked, compared with the store's record, and put in
its place if you agree; the damaged one is kept, as pool/metadata.damaged-TIME or as the logical volume
POOL_metaN. A pool that is sound, and only marked as needing a check, loses the mark if you agree; and
space that has leaked is given back, in place, without touching a device or its mappings.
Exit code 0: it is sound, or written to FILE; 6: it is damaged still."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.output import print_json, progress
from lamella.cli.parsing import add_json
from lamella.errors import CorruptError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from lamella.store.repair_report import Repair

QUESTIONS = {
    "needs-check": "Take the mark away?",
    "leaks": "Give the space back?",
    "damaged": "Put the mended metadata in its place?",
}
EXAMPLE = """\
example:
  lamella deactivate           # where the kernel has the pool
  lamella repair
  lamella check

  lamella repair --to /backup/metadata.repaired
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to", metavar="FILE", type=Path, help="leave the mended metadata in FILE, and the store as it is"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="agree without being asked")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store

    done = Store.repair(
        args.root,
        to=args.to,
        agree=lambda found: args.yes or _ask(found, args.json),
        wait=args.wait,
        progress=progress(args.quiet),
    )
    in_order = done.verdict == "sound" or bool(done.kept or done.cleared or done.written)
    # Leaked space is no damage, also where it stays.
    in_order = in_order or (done.verdict == "leaks" and not (done.refusal or done.marked))
    if args.json:
        print_json(done.as_dict())
    else:
        asked = sys.stdin.isatty() and not args.yes
        _tell(done, print, asked=asked)
    return 0 if in_order else CorruptError.exit_code


def _ask(found: Repair, json: bool) -> bool:
    if not sys.stdin.isatty() or json:
        return False
    for line in found.lines():
        print(line)
    question = QUESTIONS[found.verdict]
    sys.stdout.flush()
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _tell(done: Repair, say: Callable[[str], None], *, asked: bool) -> None:
    """*asked*: who was asked has seen what was found."""
    if not asked or done.verdict == "sound" or done.written or done.refusal:
        for line in done.lines():
            say(line)
    if done.given_back:
        say("It is free again." if done.leaks else "They are right now.")
    if done.cleared:
        say("The mark is gone: the pool can be written again.")
    if done.given_back or done.cleared:
        return
    if done.kept:
        say(f"The pool has the mended metadata; the damaged one is kept: {done.kept}")
        say("Now look at what is on it: lamella check")
    elif done.written:
        say(f"The mended metadata is in {done.written}; the store was not changed.")
    elif done.refusal:
        say(f"It was not put in place: {done.refusal}.")
        say("Nothing was changed. Restore the pool and state.db as they were at one moment.")
    elif done.verdict == "needs-check":
        say("Nothing was changed. To take the mark away: lamella repair --yes")
    elif done.verdict == "leaks":
        say("Nothing was changed. To give the space back: lamella repair --yes")
    elif done.verdict == "damaged":
        say("Nothing was changed. To put the mended metadata in its place: lamella repair --yes")
