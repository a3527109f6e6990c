# SPDX-License-Identifier: Apache-2.0
"""Commands that list what has an ID: as a table, as JSON, or only the IDs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lamella.cli.output import print_json, print_table
from lamella.cli.parsing import add_json, short_id

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence


class Listed(Protocol):
    """One entry of a list."""

    @property
    def id(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """``-q``, ``--no-trunc`` and ``--json``."""
    parser.add_argument("-q", action="store_true", dest="only_ids", help="only the IDs")
    parser.add_argument("--no-trunc", action="store_true", help="whole IDs")
    add_json(parser)


def shown_id(args: argparse.Namespace, identity: str) -> str:
    """An ID, shortened unless the options ask for whole ones."""
    return identity if args.no_trunc else short_id(identity)


def print_list(
    args: argparse.Namespace, found: Iterable[Listed], headings: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Print *found* as the options ask; *headings* and *rows* are those of the table."""
    if args.json:
        print_json([each.as_dict() for each in found])
    elif args.only_ids:
        for each in found:
            print(shown_id(args, each.id))
    else:
        print_table(headings, list(rows))
