# SPDX-License-Identifier: Apache-2.0
"""Sizes in the units that people read and type."""

from __future__ import annotations

import re

from lamella.errors import UsageError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtpe]?)(i?b)?", re.IGNORECASE)
_STEPS = "kmgtpe"
_LARGEST = (1 << 64) - 1


def whole_number(text: str, most: int = _LARGEST) -> int | None:
    """The number that *text* is in ASCII digits, and nothing else; None if it is none, or more than *most*.

    ``str.isdigit`` takes digits that ``int`` refuses, such as the superscript two, and ``int`` refuses more
    than 4300 of them.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(most)):
        return None
    number = int(digits)
    return number if number <= most else None


def parse_size(text: str) -> int:
    """Bytes in a size such as ``10G``, ``512k``, ``1.5 GiB`` or ``4096``; units are powers of 1024.

    As Docker's ``dm.*`` options have it, ``10G``, ``10GB`` and ``10GiB`` all mean 10 * 1024**3.
    Raises :class:`UsageError` for anything else.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{text!r} is not a size", hint="write it as 10G, 512M, 64K or a number of bytes")
    number, unit = found[1], found[2].lower()
    factor = 1024 ** (_STEPS.index(unit) + 1) if unit else 1
    size = float(number) * factor
    if size > _LARGEST:
        raise UsageError(
            f"{text[:40]!r} is too large a size", hint="the largest devices have less than 16 EiB"
        )
    whole = whole_number(number)
    return int(size) if whole is None else whole * factor


def human_size(size: float) -> str:
    """A size as ``docker info`` prints it: decimal units, four significant digits ("65.54kB", "10.74GB").

    Everything that Lamella's own commands show to people is in these units; what is typed is in powers of
    1024, as in Docker's options, so that 10G is shown as 10.74GB (docs/decisions/137-units.md).
    """
    for unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB"):
        if size < 1000 or unit == "EB":
            break
        size /= 1000
    return f"{size:.4g}{unit}"
