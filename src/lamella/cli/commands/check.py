# SPDX-License-Identifier: Apache-2.0
"""Verify the whole store and change nothing.

Checks every checksum of the pool's metadata, the reference counts of metadata and data, each device's
file system, and state.db against the pool. Exit code 0: nothing is damaged; 6: something is. Leaked space,
as a power failure may leave it, is reported and is not damage: lamella repair frees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json, open_store
from lamella.cli.progress_line import progress
from lamella.errors import CorruptError

if TYPE_CHECKING:
    import argparse

    from lamella.store import StoreCheck

EXAMPLE = """\
example:
  lamella check && echo all is well
"""
JSON = """\
checked.*               what was checked, with the result of each
problems[]              what is damaged; empty if the exit code is 0
harmless[]              faults that only waste space
leaked                  leaked space; null where it was not counted
leaked.data_chunks      leaked chunks of data
leaked.data_bytes       the same in bytes
leaked.metadata_blocks  leaked blocks of metadata
leaked.metadata_bytes   the same in bytes
leaked.counted_too_high blocks in use whose reference count is too high
advice[]                commands to run next, in this order
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with open_store(args, read_only=True) as store:
        report = store.check(progress=progress(args.quiet))
    if args.json:
        print_json(report.as_dict())
    else:
        for line in report.lines():
            print(line)
        for problem in report.problems:
            print(f"PROBLEM: {problem}")
        for command in report.advice:
            print(f"next: {command}")
        print(_verdict(report))
    return CorruptError.exit_code if report.problems else 0


def _verdict(report: StoreCheck) -> str:
    if report.problems:
        return "The store is damaged."
    if report.leaks:
        return "The store is sound. Some of its space has leaked: lamella repair frees it."
    if report.harmless:
        return "The store is sound. Totals of its space are wrong: lamella repair corrects them."
    return "The store is clean."
