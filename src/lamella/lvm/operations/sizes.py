# SPDX-License-Identifier: Apache-2.0
"""Sizes as LVM2 reads them: ``10g``, ``512s``, ``+20%LV``, and their rounding to extents.

Units that a person types are powers of 1024 whatever their case. (Units of *output* are another
matter, see :mod:`lamella.lvm.report.units`.) The words of the errors are LVM2's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import UsageError
from lamella.lvm.report.units import human
from lamella.units import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SHIFTS = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_PERCENT = re.compile(r"([0-9]+)(?:%(.*))?", re.DOTALL)
_LIMIT = 16 << 60
PERCENT_OF = ("VG", "FREE", "PVS", "LV", "ORIGIN")
MAX_EXTENTS = 0xFFFFFFFF


@dataclass(slots=True)
class Size:
    """A size in bytes, and the sign that was typed before it ("", "+" or "-")."""

    size: int
    sign: str = ""


@dataclass(slots=True)
class Extents:
    """A number of extents or, with *of* (one of :data:`PERCENT_OF`), a percentage."""

    number: int
    of: str = ""
    sign: str = ""

    def __str__(self) -> str:
        return f"{self.number}%{self.of}" if self.of else str(self.number)


def parse_size(text: str, *, unit: str = "m", signs: str = "+") -> Size:
    """The size in *text*; *unit* is the one without a letter, *signs* are those allowed before it.

    Raises :class:`UsageError` with LVM2's message. Bytes must be a multiple of 512.
    """
    sign = text[:1] if text[:1] in ("+", "-") else ""
    if sign == "-" and sign not in signs:
        raise UsageError("Size may not be negative.")
    if sign == "+" and sign not in signs:
        raise UsageError("Size may not be positive.")
    body = text[len(sign) :]
    found = _NUMBER.match(body)
    if not found:
        raise UsageError("Size requires number argument.")
    digits, letter = found[0], body[found.end() : found.end() + 1].lower()
    hexadecimal = digits[:2] in ("0x", "0X")
    number = float(min(int(digits, 16), _LIMIT)) if hexadecimal else float(digits)
    letter = letter or unit
    if letter not in "bskmgtpe":
        raise UsageError("Can't parse size argument.")
    if letter == "b":
        size = number
    elif letter == "s":
        size = number * SECTOR
    else:
        size = number * (1 << _SHIFTS[letter])
    if size >= _LIMIT:
        raise UsageError("Size is too big (>=16EiB).")
    exact = whole_number(digits)
    whole = int(size) if exact is None else exact << _SHIFTS.get(letter, 0)
    if exact is not None and letter == "s":
        whole *= SECTOR
    if letter == "b" and whole % SECTOR:
        low = whole // SECTOR * SECTOR
        raise UsageError(f"Size is not a multiple of 512. Try using {low} or {low + SECTOR}.")
    return Size(whole // SECTOR * SECTOR, sign)


def parse_extents(text: str, *, signs: str = "+") -> Extents:
    """The extents or the percentage in *text* (``100``, ``+20%LV``, ``100%FREE``).

    Raises :class:`UsageError`; its message is "" where LVM2 says nothing of its own.
    """
    sign = text[:1] if text[:1] in ("+", "-") else ""
    if sign == "-" and sign not in signs:
        raise UsageError("Extents may not be negative.")
    if sign == "+" and sign not in signs:
        raise UsageError("Extents may not be positive.")
    found = _PERCENT.fullmatch(text[len(sign) :])
    if not found:
        raise UsageError("")
    exact = whole_number(found[1], MAX_EXTENTS)
    number = MAX_EXTENTS if exact is None else exact
    if found[2] is None:
        return Extents(number, "", sign)
    word = found[2].upper()
    for of in PERCENT_OF:
        if word and of.startswith(word):
            return Extents(number, of, sign)
    raise UsageError(f"Specified %{found[2]} is unknown.")


def to_extents(size: int, extent_size: int, *, say: Callable[[str], None]) -> int:
    """Extents for *size* bytes, rounded up; *say* gets LVM2's line if that changes it.

    Raises :class:`UsageError` for more than a volume can have.
    """
    extents = -(-size // extent_size)
    if extents > MAX_EXTENTS:
        raise UsageError(
            f"Volume too large ({human(size)}) for extent size {human(extent_size)}. "
            f"Upper limit is less than {human(MAX_EXTENTS * extent_size)}.",
            hint="give a smaller size",
        )
    if extents * extent_size != size:
        say(f"Rounding up size to full physical extent {human(extents * extent_size)}")
    return extents


def percent_of(number: int, whole: int, *, up: bool = False) -> int:
    """*number* per cent of *whole* extents, rounded down, or *up* where LVM2 rounds up."""
    return min(-(-number * whole // 100) if up else number * whole // 100, MAX_EXTENTS)


def stripe_boundary(
    extents: int, stripes: int, extent_size: int, *, say: Callable[[str], None], limit: int | None = None
) -> int:
    """*extents* as a multiple of *stripes*, with LVM2's line about the change.

    Rounded up, or down where more than the *limit* would be needed.
    """
    if stripes < 2 or extents % stripes == 0:
        return extents
    rounded = -(-extents // stripes) * stripes
    if limit is not None and rounded > limit:
        rounded = extents // stripes * stripes
        say(f"Rounding size ({extents} extents) down to stripe boundary size ({rounded} extents)")
        return rounded
    say(
        f"Rounding size {human(extents * extent_size)} ({extents} extents) up to stripe boundary size "
        f"{human(rounded * extent_size)} ({rounded} extents)."
    )
    return rounded


def parse_number(text: str, *, signs: str = "") -> int:
    """A whole number as LVM2's options take it. Raises :class:`UsageError` with an empty message."""
    sign = text[:1] if text[:1] in ("+", "-") else ""
    if sign and sign not in signs:
        raise UsageError("")
    number = whole_number(text[len(sign) :], MAX_EXTENTS)
    if number is None:
        raise UsageError("")
    return -number if sign == "-" else number
