# SPDX-License-Identifier: Apache-2.0
"""``thin_dump``: metadata as XML for ``thin_restore``, or as text for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.thin.arguments import add_overrides, add_quiet, open_input, parser
from lamella.cli.thin.command_line import number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.cli.thin.command_line import ToolParser

HELD = -1
"""In place of a block's number: the metadata snapshot that the superblock names."""


def arguments() -> ToolParser:
    """The tool's command line."""
    made = parser("thin_dump", "Dump thin-provisioning metadata to stdout in XML format")
    flag = made.add_argument
    flag("--dev-id", type=number(64), action="append", metavar="THIN_ID", help="Dump the specified device")
    flag("-f", "--format", default="xml", metavar="TYPE", choices=("xml", "human_readable"),
         help="Choose the output format")  # fmt: skip
    flag("-m", "--metadata-snap", nargs="?", type=number(64), const=HELD, metavar="BLOCKNR",
         help="Access the metadata snapshot on a live pool")  # fmt: skip
    flag("-o", "--output", metavar="FILE", help="Specify the output file rather than stdout")
    flag("-r", "--repair", action="store_true", help="Repair the metadata whilst dumping it")
    flag("--skip-mappings", action="store_true", help="Do not dump the mappings")
    add_quiet(made)
    add_overrides(made, "Provide the data block size for repairing")
    flag("input", metavar="INPUT", help="Specify the input device to dump")
    made.excludes = {"repair": ("metadata_snap",)}
    return made


def run(argv: Sequence[str]) -> int:
    """Dump as *argv* says; returns the exit code."""
    args = arguments().parse_args(argv)
    live = args.metadata_snap is not None
    with open_input(args.input, live=live) as device:
        from lamella.thin.metadata.reader import Metadata
        from lamella.thin.tools.dump import dump
        from lamella.thin.tools.header import Overrides

        overrides = Overrides(args.transaction_id, args.data_block_size, args.nr_data_blocks)
        notes: dict[int, str] = {}
        if args.repair:
            from lamella.thin.tools.salvage import recover

            recovered = recover(device, overrides=overrides)
            metadata, notes = recovered.metadata, recovered.notes
        else:
            block = None if args.metadata_snap == HELD else args.metadata_snap
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
                print(problem, file=sys.stderr)
            for dev_id, note in notes.items():
                print(f"thin device {dev_id}: {note}", file=sys.stderr)
    return 0
