# SPDX-License-Identifier: Apache-2.0
"""Sizes as LVM2 prints them: ``<40.00g``, ``40.00 GiB``, ``41943040S``, in any unit of ``--units``.

``h`` and ``r`` choose the unit by the size, in powers of 1024; ``r`` also puts ``<`` before a
number that was rounded up. Capital letters are powers of 1000. A number before the letter
makes a unit of one's own, whose mark is ``U``. The rules are those of dm_size_to_string in
LVM2's libdm/libdm-string.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from lamella.block.device import SECTOR
from lamella.errors import UsageError

_UNITS = re.compile(r"(\d*(?:\.\d*)?)([hHrRbBsSkKmMgGtTpPeE])")
_ORDER = "kmgtpe"
_LONG = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_LONG_SI = ("kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(slots=True, eq=False, repr=False)
class Units:
    """How to print sizes: *letter* as in ``--units``, *factor* its bytes; *custom*: one's own unit."""

    letter: str = "r"
    factor: int = 0
    custom: bool = False
    suffix: bool = True
    consistent: bool = True
    """Letters of powers of 1024 are small ones, and their names have an "i"
    (``global/si_unit_consistency``)."""


def parse_units(text: str, *, suffix: bool = True) -> Units:
    """The argument of ``--units``. Raises :class:`UsageError`."""
    found = _UNITS.fullmatch(text)
    if not found:
        raise UsageError("Invalid units specification")
    number, letter = found[1], found[2]
    if letter in "hHrR":
        if number:
            raise UsageError("Invalid units specification")
        return Units(letter, 0, False, suffix)
    factor = unit_bytes(letter)
    if not number or number == ".":
        return Units(letter, factor, False, suffix)
    digits, _, decimals = number.partition(".")
    whole = int((digits or "0") + decimals) * factor // 10 ** len(decimals)
    if whole <= 0:
        raise UsageError("Invalid units specification")
    custom = float(number) != 1
    return Units(letter, whole, custom, suffix)


def unit_bytes(letter: str) -> int:
    """Bytes in a unit of ``--units``."""
    if letter in "bB":
        return 1
    if letter in "sS":
        return SECTOR
    power = _ORDER.index(letter.lower()) + 1
    return int(1024**power if letter.islower() else 1000**power)


@lru_cache(maxsize=4096)
def show(size: int, units: Units) -> str:
    """*size* bytes as a report shows them."""
    if units.factor:
        return _fixed(size, units)
    letter = units.letter
    step = 1024 if letter.islower() else 1000
    if size == 0:
        return "0 " if units.suffix else "0"
    marks = "BKMGTPE" if step == 1000 or not units.consistent else "bkmgtpe"
    return _chosen(size, step, rounding=letter in "rR", marks=marks, suffix=True)


def _chosen(size: int, step: int, *, rounding: bool, marks: str, suffix: bool) -> str:
    power = 1
    while power < 6 and size >= step ** (power + 1):
        power += 1
    factor = step**power
    return _rounded(size, factor, rounding=rounding) + (marks[power] if suffix else "")


def _rounded(size: int, factor: int, *, rounding: bool) -> str:
    text = f"{size / factor:.2f}"
    if not rounding:
        return text
    return f"<{text}" if int(text.replace(".", "")) * factor > size * 100 else text


def _fixed(size: int, units: Units) -> str:
    mark = "" if not units.suffix else ("U" if units.custom else units.letter)
    if units.suffix and (units.letter in "bBsS" or not units.consistent) and not units.custom:
        mark = units.letter.upper()
    if size == 0:
        return f"0{mark}"
    if units.letter in "bBsS" and not units.custom:
        return f"{size // units.factor}{mark}"
    return f"{size / units.factor:.2f}{mark}"


def human(size: int, *, precise: bool = True, decimal: bool = False) -> str:
    """*size* bytes in a message or in ``lvdisplay``: ``<40.00 GiB``.

    *precise* puts the ``<``; *decimal* takes powers of 1000.
    """
    if size == 0:
        return "0   "
    step = 1000 if decimal else 1024
    if size < step:
        return f"{size} B "
    power = 1
    while power < 6 and size >= step ** (power + 1):
        power += 1
    names = _LONG_SI if decimal else _LONG
    return f"{_rounded(size, step**power, rounding=precise)} {names[power - 1]}"
