# SPDX-License-Identifier: Apache-2.0
"""``dmsetup info -c``: chosen fields of each device as a table, sorted as asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from lamella.cli.dmsetup.backend import FieldError, asked, look_up
from lamella.cli.dmsetup.fields import FIELDS, SECTIONS, Cell, Field, Row, help_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lamella.cli.dmsetup.backend import Source
    from lamella.cli.dmsetup.options import Options

DEFAULT = ("name", "major", "minor", "attr", "open", "segments", "events", "uuid")


class _Key(NamedTuple):
    field: Field
    down: bool


def print_report(devices: Source, options: Options) -> None:
    """The table of all devices, or of those named."""
    try:
        columns = _columns(options.fields)
        keys = _keys(options.sort)
    except FieldError:
        sys.stderr.write(help_text())
        raise
    if any(word in ("help", "?") for text in options.fields for word in text.lstrip("+").split(",")):
        sys.stderr.write(help_text())
        return
    names, _ = asked(options, devices)
    if not names:
        sys.stdout.write("No devices found\n")
        return
    rows: list[list[Cell]] = []
    ranks: list[list[Cell]] = []
    try:
        for name in names:
            row = Row(devices, look_up(devices, name, options), options)
            rows.append([field.value(row) for field in columns])
            ranks.append([key.field.value(row) for key in keys])
    finally:
        order = list(range(len(rows)))
        for at in reversed(range(len(keys))):
            values = [rank[at] for rank in ranks]
            order.sort(key=values.__getitem__, reverse=keys[at].down)
        _write(columns, [rows[at] for at in order if at < len(rows)], options)


def _columns(asked_for: Iterable[str]) -> list[Field]:
    names: list[str] = []
    for text in asked_for:
        names = names or list(DEFAULT) if text.startswith("+") else []
        names += _expanded(text.removeprefix("+"), "Unrecognised field: ")
    return [FIELDS[name] for name in names or DEFAULT]


def _expanded(text: str, refusal: str) -> list[str]:
    found: list[str] = []
    for word in filter(None, text.split(",")):
        if word in ("help", "?"):
            continue
        if word in SECTIONS:
            found += [name for name in SECTIONS[word] if name not in found]
        elif word in FIELDS:
            found.append(word)
        else:
            raise FieldError(refusal + word)
    return found


def _keys(text: str) -> list[_Key]:
    keys = []
    for word in filter(None, text.split(",")):
        names = _expanded(word.lstrip("+-"), "dm_report: Unrecognised field: ")
        keys += [_Key(FIELDS[name], word.startswith("-")) for name in names]
    return keys


def _write(columns: Sequence[Field], rows: Sequence[Sequence[Cell]], options: Options) -> None:
    prefixes, headings = "nameprefixes" in options, "noheadings" not in options
    quote = "" if "unquoted" in options else "'"

    def cell(field: Field, value: Cell) -> str:
        return f"DM_{field.name.upper()}={quote}{value}{quote}" if prefixes else str(value)

    table = [[cell(field, value) for field, value in zip(columns, row, strict=True)] for row in rows]
    if not table:
        return
    separator = options.separator if options.separator is not None else " " if headings else ":"
    heads = [field.heading for field in columns]
    aligned = headings and options.separator is None and not prefixes and "rows" not in options
    if aligned:
        widths = [
            max(field.width, len(field.heading), *(len(row[at]) for row in table))
            for at, field in enumerate(columns)
        ]
        heads = [head.ljust(width) for head, width in zip(heads, widths, strict=True)]
        table = [
            [
                text.rjust(width) if field.right else text.ljust(width)
                for field, text, width in zip(columns, row, widths, strict=True)
            ]
            for row in table
        ]
    lines = [heads, *table] if headings else table
    if "rows" in options:
        lines = [list(line) for line in zip(*lines, strict=True)]
    sys.stdout.write("".join(separator.join(line) + "\n" for line in lines))
