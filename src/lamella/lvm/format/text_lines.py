# SPDX-License-Identifier: Apache-2.0
"""Lines of LVM2's text in both of its forms: compact for metadata areas, indented with comments for backups.

Authority: lib/format_text/export.c.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


_COMMENT_COLUMN = 6


_MAX_INDENT = 5


class Compact:
    """Collects lines without indentation or comments."""

    readable = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.put: Callable[[str], None] = self.lines.append

    def line(self, text: str, comment: str = "") -> None:
        self.put(text)

    def sized(self, text: str, sectors: int) -> None:
        self.put(text)

    def blank(self) -> None:
        self.put("")

    def open(self, text: str) -> None:
        self.put(text)

    def close(self, text: str = "}") -> None:
        self.put(text)


class Readable(Compact):
    """Collects lines with tabs for depth, and comments lined up at a tab stop."""

    readable = True

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def line(self, text: str, comment: str = "") -> None:
        indent = min(self.depth, _MAX_INDENT)
        tabs = ""
        if comment:
            # LVM counts bytes, not characters.
            width = (len(text.encode("utf-8", "surrogateescape")) + 8 * indent) // 8 + 1
            tabs = "\t" * max(_COMMENT_COLUMN - width, 1)
        self.put("\t" * indent + text + tabs + comment)

    def sized(self, text: str, sectors: int) -> None:
        self.line(text, size_comment(sectors))

    def open(self, text: str) -> None:
        self.line(text)
        self.depth += 1

    def close(self, text: str = "}") -> None:
        self.depth -= 1
        self.line(text)


@lru_cache(maxsize=4096)
def size_comment(sectors: int) -> str:
    """``# 4 Megabytes``, with C's %g."""
    amount = sectors / 2.0
    units = ("Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Petabytes", "Exabytes")
    at = 0
    while amount > 1024.0 and at < len(units):
        amount /= 1024.0
        at += 1
    unit = units[at] if at < len(units) else "(null)"
    return f"# {amount:g} {unit}"
