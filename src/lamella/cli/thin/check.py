# SPDX-License-Identifier: Apache-2.0
"""``thin_check``: check the metadata in a file or device."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.thin.arguments import number, open_input, parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from lamella.block import FileDevice
    from lamella.thin.tools.check import CheckOptions, CheckReport

REPAIR_FORBIDS = (
    "ignore_non_fatal_errors", "metadata_snap", "override_mapping_root", "override_details_root",
    "super_block_only", "skip_mappings",
)  # fmt: skip
CLEAR_FORBIDS = ("metadata_snap", "override_mapping_root", "override_details_root")


def arguments() -> argparse.ArgumentParser:
    """The tool's command line."""
    made = parser("thin_check", "Check thin provisioning metadata in a device or file.")
    flag = made.add_argument
    flag("--auto-repair", action="store_true", help="give leaked blocks back, and clear needs_check")
    flag("--clear-needs-check-flag", action="store_true", help="clear needs_check if the check succeeds")
    flag("--ignore-non-fatal-errors", action="store_true", help="fail for fatal damage only")
    flag("-m", "--metadata-snap", action="store_true", help="check the metadata snapshot of a live pool")
    flag("--override-details-root", type=number(64), metavar="BLOCKNR", help="the details root to use")
    flag("--override-mapping-root", type=number(64), metavar="BLOCKNR", help="the mapping root to use")
    flag("-q", "--quiet", action="store_true", help="print nothing, only exit")
    flag("--skip-mappings", action="store_true", help="do not check the mapping tree")
    flag("--super-block-only", action="store_true", help="check the superblock only")
    flag("input", metavar="INPUT", help="the device or file to check")
    return made


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    made = arguments()
    args = made.parse_args(argv)
    for chosen, forbidden in (("auto_repair", REPAIR_FORBIDS), ("clear_needs_check_flag", CLEAR_FORBIDS)):
        for other in forbidden:
            # Root block 0 is given, however wrong; only an absent option is False or None.
            given = getattr(args, other) is not None and getattr(args, other) is not False
            if getattr(args, chosen) and given:
                first, second = (f"--{name.replace('_', '-')}" for name in (chosen, other))
                made.error(f"the argument '{first}' cannot be used with '{second}'")
    return args


def run(argv: Sequence[str]) -> int:
    """Check as *argv* says; returns the exit code."""
    args = _parse(argv)
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
        report = _check(device, options, say)
        if args.auto_repair and report.complete and not report.fatal and report.space_map_faults:
            report = _repair(device, report, say)
        good = not report.fatal and (report.ok or args.ignore_non_fatal_errors)
        if good and write and not args.super_block_only:
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


def _check(device: FileDevice, options: CheckOptions, say: _Output) -> CheckReport:
    from lamella.thin.tools.check import check

    report = check(device, options, progress=say.note, started=say.started)
    for problem in report.problems:
        say.note(str(problem))
    hidden = report.found.fatal_count + report.found.other_count - len(report.problems)
    if hidden > 0:
        say.note(f"{hidden} more problems are not shown")
    if report.superblock is not None and report.superblock.needs_check and report.ok:
        say.note("the needs_check flag is set; --clear-needs-check-flag clears it")
    if not report.fatal and report.leaks:
        say.note(f"Leaked: {report.leaks}. No data is in danger; --auto-repair gives it back")
    return report


def _repair(device: FileDevice, report: CheckReport, say: _Output) -> CheckReport:
    """Write the space maps again; returns the findings that are left."""
    from lamella.thin.tools.leak_repair import repair_leaks

    again = repair_leaks(device, report)
    say.note("Repaired the space maps")
    for problem in again.problems:
        say.note(str(problem))
    return again
