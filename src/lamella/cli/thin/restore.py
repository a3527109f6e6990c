# SPDX-License-Identifier: Apache-2.0
"""``thin_restore``: make metadata from the XML that ``thin_dump`` writes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.thin.arguments import add_output, add_overrides, open_output, open_text, parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.thin.command_line import ToolParser


def arguments() -> ToolParser:
    """The tool's command line."""
    made = parser("thin_restore", "Convert XML format metadata to binary.")
    made.add_argument("-i", "--input", required=True, metavar="FILE", help="Specify the input xml")
    add_output(made)
    add_overrides(made, "Override the data block size if needed")
    return made


def run(argv: Sequence[str]) -> int:
    """Restore as *argv* says; returns the exit code."""
    args = arguments().parse_args(argv)
    with open_text(args.input) as source, open_output(args.output, not_same_as=args.input) as target:
        from lamella.thin.tools.header import Overrides
        from lamella.thin.tools.restore import restore_xml

        overrides = Overrides(args.transaction_id, args.data_block_size, args.nr_data_blocks)
        report = restore_xml(source.read, target, overrides=overrides, name=args.input)
    if not args.quiet:
        for dev_id, described, actual in report.corrected:
            print(
                f"device {dev_id} says {described} mapped blocks, but has {actual}: corrected",
                file=sys.stderr,
            )
    return 0
