# SPDX-License-Identifier: Apache-2.0
"""How a report is laid out: columns, rows, name prefixes, or JSON, as LVM2's libdm-report.c has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.lvm.report.fields import LIST, NUMBER, PERCENT, SIGNED, SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.report.fields import Field

INDENT = "  "


@dataclass(slots=True, eq=False, repr=False)
class Layout:
    """The options of a report that only concern its looks."""

    separator: str = " "
    aligned: bool = True
    headings: bool = True
    rows: bool = False
    prefixes: bool = False
    quoted: bool = True


TITLES = {
    "lv": "Logical Volume",
    "seg": "Logical Volume Segment",
    "vg": "Volume Group",
    "pv": "Physical Volume",
    "pvseg": "Physical Volume Segment",
    "devtype": "Device Types",
    "log": "Command Log",
}
"""What stands above each report where there may be several."""


def titled(title: str, text: str) -> str:
    """A report below its title."""
    return f"{INDENT}{title}\n{INDENT}{'=' * len(title)}\n{text}"


def text_report(
    fields: Sequence[Field], table: Sequence[Sequence[str]], layout: Layout, *, always: bool = False
) -> str:
    """The report as text; *table* has one sequence of strings per line. "" if there is none, unless
    *always*: then the headings remain.
    """
    if not table and not always:
        return ""
    if layout.rows:
        return _transposed(fields, table, layout)
    if not layout.aligned:
        return _unaligned(fields, table, layout)
    columns = []
    for index, field in enumerate(fields):
        cells = [line[index] for line in table]
        distinct = set(cells)
        width = max(field.width or len(field.heading), max(map(len, distinct), default=0))
        pad = str.rjust if field.right else str.ljust
        padded = {cell: _cell(field, pad(cell, width), layout) for cell in distinct}
        shown = [padded[cell] for cell in cells]
        if layout.headings:
            shown.insert(0, field.heading[:width].ljust(width))
        columns.append(shown)
    join = layout.separator.join
    return "".join([f"{INDENT}{join(line)}\n" for line in zip(*columns, strict=True)])


def _cell(field: Field, text: str, layout: Layout) -> str:
    if not layout.prefixes:
        return text
    quote = "'" if layout.quoted else ""
    return f"LVM2_{field.name.upper()}={quote}{text}{quote}"


def _unaligned(fields: Sequence[Field], table: Sequence[Sequence[str]], layout: Layout) -> str:
    lines = [layout.separator.join(field.heading for field in fields)] if layout.headings else []
    lines += [
        layout.separator.join(_cell(field, text, layout) for field, text in zip(fields, line, strict=True))
        for line in table
    ]
    return "".join(f"{INDENT}{line}\n" for line in lines)


def _transposed(fields: Sequence[Field], table: Sequence[Sequence[str]], layout: Layout) -> str:
    """Each field on a line of its own; nothing is aligned."""
    lines = []
    for index, field in enumerate(fields):
        cells = [field.heading] if layout.headings else []
        cells += [_cell(field, row[index], layout) for row in table]
        lines.append(layout.separator.join(cells))
    return "".join(f"{INDENT}{line}\n" for line in lines)


def compact(fields: Sequence[Field], table: Sequence[Sequence[str]], chosen: set[str] | None) -> list[int]:
    """Indexes of the columns that stay when those with nothing in them are left out.

    *chosen* names the columns that may be left out; None: any.
    """
    return [
        index
        for index, field in enumerate(fields)
        if (chosen is not None and field.name not in chosen) or any(line[index] for line in table)
    ]


def json_section(
    name: str,
    fields: Sequence[Field],
    table: Sequence[Sequence[str]],
    lists: Sequence[Sequence[object]] | None,
) -> str:
    """One section of a group in a JSON report. *lists* holds the values themselves for ``json_std``, else
    None.
    """
    return _json_list(name, _json_rows(fields, table, lists), 14)


def _json_rows(
    fields: Sequence[Field], table: Sequence[Sequence[str]], lists: Sequence[Sequence[object]] | None
) -> list[str]:
    lines = []
    keys = [f'"{field.name}":' for field in fields]
    for at, line in enumerate(table):
        if lists is None:
            cells = [key + '"' + _escape(text) + '"' for key, text in zip(keys, line, strict=True)]
        else:
            cells = [
                key + _standard(field, text, value)
                for key, field, text, value in zip(keys, fields, line, lists[at], strict=True)
            ]
        lines.append("{" + ", ".join(cells) + "}")
    return lines


def _json_list(name: str, rows: Sequence[str], indent: int) -> str:
    pad = " " * indent
    inner = ",\n".join(f"{pad}    {row}" for row in rows)
    inner = f"\n{inner}" if inner else ""
    return f'{pad}"{name}": [{inner}\n{pad}]'


def _escape(text: str) -> str:
    if '"' in text or "\\" in text or not text.isprintable():
        import json

        return json.dumps(text, ensure_ascii=False)[1:-1]
    return text


def _standard(field: Field, text: str, value: object) -> str:
    if field.kind == LIST and isinstance(value, list):
        return "[" + ",".join(f'"{_escape(str(item))}"' for item in value) + "]"
    if field.kind in (NUMBER, SIGNED, PERCENT, SIZE):
        if not text:
            return "null"
        if text.lstrip("-").replace(".", "", 1).isdigit():
            return text
    return f'"{_escape(text)}"'


def json_group(sections: Sequence[str]) -> str:
    """One element of a JSON report: the sections about one group, or those of a simple report."""
    inner = "\n              ,\n".join(sections)
    return f"          {{\n{inner}\n          }}"


def json_report(groups: Sequence[str] | None, log: str = "") -> str:
    """A whole JSON document: a report's elements (None: there is no report) and the command log."""
    parts = []
    if groups is not None:
        inner = "\n          ,\n".join(groups)
        inner = f"\n{inner}" if inner else ""
        parts.append(f'      "report": [{inner}\n      ]')
    if log:
        parts.append(log)
    return "  {\n" + "\n      ,\n".join(parts) + ("\n" if parts else "") + "  }\n"


def json_log(
    fields: Sequence[Field], table: Sequence[Sequence[str]], lists: Sequence[Sequence[object]] | None
) -> str:
    """The command log for :func:`json_report`."""
    return _json_list("log", _json_rows(fields, table, lists), 6)
