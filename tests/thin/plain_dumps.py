# SPDX-License-Identifier: Apache-2.0
"""Dumps of all versions of thin_dump in one form, that of 0.9: each device with all of its mappings.

The 1.x series writes what devices share once (``def`` and ``ref``), no ``flags`` of 0, no newline at the end,
and for people a range for every mapping.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Run = tuple[int, int, int, int]
"""(first block, first data block, length, time)"""

_XML = re.compile(
    r'    <(?:single_mapping origin_block|range_mapping origin_begin)="(\d+)" data_(?:block|begin)="(\d+)"'
    r'(?: length="(\d+)")? time="(\d+)"/>'
)
_HUMAN = re.compile(r"    \(?(\d+)(?:\.\.(\d+)\))? -> \(?(\d+)(?:\.\.\d+\))?, (\d+)")
_REFER = re.compile(r'    (?:<ref name="|ref: )(\d+)(?:"/>)?')
_SHARED = re.compile(r'(?:  <def name="|def: )(\d+)(?:">)?')


def plain(text: str) -> str:
    """*text* of any version, as 0.9 writes it."""
    human = not text.startswith("<")
    shared: dict[str, list[Run]] = {}
    runs: list[Run] = []
    lines: list[str] = []
    in_shared = False
    for line in text.splitlines():
        if found := _SHARED.fullmatch(line):
            runs = shared[found[1]] = []
            in_shared = True
        elif found := _REFER.fullmatch(line):
            runs += shared[found[1]]
        elif found := _HUMAN.fullmatch(line) if human else _XML.fullmatch(line):
            runs.append(_run(found, human=human))
        elif in_shared:
            assert line == ("" if human else "  </def>")
            runs, in_shared = [], False
        else:
            lines += [*_lines(runs, human=human), line]
            runs = []
    return "".join(f"{line}\n" for line in _flagged(lines))


def _flagged(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        if line.startswith("<superblock") and " flags=" not in line:
            line = line.replace(" version=", ' flags="0" version=')
        yield line


def _run(found: re.Match[str], *, human: bool) -> Run:
    begin, middle, data, last = found.groups()
    if not human:
        begin, data, length, time = found.groups()
        return int(begin), int(data), int(length or 1), int(time)
    return int(begin), int(data), int(middle or begin) - int(begin) + 1, int(last)


def _lines(runs: list[Run], *, human: bool) -> Iterable[str]:
    joined: list[Run] = []
    for begin, data, length, time in runs:
        if joined:
            first, other, count, when = joined[-1]
            if (first + count, other + count, when) == (begin, data, time):
                joined[-1] = (first, other, count + length, when)
                continue
        joined.append((begin, data, length, time))
    for begin, data, length, time in joined:
        if human and length == 1:
            yield f"    {begin} -> {data}, {time}"
        elif human:
            yield f"    ({begin}..{begin + length - 1}) -> ({data}..{data + length - 1}), {time}"
        elif length == 1:
            yield f'    <single_mapping origin_block="{begin}" data_block="{data}" time="{time}"/>'
        else:
            yield (
                f'    <range_mapping origin_begin="{begin}" data_begin="{data}" length="{length}" '
                f'time="{time}"/>'
            )
