# SPDX-License-Identifier: Apache-2.0
"""Sizes in the units that people read and type."""

from __future__ import annotations

import re

from lamella.errors import UsageError

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtpe]?)(i?b)?\s*$", re.IGNORECASE)
_STEPS = "kmgtpe"


def parse_size(text: str) -> int:
    """Bytes in a size such as ``10G``, ``512k``, ``1.5 GiB`` or ``4096``; units are powers of 1024.

    As Docker's ``dm.*`` options have it, ``10G``, ``10GB`` and ``10GiB`` all mean 10 * 1024**3.
    Raises :class:`UsageError` for anything else.
    """
    found = _SIZE.match(text)
    if not found:
        raise UsageError(f"{text!r} is not a size", hint="write it as 10G, 512M, 64K or a number of bytes")
    number, unit = found[1], found[2].lower()
    factor = 1024 ** (_STEPS.index(unit) + 1) if unit else 1
    return int(number) * factor if number.isdigit() else int(float(number) * factor)


def human_size(size: float) -> str:
    """A size as ``docker info`` prints it: decimal units, four significant digits ("65.54kB", "10.74GB")."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB"):
        if size < 1000 or unit == "EB":
            break
        size /= 1000
    return f"{size:.4g}{unit}"


def binary_size(size: float) -> str:
    """A size in powers of 1024, as a person reads it: "64 KiB", "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if size < 1024 or unit == "EiB":
            break
        size /= 1024
    return f"{size:.4g} {unit}"
