# SPDX-License-Identifier: Apache-2.0
"""Two mounted states of one file system, or two mounted trees, to be compared."""

from __future__ import annotations

from lamella.fs.mounted.reader import DirectoryReader, Inode
from lamella.fs.pair import Pair


class DirectoryPair(Pair[Inode]):
    """*related*: both are states of one file system, so that an inode number means the same file in both.

    A kernel sets an inode's change time whenever anything of it is changed, its bytes included, and
    nobody can set it otherwise. So an inode with the same number, times and size is unchanged, and its
    bytes need not be read.
    """

    def __init__(self, lower: DirectoryReader, upper: DirectoryReader, *, related: bool = False) -> None:
        super().__init__(lower, upper)
        self._before = lower
        self._after = upper
        self._related = related

    def equal(self, old: Inode, new: Inode) -> bool:
        if not self._related or old.number != new.number:
            return False
        was, now = old.status, new.status
        return (
            was.st_ctime_ns == now.st_ctime_ns
            and was.st_mtime_ns == now.st_mtime_ns
            and was.st_size == now.st_size
            and was.st_mode == now.st_mode
            and was.st_nlink == now.st_nlink
        )

    def made_anew(self, old: Inode, new: Inode) -> bool:
        if not self._related:
            return False
        return old.number != new.number or self._before.generation(old) != self._after.generation(new)
