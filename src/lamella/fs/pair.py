# SPDX-License-Identifier: Apache-2.0
"""Two trees to be compared, and what is known of their differences beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from lamella.fs.ranges import Ranges
from lamella.fs.reader import N

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.fs.reader import TreeReader


class Pair(Generic[N]):
    """Nothing is known: every name has to be looked at, and bytes to be read.

    What a kind of file system knows more is in its subclass.
    """

    def __init__(self, lower: TreeReader[N], upper: TreeReader[N]) -> None:
        self.lower = lower
        self.upper = upper

    def unchanged(self, old: int, new: int) -> bool:
        """Whether two inode numbers are known to stand for one inode in which nothing differs."""
        return False

    def equal(self, old: N, new: N) -> bool:
        """Whether two inodes are known to be one, in which nothing differs."""
        return False

    def made_anew(self, old: N, new: N) -> bool:
        """Whether a directory is known not to be the one that it was."""
        return False

    def below(self, old: N, new: N) -> Iterator[tuple[bytes, int, bool]] | None:
        """For a directory known to hold the same names: (name, inode number, whether it may differ).

        Only what may differ and directories have to be given. None: nothing such is known.
        """
        return None

    def same_bytes(self, old: N, new: N) -> bool:
        """Whether two files of one size hold the same bytes."""
        # What is a hole in both may be terabytes, and need not be compared.
        pieces = []
        for reader, inode in ((self.lower, old), (self.upper, new)):
            stored = reader.stored_pieces(inode)
            pieces += [(0, inode.size)] if stored is None else stored
        return all(
            equal_streams(self.lower.data(old, start, end - start), self.upper.data(new, start, end - start))
            for start, end in Ranges(pieces).inside(0, new.size)
        )


def equal_streams(first: Iterator[bytes], second: Iterator[bytes]) -> bool:
    """Whether two sequences of pieces, cut anywhere, are the same bytes."""
    left = right = memoryview(b"")
    while True:
        if not left:
            left = memoryview(next(first, b""))
        if not right:
            right = memoryview(next(second, b""))
        if not left or not right:
            return not left and not right
        step = min(len(left), len(right))
        if left[:step] != right[:step]:
            return False
        left, right = left[step:], right[step:]
