# SPDX-License-Identifier: Apache-2.0
"""What LVM2 2.03.31 (Debian 13) says in other words than 2.03.16, whose words ours are.

Tests that compare with the installed LVM2 judge by its version: the later one's words are turned into the
earlier one's where that can be done, and otherwise :func:`later` chooses what is expected.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from tests.lvm.differential.programs import VERSION, real_version

_CHANGED = (
    # no device-mapper: said by the later one only
    (re.compile(r"  WARNING: Skipping zeroing and wiping, compiled without activation support\.\n"), ""),
    (re.compile(r'(  Volume group "[^"]*" successfully changed)\.(?=\n)'), r"\1"),
    (re.compile(r"  WARNING: (Command on LV \S+ (?:uses options|does not accept))"), r"  \1"),
    (re.compile(r"  WARNING: (Skipping clustered VG )"), r"  \1"),
    (re.compile(r"(Selected chunk size \S+ \S+ cannot address more) than"), r"\1 then"),
)
_LOG = re.compile(r'(?s)\n {6}\],?\n {6},\n {6}"log": \[.*?\n {6}\]')
_LATER_FIELDS = ("integrity_settings",)


@cache
def later() -> bool:
    """Whether the installed LVM2 is later than the one whose words ours are."""
    return _numbers(real_version()) > _numbers(VERSION)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall("[0-9]+", version)]


def earlier_words(out: str, err: str) -> tuple[str, str]:
    """What 2.03.16 would have printed in place of *out* and *err*."""
    if not later():
        return out, err
    if _LOG.search(out):  # JSON ends with a log, which takes the errors
        for row in json.loads(out)["log"]:
            if row["log_type"] == "error":
                err += f"  {row['log_message']}\n"
        out = _LOG.sub("\n      ]", out)
    for pattern, words in _CHANGED:
        out, err = pattern.sub(words, out), pattern.sub(words, err)
    return out, err


def laid_out(text: str) -> str:
    """*text* to be compared with the installed LVM2's: as it is, or with a later one, whose columns are of
    other widths and whose lines end without spaces, but for the number of its spaces.
    """
    if not later():
        return text
    return "\n".join(re.sub(r"(?<=\S) +", " ", line).rstrip() for line in text.split("\n"))


def fields(report: str) -> Any:
    """A report in JSON to be compared: its text, or with a later LVM2, which has further fields and another
    order of them, the fields of both.
    """
    if not later():
        return report
    rows = json.loads(report)
    for part in rows["report"]:
        for objects in part.values():
            for one in objects:
                for name in _LATER_FIELDS:
                    one.pop(name, None)
    return rows
