# SPDX-License-Identifier: Apache-2.0
"""``thin_check``: check the metadata in a file or device."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.thin.arguments import add_quiet, open_input, parser
from lamella.cli.thin.command_line import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.block import FileDevice
    from lamella.cli.thin.command_line import ToolParser
    from lamella.thin.tools.check import CheckOptions, CheckReport

REPAIR_EXCLUDES = (
    "ignore_non_fatal_errors", "metadata_snap", "override_mapping_root", "override_details_root",
    "super_block_only", "skip_mappings",
)  # fmt: skip
CLEAR_EXCLUDES = ("metadata_snap", "override_mapping_root", "override_details_root")


def arguments() -> ToolParser:
    """The tool's command line."""
    made = parser("thin_check", "Validates thin provisioning metadata on a device or file.")
    flag = made.add_argument
    flag("--auto-repair", action="store_true", help="Auto repair trivial issues.")
    flag("--clear-needs-check-flag", action="store_true",
         help="Clears the 'needs_check' flag in the superblock")  # fmt: skip
    flag("--ignore-non-fatal-errors", action="store_true",
         help="Only return a non-zero exit code if a fatal error is found.")  # fmt: skip
    flag("-m", "--metadata-snap", action="store_true", help="Check the metadata snapshot on a live pool")
    flag("--override-details-root", type=number(64), metavar="BLOCKNR", help="Specify a details root to use")
    flag("--override-mapping-root", type=number(64), metavar="BLOCKNR", help="Specify a mapping root to use")
    add_quiet(made)
    flag("--skip-mappings", action="store_true", help="Don't check the mapping tree")
    flag("--super-block-only", action="store_true", help="Only check the superblock.")
    flag("input", metavar="INPUT", help="Specify the input device to check")
    made.excludes = {"auto_repair": REPAIR_EXCLUDES, "clear_needs_check_flag": CLEAR_EXCLUDES}
    return made


def run(argv: Sequence[str]) -> int:
    """Check as *argv* says; returns the exit code."""
    args = arguments().parse_args(argv)
    write = args.auto_repair or args.clear_needs_check_flag
    with open_input(args.input, write=write, live=args.metadata_snap, may_be_xml=False) as device:
        from lamella.thin.tools.check import CheckOptions

        options = CheckOptions(
            superblock_only=args.super_block_only,
            skip_mappings=args.skip_mappings,
            snapshot=args.metadata_snap,
            mapping_root=args.override_mapping_root,
            details_root=args.override_details_root,
        )
        say = _Output(quiet=args.quiet)
        report = _check(device, options, say, write=write)
        if write and report.complete and not report.fatal and report.space_map_faults:
            report = _repair(device, report, say)
        good = not report.fatal and (report.ok or args.ignore_non_fatal_errors)
        if good and write:
            from lamella.thin.tools.leak_repair import clear_needs_check

            if clear_needs_check(device):
                say.note("Cleared needs_check flag")
    return 0 if good else 1


class _Output:
    """Messages and results, with ``--quiet`` none."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def note(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr)

    def started(self, report: CheckReport) -> None:
        """The two lines that scripts read."""
        assert report.superblock is not None
        if not self.quiet:
            print(f"TRANSACTION_ID={report.superblock.transaction_id}")
            print(f"METADATA_FREE_BLOCKS={report.free_metadata_blocks}", flush=True)


def _check(device: FileDevice, options: CheckOptions, say: _Output, *, write: bool) -> CheckReport:
    from lamella.thin.tools.check import check

    report = check(device, options, progress=say.note, started=say.started)
    for problem in report.problems:
        say.note(str(problem))
    hidden = report.found.fatal_count + report.found.other_count - len(report.problems)
    if hidden > 0:
        say.note(f"{hidden} more problems are not shown")
    if report.superblock is not None and report.superblock.needs_check and report.ok and not write:
        say.note("the needs_check flag is set; --clear-needs-check-flag clears it")
    if not report.fatal and report.leaks:
        more = "" if write else "; --auto-repair gives it back"
        say.note(f"Leaked: {report.leaks}. No data is in danger{more}")
    return report


def _repair(device: FileDevice, report: CheckReport, say: _Output) -> CheckReport:
    """Write the space maps again; returns the findings that are left."""
    from lamella.thin.tools.leak_repair import repair_leaks

    if report.data_leaks:
        say.note("Repairing data leaks.")
    if report.metadata_leaks:
        say.note("Repairing metadata leaks.")
    again = repair_leaks(device, report)
    for problem in again.problems:
        say.note(str(problem))
    return again
