# SPDX-License-Identifier: Apache-2.0
"""Commands that list things: as a table, as JSON, by a template, or only the IDs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lamella.cli.output import print_json, print_table
from lamella.cli.parsing import add_json, short_id

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    Row = Mapping[str, Any]

COLUMN_LEAST, COLUMN_GAP = 10, 3
"""Width of a template's columns and the space between them, as Docker's."""


class Listed(Protocol):
    """One entry of a list."""

    @property
    def id(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """``-q``, ``--no-trunc``, ``--format`` and ``--json``."""
    parser.add_argument("-q", "--quiet", action="store_true", dest="only_ids", help="only the IDs")
    parser.add_argument("--no-trunc", action="store_true", help="whole IDs and texts")
    add_format(parser)
    add_json(parser)


def add_filter(parser: argparse.ArgumentParser, *names: str) -> None:
    """``--filter``, and further *names* for it."""
    parser.add_argument(
        *names,
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only what fits; may be repeated",
    )


def add_format(parser: argparse.ArgumentParser, *names: str) -> None:
    """``--format``, and further *names* for it."""
    parser.add_argument(
        *names,
        "--format",
        metavar="TEMPLATE",
        help="print this Go template for each, as Docker does; with 'table ' before it, in columns under "
        "headings; 'json' prints all fields",
    )


def shown_id(args: argparse.Namespace, identity: str) -> str:
    """An ID, shortened unless the options ask for whole ones."""
    return identity if args.no_trunc else short_id(identity)


def time_shown(moment: datetime) -> str:
    """A time as Docker's lists show it, in UTC ("2024-01-02 03:04:05 +0000 UTC")."""
    from datetime import UTC

    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")


def shortened(args: argparse.Namespace, text: str, length: int) -> str:
    """*text* on one line, and cut to *length* characters unless the options ask for all of it."""
    text = text.replace("\t", " ")
    return text if args.no_trunc or len(text) <= length else f"{text[: length - 1]}…"


def print_list(
    args: argparse.Namespace,
    found: Iterable[Listed],
    rows: Sequence[Row],
    headings: Mapping[str, Any],
    columns: Sequence[str],
) -> None:
    """Print *found* as the options ask.

    *rows* are the values by the names that Docker's templates have for them, *headings* the columns' headings
    by the same names, *columns* those of the plain table.
    """
    if args.json:
        print_json([each.as_dict() for each in found])
    elif args.only_ids:
        for each in found:
            print(shown_id(args, each.id))
    elif args.format and args.format != "table":
        print_rows(args.format, [dict(sorted(row.items())) for row in rows], headings)
    else:
        print_table([headings[name] for name in columns], [[row[name] for name in columns] for row in rows])


def print_rows(template: str, rows: Sequence[Row], headings: Mapping[str, Any]) -> None:
    """Print each row by a template of Docker's: ``table TEMPLATE``, ``json`` or a plain one."""
    from lamella.cli.go_template import Template

    template = template.replace("\\t", "\t").replace("\\n", "\n")
    if template == "json":
        template = "{{json .}}"
    table = template.startswith("table ")
    parsed = Template(template.removeprefix("table ") if table else template)
    lines = [parsed.render(row) for row in rows]
    if table:
        lines = _in_columns([parsed.render({**headings}), *lines])
    for line in lines:
        print(line)


def _in_columns(lines: Sequence[str]) -> list[str]:
    """Cells that end with a tab, under each other (Go's text/tabwriter, as Docker sets it up)."""
    cells = [line.split("\t") for line in lines]
    count = max(len(row) for row in cells)
    widths = [
        max([COLUMN_LEAST, *(len(row[column]) + COLUMN_GAP for row in cells if len(row) > column + 1)])
        for column in range(count)
    ]
    return [
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1]
        for row in cells
    ]
