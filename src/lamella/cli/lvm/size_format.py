# SPDX-License-Identifier: Apache-2.0
"""Sizes as the display commands and messages print them."""

from __future__ import annotations

from lamella.lvm.report.units import Units, human

_SHORT = {"k": "KiB", "m": "MiB", "g": "GiB", "t": "TiB", "p": "PiB", "e": "EiB"}
_SHORT_SI = {"K": "kB", "M": "MB", "G": "GB", "T": "TB", "P": "PB", "E": "EB"}


class Sizes:
    """Formats sizes with the longer names of units: ``<40.00 GiB``."""

    def __init__(self, units: Units) -> None:
        self._units = units

    def show(self, size: int) -> str:
        """*size* bytes in the units that were asked for."""
        text = self._show(size)
        return text if self._units.consistent else text.replace("iB", "B").replace("kB", "KB")

    def _show(self, size: int) -> str:
        units = self._units
        if not units.factor:
            return human(size, precise=units.letter in "rR", decimal=units.letter in "HR")
        if units.custom:
            mark = "Un"
        elif units.letter in "bB":
            mark = "B "
        elif units.letter in "sS":
            mark = "Se"
        else:
            mark = _SHORT.get(units.letter) or _SHORT_SI[units.letter]
        whole = units.letter in "bBsS" and not units.custom
        number = str(size // units.factor) if whole or not size else f"{size / units.factor:.2f}"
        return f"{number} {mark}" if units.suffix else number
