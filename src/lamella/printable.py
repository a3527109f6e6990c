# SPDX-License-Identifier: Apache-2.0
"""Text of other people's choice, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """*text* with line ends, control characters and the like escaped, so that it steers no terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
