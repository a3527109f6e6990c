# SPDX-License-Identifier: Apache-2.0
"""Two states of one ext4 file system, or two file systems, to be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella.fs.entry import Kind
from lamella.fs.ext4.changed_inodes import changed_inodes, related
from lamella.fs.ext4.inode import Inode
from lamella.fs.pair import Pair, equal_streams
from lamella.fs.ranges import Ranges
from lamella.fs.reader import PIECE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamella.fs.ext4.reader import Reader

_IS_DIRECTORY: Final = 2
_UNKNOWN_TYPE: Final = 0


class Ext4Pair(Pair[Inode]):
    """Where both are states of one file system, an inode number means the same file in both.

    *changed* are the (offset, length) byte ranges in which the two devices may differ, if that is known.
    """

    def __init__(
        self, lower: Reader, upper: Reader, changed: Iterable[tuple[int, int]] | None = None
    ) -> None:
        super().__init__(lower, upper)
        self._before = lower
        self._after = upper
        self._related = related(lower.disk, upper.disk)
        self._ranges = Ranges(changed) if changed is not None and self._related else None
        self._suspects = changed_inodes(lower.disk, upper.disk, self._ranges) if self._related else set()

    def unchanged(self, old: int, new: int) -> bool:
        return self._related and old == new and new not in self._suspects

    def made_anew(self, old: Inode, new: Inode) -> bool:
        return self._related and (old.number != new.number or old.birth != new.birth)

    def below(self, old: Inode, new: Inode) -> Iterator[tuple[bytes, int, bool]] | None:
        # Without known ranges, a directory's blocks may differ although its inode does not.
        if self._ranges is None or not self.unchanged(old.number, new.number):
            return None
        return self._listed(new)

    def _listed(self, new: Inode) -> Iterator[tuple[bytes, int, bool]]:
        reader = self._after
        for name, number, kind in reader.names(new):
            if reader.is_lost_and_found(new, name, number):
                continue
            if number in self._suspects:
                yield name, number, True
            elif kind in (_IS_DIRECTORY, _UNKNOWN_TYPE) and reader.disk.inode(number).kind is Kind.DIRECTORY:
                yield name, number, False

    def same_bytes(self, old: Inode, new: Inode) -> bool:
        """As above; reads no more than may differ."""
        if old.inline or new.inline:
            return equal_streams(self._before.data(old), self._after.data(new))
        before, after = self._before.map(old).runs, self._after.map(new).runs
        size = self._after.disk.block_size
        if self._ranges is not None and before == after:
            return all(
                self._equal_on_disk(start, end)
                for run in after
                for start, end in self._ranges.inside(run.physical * size, (run.physical + run.length) * size)
            )
        # What is a hole in both may be terabytes, and need not be compared.
        pieces = [
            (run.logical * reader.disk.block_size, run.length * reader.disk.block_size)
            for reader, runs in ((self._before, before), (self._after, after))
            for run in runs
        ]
        return all(
            equal_streams(
                self._before.data(old, start, end - start, runs=before),
                self._after.data(new, start, end - start, runs=after),
            )
            for start, end in Ranges(pieces).inside(0, new.size)
        )

    def _equal_on_disk(self, start: int, end: int) -> bool:
        lower, upper = self._before.disk.device, self._after.disk.device
        for at in range(start, end, PIECE):
            length = min(PIECE, end - at)
            if lower.read(at, length) != upper.read(at, length):
                return False
        return True
