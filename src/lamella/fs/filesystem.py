# SPDX-License-Identifier: Apache-2.0
"""What a store does with the file system in a device, whichever kind it is and whoever writes it.

An ext4 is read and written by this process, in any block device and with any engine. An XFS only a kernel
can write; so it is mounted for each piece of work, out of everyone's sight
(:mod:`lamella.fs.mounted.detached`), and that takes the kernel's engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamella.errors import UnsupportedError
from lamella.fs.layer import LayerStats, apply_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from lamella.block import BlockDevice
    from lamella.fs.layer import ChangingTree, RemovalWatcher
    from lamella.fs.pair import Pair
    from lamella.fs.reader import TreeReader
    from lamella.fs.tar.source import Read, ReadInto, Recorder

KINDS = ("ext4", "xfs")


@dataclass(frozen=True, slots=True)
class Condition:
    """How a file system was left, from its superblock."""

    uuid: str
    errors: bool
    """A kernel, or a check, has found damage in it."""
    needs_recovery: bool
    """It was not unmounted: what was done last is in its journal alone."""


class FileSystem(ABC):
    """One kind of file system. Devices are open block devices; none is flushed or closed here."""

    kind: str
    written_here: bool
    """Whether this process writes it, through the device; else the kernel does, beside the device."""

    def check_tools(self) -> None:  # noqa: B027 - none are needed for most
        """Raise :class:`lamella.errors.MissingError` where a program is missing that makes one."""

    @abstractmethod
    def make(self, device: BlockDevice, mkfs_args: Sequence[str] = ()) -> None:
        """Make one as large as *device*. Its root belongs to root, with mode 0755 and the time 0."""

    @abstractmethod
    def condition(self, device: BlockDevice) -> Condition:
        """Raises :class:`lamella.errors.NotFoundError` without one, ``CorruptError`` for a damaged one."""

    def uuid(self, device: BlockDevice) -> str:
        """Its UUID, in lower case with dashes."""
        return self.condition(device).uuid

    @abstractmethod
    def recover(self, device: BlockDevice) -> None:
        """Bring one that was not unmounted in order, before it is changed."""

    @abstractmethod
    def grow(self, device: BlockDevice) -> None:
        """Make it as large as *device* is now; nothing happens where it is."""

    @abstractmethod
    def tree(
        self, device: BlockDevice, *, watcher: RemovalWatcher | None = None
    ) -> AbstractContextManager[ChangingTree]:
        """Its tree, to be changed. After an exception it may be half changed."""

    @abstractmethod
    def reader(self, device: BlockDevice) -> AbstractContextManager[TreeReader[Any]]:
        """Its tree, to be read."""

    @abstractmethod
    def pair(
        self, lower: BlockDevice, upper: BlockDevice, changed: Iterable[tuple[int, int]] | None = None
    ) -> AbstractContextManager[Pair[Any]]:
        """Two of them, to be compared; they may differ in *changed*, if that is known, (offset, length)."""

    def apply_layer(
        self,
        device: BlockDevice,
        stream: ReadInto | Read,
        *,
        recorder: Recorder | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> LayerStats:
        """Apply a layer's uncompressed tar, as :func:`lamella.fs.layer.apply_to` says."""
        with self.tree(device, watcher=recorder) as tree:
            entries = apply_to(tree, stream, recorder=recorder, progress=progress)
        return LayerStats(entries, tree.bytes_written)


class Ext4(FileSystem):
    """ext4, by libext2fs and our own reader."""

    kind = "ext4"
    written_here = True

    def make(self, device: BlockDevice, mkfs_args: Sequence[str] = ()) -> None:
        from lamella.fs.entry import Entry, Kind
        from lamella.fs.ext4.make import make_ext4

        make_ext4(device, mkfs_args=mkfs_args)
        with self.tree(device) as tree:
            tree.put(Entry(b"", Kind.DIRECTORY, 0o755))

    def condition(self, device: BlockDevice) -> Condition:
        from lamella.fs.ext4.superblock import check_superblock

        found = check_superblock(device)
        return Condition(found.uuid, found.errors, found.needs_recovery)

    def recover(self, device: BlockDevice) -> None:
        from lamella.fs.ext4.journal import recover_journal

        recover_journal(device)

    def grow(self, device: BlockDevice) -> None:
        from lamella.fs.ext4.grow import grow_ext4

        grow_ext4(device)

    @contextmanager
    def tree(self, device: BlockDevice, *, watcher: RemovalWatcher | None = None) -> Iterator[ChangingTree]:
        from lamella.fs.ext4.tree import Tree

        with Tree.open(device, watcher=watcher) as tree:
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


def of_kind(kind: str, *, mount_options: Iterable[str] = (), max_retries: int | None = None) -> FileSystem:
    """The file system called *kind*. *mount_options* and *max_retries* are ``dm.mountopt`` and
    ``dm.xfs_nospace_max_retries``, for one that is mounted."""
    if kind == "ext4":
        return Ext4()
    if kind == "xfs":
        from lamella.fs.xfs.filesystem import Xfs

        return Xfs(mount_options, max_retries)
    raise UnsupportedError(f"the file system {kind!r} is not served", hint=f"known: {', '.join(KINDS)}")
