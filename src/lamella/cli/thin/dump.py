# SPDX-License-Identifier: Apache-2.0
"""``thin_dump``: metadata as XML for ``thin_restore``, or as text for people."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from lamella.cli.thin.arguments import number, open_input, parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_SNAPSHOT = re.compile(r"-m=?(\d*)")


def arguments() -> argparse.ArgumentParser:
    """The tool's command line."""
    made = parser("thin_dump", "Write thin provisioning metadata to standard output as XML.")
    flag = made.add_argument
    flag("--data-block-size", type=number(32), metavar="SECTORS", help="the data block size to write")
    flag("--dev-id", type=number(64), action="append", metavar="THIN_ID", help="only this device (repeat)")
    flag("-f", "--format", default="xml", metavar="TYPE", choices=("xml", "human_readable"),
         help="xml or human_readable")  # fmt: skip
    flag("-m", "--metadata-snap", nargs="?", const="", metavar="BLOCKNR",
         help="read the metadata snapshot of a live pool (write -m=BLOCKNR)")  # fmt: skip
    flag("--nr-data-blocks", type=number(64), metavar="NUM", help="the number of data blocks to write")
    flag("-o", "--output", metavar="FILE", help="write to FILE instead of standard output")
    flag("-q", "--quiet", action="store_true", help="print no messages")
    flag(
        "-r",
        "--repair",
        action="store_true",
        help="search for lost lists of devices, and leave out what is damaged",
    )
    flag("--skip-mappings", action="store_true", help="write the devices without their mappings")
    flag("--transaction-id", type=number(64), metavar="NUM", help="the transaction id to write")
    flag("input", metavar="INPUT", help="the device or file to dump")
    return made


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    made = arguments()
    args = made.parse_args(_split_snapshot(argv))
    if args.metadata_snap is not None:
        if args.repair:
            made.error("the argument '--repair' cannot be used with '--metadata-snap[=<BLOCKNR>]'")
        if args.metadata_snap and not args.metadata_snap.isdigit():
            made.error(f"invalid value {args.metadata_snap!r} for '--metadata-snap[=<BLOCKNR>]'")
    return args


def _split_snapshot(argv: Sequence[str]) -> list[str]:
    """Tie the optional block number to its option, so that INPUT is never taken for it."""
    result: list[str] = []
    for place, argument in enumerate(argv):
        if argument == "--":
            return result + list(argv[place:])
        short = _SNAPSHOT.fullmatch(argument)
        if short:
            argument = f"--metadata-snap={short[1]}"
        elif argument == "--metadata-snap":
            argument += "="
        result.append(argument)
    return result


def run(argv: Sequence[str]) -> int:
    """Dump as *argv* says; returns the exit code."""
    args = _parse(argv)
    live = args.metadata_snap is not None
    with open_input(args.input, live=live) as device:
        from lamella.thin.metadata.reader import Metadata
        from lamella.thin.tools.dump import Overrides, dump

        overrides = Overrides(args.transaction_id, args.data_block_size, args.nr_data_blocks)
        notes: dict[int, str] = {}
        if args.repair:
            from lamella.thin.tools.salvage import recover

            recovered = recover(device, overrides=overrides)
            metadata, notes = recovered.metadata, recovered.notes
        else:
            block = int(args.metadata_snap) if args.metadata_snap else None
            metadata = Metadata.open(device, snapshot=live, snapshot_block=block)

        def give(write: Callable[[bytes], object]) -> None:
            dump(
                metadata, write, format=args.format, skip_mappings=args.skip_mappings,
                dev_ids=args.dev_id, overrides=overrides,
            )  # fmt: skip

        if args.output:
            with open(args.output, "wb") as out:
                give(out.write)
        else:
            sys.stdout.flush()
            give(sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
        if not args.quiet:
            for problem in metadata.problems.found:
                print(f"left out: {problem}", file=sys.stderr)
            for dev_id, note in notes.items():
                print(f"thin device {dev_id}: {note}", file=sys.stderr)
    return 0
