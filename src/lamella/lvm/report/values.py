# SPDX-License-Identifier: Apache-2.0
"""From a field and a row to what is printed, and to what is sorted and selected by."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lamella.lvm.report.fields import ALONE, BINARY, LIST, NUMBER, PERCENT, SIGNED, SIZE, TIME, Field
from lamella.lvm.report.units import Units, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.report.view import Row

ENDLESS = 1 << 64
"""Sorts ``auto``, ``unmanaged`` and other words of numeric fields after every number."""


def getter(field: Field) -> Callable[[Row], Any]:
    """The function that gives a field's value for a row."""
    if field.section in ("lv", "lvinfo", "lvstatus", "lvinfostatus"):
        from lamella.lvm.report.lv_values import VALUES as values
    elif field.section == "seg":
        from lamella.lvm.report.segment_values import VALUES as values
    elif field.section == "vg":
        from lamella.lvm.report.vg_values import VALUES as values
    elif field.section in ALONE:
        name = field.name.removeprefix(f"{field.section}_")
        return lambda row: getattr(row.entry, name)
    elif field.section == "special":
        return lambda row: True
    else:
        from lamella.lvm.report.pv_values import VALUES as values
    return values[field.name]


def column(field: Field, rows: list[Row], kind: str) -> list[Any]:
    """A field's values for all rows of a report of that *kind*."""
    if kind in ("lv", "seg") and field.section in ("lv", "lvinfo", "lvstatus", "lvinfostatus"):
        from lamella.lvm.report.lv_values import column as of_volumes

        return of_volumes(field.name, rows)
    get = getter(field)
    if field.section == "vg" and kind in ("lv", "seg", "pvseg"):
        seen: dict[int, Any] = {}
        for row in rows:
            if id(row.view) not in seen:
                seen[id(row.view)] = get(row)
        return [seen[id(row.view)] for row in rows]
    return [get(row) for row in rows]


def put_all(put: Callable[[Any], str], cells: list[Any]) -> list[str]:
    """Every value as text; a repeated one is formatted once."""
    try:
        distinct = set(cells)
    except TypeError:  # lists cannot be in a set
        return [put(value) for value in cells]
    if len(distinct) == len(cells):
        return [put(value) for value in cells]
    texts = {value: put(value) for value in distinct}
    return [texts[value] for value in cells]


@lru_cache(maxsize=1024)
def show_time(seconds: int, layout: str) -> str:
    """A time of the epoch in the local zone."""
    return time.strftime(layout, time.localtime(seconds))


def _percent(value: float) -> str:
    """Two digits; only what is quite empty or quite full is shown as 0.00 or 100.00."""
    if 0 < value < 0.01:
        return "0.01"
    if 99.99 < value < 100:
        return "99.99"
    return f"{value:.2f}"


def printer(
    field: Field, units: Units, *, binary: bool, time_format: str, separator: str = ","
) -> Callable[[Any], str]:
    """The function that turns a field's value into text. Strings stand for themselves in any field.

    *separator* stands between the items of a list.
    """
    kind = field.kind
    if kind == SIZE:
        return lambda value: value if isinstance(value, str) else "" if value is None else show(value, units)
    if kind == BINARY:
        true, unknown = ("1", "-1") if binary else (field.words[0] if field.words else "1", "unknown")
        false = "0" if binary or not field.words else ""

        def flag(value: Any) -> str:
            if value is None:
                return unknown
            return value if isinstance(value, str) else true if value else false

        return flag
    if kind in (NUMBER, SIGNED):
        return lambda value: "" if value is None else str(value)
    if kind == PERCENT:
        return lambda value: value if isinstance(value, str) else "" if value is None else _percent(value)
    if kind == LIST:
        return lambda value: value if isinstance(value, str) else separator.join(value)
    if kind == TIME:
        return lambda value: (
            value if isinstance(value, str) else "" if value is None else show_time(value, time_format)
        )
    return str


def sort_key(field: Field, value: Any) -> Any:
    """What a column is sorted by; one kind of field gives one kind of key."""
    if field.kind in (NUMBER, SIGNED, SIZE, PERCENT, TIME, BINARY):
        if value is None or value == "":
            return -1
        return ENDLESS if isinstance(value, str) and not value.lstrip("-").isdigit() else float(value)
    if field.kind == LIST:
        return value if isinstance(value, str) else ",".join(value)
    text = str(value)
    if field.name == "lv_name" and text[:1] in ("[", "-"):  # what is hidden, or removed
        return text[1:-1] if text[0] == "[" else text[1:]
    return text
