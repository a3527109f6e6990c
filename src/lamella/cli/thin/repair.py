# SPDX-License-Identifier: Apache-2.0
"""``thin_repair``: write what can be read of damaged metadata to another device or file."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lamella.cli.thin.arguments import add_output, add_overrides, open_input, open_output, parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.thin.command_line import ToolParser
    from lamella.thin.tools.repair import RepairReport


def arguments() -> ToolParser:
    """The tool's command line."""
    made = parser(
        "thin_repair", "Repair thin-provisioning metadata, and write it to different device or file"
    )
    made.add_argument("-i", "--input", required=True, metavar="FILE", help="Specify the input device")
    add_output(made)
    add_overrides(made, "Provide the data block size for repairing")
    # LVM2 passes the options that its configuration names, by default one that is empty.
    made.add_argument("nothing", nargs="?", help=argparse.SUPPRESS)
    return made


def run(argv: Sequence[str]) -> int:
    """Repair as *argv* says; returns the exit code."""
    made = arguments()
    args = made.parse_args(argv)
    if args.nothing:
        made.refuse(f"unexpected argument '{args.nothing}' found", usage=("[OPTIONS]",))
    with (
        open_input(args.input, may_be_xml=False) as damaged,
        open_output(args.output, not_same_as=args.input) as target,
    ):
        from lamella.thin.tools.header import Overrides
        from lamella.thin.tools.repair import repair

        overrides = Overrides(args.transaction_id, args.data_block_size, args.nr_data_blocks)
        report = repair(damaged, target, overrides=overrides)
    if not args.quiet:
        _report(report)
    return 0


def _report(report: RepairReport) -> None:
    """Report what was wrong and what is lost."""
    for problem in report.problems.found:
        print(problem, file=sys.stderr)
    for device in report.incomplete:
        print(device, file=sys.stderr)
