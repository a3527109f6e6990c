# SPDX-License-Identifier: Apache-2.0
"""Lines of text around whole columns of numbers, written without a Python step per line.

Each line is a row of fixed width in an array of 32-bit words: literal text and numbers start at multiples
of four bytes, a number takes four digits per word from a table, and whatever is not used is a NUL byte.
Deleting the NULs from all rows at once leaves the lines.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lamella.thin.format.arrays import Uint32s, Uint64s

LINES_AT_ONCE = 4096
"""Rows of one array; half a megabyte, which stays in the processor's cache."""


class Field(NamedTuple):
    """Literal text before a number, for each kind of line, and whether zero is left out."""

    before: Sequence[str]
    blank_zero: bool = False


class Layout(NamedTuple):
    """All kinds of lines have the same numbers in the same order; *end* closes the line, for each kind."""

    fields: Sequence[Field]
    end: Sequence[str]


@cache
def _digits() -> Uint32s:
    """Words for 0 to 9999: from 0 on without leading zeros (0 is nothing), from 10000 on with all four
    digits, from 20000 on as the first but with "0" for 0."""
    table = np.zeros((30000, 4), dtype=np.uint8)
    numbers = np.arange(10000)
    for place, power in enumerate((1000, 100, 10, 1)):
        digit = (numbers // power % 10 + ord("0")).astype(np.uint8)
        table[10000:20000, place] = digit
        table[:10000, place] = np.where(numbers >= power, digit, 0)
    table[20000:] = table[:10000]
    table[20000, 3] = ord("0")
    words: Uint32s = table.view("<u4").ravel()
    return words


def render(layout: Layout, kinds: npt.NDArray[np.intp], columns: Sequence[Uint64s]) -> bytes:
    """The text of all lines: *kinds* (n,) chooses each line's literals, *columns* are its numbers (n,)."""
    pieces = []
    for start in range(0, len(kinds), LINES_AT_ONCE):
        part = slice(start, start + LINES_AT_ONCE)
        pieces.append(_render_some(layout, kinds[part], [column[part] for column in columns]))
    return b"".join(pieces)


def _render_some(layout: Layout, kinds: npt.NDArray[np.intp], columns: Sequence[Uint64s]) -> bytes:
    groups = tuple(-(-len(str(int(column.max()))) // 4) for column in columns)
    template, places = _template(_freeze(layout), groups)
    rows = template[kinds]
    digits = _digits()
    for field, column, place, count in zip(layout.fields, columns, places, groups, strict=True):
        rest = column.astype(np.uint32) if count <= 2 else column
        for group in range(count - 1, -1, -1):
            higher = rest // 10000
            low = rest - higher * 10000
            alone = 20000 if group == count - 1 and not field.blank_zero else 0
            rows[:, place + group] = digits[low + np.where(higher > 0, 10000, alone).astype(rest.dtype)]
            rest = higher
    return rows.tobytes().translate(None, b"\0")


_Frozen = tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]


def _freeze(layout: Layout) -> _Frozen:
    return tuple(tuple(field.before) for field in layout.fields), tuple(layout.end)


@cache
def _template(frozen: _Frozen, groups: tuple[int, ...]) -> tuple[Uint32s, tuple[int, ...]]:
    """One row for each kind of line with its literals, and the word at which each number starts."""
    befores, end = frozen
    rows = [b""] * len(end)
    places = []
    for texts, count in zip((*befores, end), (*groups, 0), strict=True):
        longest = max(len(text) for text in texts)
        width = -(-longest // 4) * 4
        rows = [row + text.encode().ljust(width, b"\0") for row, text in zip(rows, texts, strict=True)]
        places.append(len(rows[0]) // 4)
        rows = [row + bytes(4 * count) for row in rows]
    return np.frombuffer(b"".join(rows), dtype="<u4").reshape(len(rows), -1), tuple(places[:-1])
