# SPDX-License-Identifier: Apache-2.0
"""ext4 as a kind of file system: written through libext2fs, read by our own reader."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lamella.fs.filesystem import Condition, FileSystem
from lamella.interruptible import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lamella.block import BlockDevice
    from lamella.fs.layer import ChangingTree, RemovalWatcher
    from lamella.fs.pair import Pair
    from lamella.fs.reader import TreeReader


class Ext4(FileSystem):
    """ext4 in a block device, which needs no mount."""

    kind = "ext4"
    written_here = True

    def make(self, device: BlockDevice, mkfs_args: Sequence[str] = ()) -> None:
        from lamella.fs.entry import Entry, Kind
        from lamella.fs.ext4.make import make_ext4

        with uninterrupted():
            make_ext4(device, mkfs_args=mkfs_args)
        with self.tree(device) as tree:
            tree.put(Entry(b"", Kind.DIRECTORY, 0o755))

    def uuid_args(self, uuid: str) -> list[str]:
        return ["-U", uuid]

    def condition(self, device: BlockDevice) -> Condition:
        from lamella.fs.ext4.superblock import check_superblock

        found = check_superblock(device)
        return Condition(found.uuid, found.errors, found.needs_recovery, found.used_inodes)

    def recover(self, device: BlockDevice) -> None:
        from lamella.fs.ext4.journal import recover_journal

        with uninterrupted():
            recover_journal(device)

    def grow(self, device: BlockDevice) -> None:
        from lamella.fs.ext4.grow import grow_ext4

        with uninterrupted():
            grow_ext4(device)

    @contextmanager
    def tree(self, device: BlockDevice, *, watcher: RemovalWatcher | None = None) -> Iterator[ChangingTree]:
        from lamella.fs.ext4.tree import Tree

        # What libext2fs has allocated is freed, and never used after it, whatever ends the block.
        with uninterrupted(), Tree.open(device, watcher=watcher) as tree:
            yield tree

    @contextmanager
    def reader(self, device: BlockDevice) -> Iterator[TreeReader[Any]]:
        from lamella.fs.ext4.reader import Reader

        yield Reader.open(device)

    @contextmanager
    def pair(
        self, lower: BlockDevice, upper: BlockDevice, changed: Iterable[tuple[int, int]] | None = None
    ) -> Iterator[Pair[Any]]:
        from lamella.fs.ext4.pair import Ext4Pair
        from lamella.fs.ext4.reader import Reader

        yield Ext4Pair(Reader.open(lower), Reader.open(upper), changed)
