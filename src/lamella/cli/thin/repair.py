# SPDX-License-Identifier: Apache-2.0
"""``thin_repair``: write what can be read of damaged metadata to another device or file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.thin.arguments import add_output, number, open_input, open_output, parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from lamella.thin.tools.repair import RepairReport


def arguments() -> argparse.ArgumentParser:
    """The tool's command line."""
    made = parser(
        "thin_repair", "Repair thin provisioning metadata, writing it to a different device or file."
    )
    flag = made.add_argument
    flag("-i", "--input", required=True, metavar="FILE", help="the damaged metadata; it is only read")
    add_output(made)
    lost = "if the superblock is lost: the"
    flag("--data-block-size", type=number(32), metavar="SECTORS", help=f"{lost} data block size")
    flag("--nr-data-blocks", type=number(64), metavar="NUM", help=f"{lost} number of data blocks")
    flag("--transaction-id", type=number(64), metavar="NUM", help=f"{lost} transaction id")
    return made


def run(argv: Sequence[str]) -> int:
    """Repair as *argv* says; returns the exit code."""
    args = arguments().parse_args(argv)
    with (
        open_input(args.input, may_be_xml=False) as damaged,
        open_output(args.output, not_same_as=args.input) as target,
    ):
        from lamella.thin.tools.dump import Overrides
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
