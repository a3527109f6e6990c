# SPDX-License-Identifier: Apache-2.0
"""Check the pool's metadata and repair damaged metadata into a new device.

The damaged metadata is only read. The repaired metadata is checked and compared with state.db, and replaces
the original if you confirm; the original is kept, as pool/metadata.damaged-TIME or as the logical volume
POOL_metaN. On a sound pool, the needs_check flag is cleared and leaked space is freed if you confirm, in
place, without changing a device or its mappings. On a pool that is of another moment than state.db, as after
one of the two was restored from a backup, state.db is changed if you confirm: devices that were created in
the transaction that it has for them are kept, the others are marked as lost.
Exit code 0: it is sound, or written to FILE; 6: it is still damaged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json
from lamella.cli.progress_line import progress
from lamella.errors import CorruptError

if TYPE_CHECKING:
    import argparse

    from lamella.store.repair_report import Repair

QUESTIONS = {
    "needs-check": "Clear the needs_check flag?",
    "leaks": "Free the leaked space?",
    "mismatch": "Go on with this pool and this state.db, without what is lost?",
    "damaged": "Replace the metadata with the repaired one?",
}
EXAMPLE = """\
example:
  lamella deactivate           # where the kernel has the pool
  lamella repair
  lamella check

  lamella repair --to /backup/metadata.repaired
"""
JSON = """\
verdict     "sound", "needs-check", "leaks", "mismatch" (with state.db) or "damaged"
problems[]  what the check of the pool's metadata found
devices     devices in the repaired metadata
mappings    chunks that these map
lost[]      what is missing in the repaired metadata, by image and container
remarks[]   further remarks
refusal     why it may not replace the damaged metadata; empty if it may
written     the file of --to; empty without it
adopted     whether state.db goes on with a pool of another moment
kept        where the damaged metadata is now; empty if nothing was replaced
cleared     whether the needs_check flag was cleared
marked      whether the pool has the needs_check flag
given_back  whether leaked space was freed
leaked                  leaked space; null where it was not counted
leaked.data_chunks      leaked chunks of data
leaked.data_bytes       the same in bytes
leaked.metadata_blocks  leaked blocks of metadata
leaked.metadata_bytes   the same in bytes
leaked.counted_too_high blocks in use whose reference count is too high
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        metavar="FILE",
        type=Path,
        help="write the repaired metadata to FILE; leave the store unchanged",
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")
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
    in_order = done.verdict == "sound" or bool(done.kept or done.cleared or done.written or done.adopted)
    # Leaked space is not damage, even if it is not freed.
    in_order = in_order or (done.verdict == "leaks" and not (done.refusal or done.marked))
    if args.json:
        print_json(done.as_dict())
    else:
        asked = sys.stdin.isatty() and not args.yes
        _print_result(done, asked=asked)
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


def _print_result(done: Repair, *, asked: bool) -> None:
    """*asked*: whether the findings were already printed, with the question."""
    if not asked or done.verdict == "sound" or done.written or done.refusal:
        for line in done.lines():
            print(line)
    if done.given_back:
        print("The leaked space was freed." if done.leaks else "The totals were corrected.")
    if done.cleared:
        print("The needs_check flag was cleared: the pool can be written again.")
    if done.given_back or done.cleared:
        return
    if done.adopted:
        print("The store goes on with this pool and this state.db; what is lost is marked.")
        print("Next, check the whole store: lamella check")
    elif done.verdict == "mismatch" and not done.refusal:
        print(
            "Nothing was changed. Nothing is lost if the pool and state.db are restored from the same backup."
        )
        print("To go on without what is lost: lamella repair --yes")
    elif done.kept:
        print(f"The pool uses the repaired metadata; the original is kept: {done.kept}")
        print("Next, check the whole store: lamella check")
    elif done.written:
        print(f"The repaired metadata was written to {done.written}; the store was not changed.")
    elif done.refusal:
        print(
            f"Nothing can be repaired: {done.refusal}."
            if done.verdict == "mismatch"
            else f"The metadata was not replaced: {done.refusal}."
        )
        print("Nothing was changed. Restore the pool and state.db from the same backup.")
    elif done.verdict == "needs-check":
        print("Nothing was changed. To clear the flag: lamella repair --yes")
    elif done.verdict == "leaks":
        print("Nothing was changed. To free the space: lamella repair --yes")
    elif done.verdict == "damaged":
        print("Nothing was changed. To replace the metadata: lamella repair --yes")
