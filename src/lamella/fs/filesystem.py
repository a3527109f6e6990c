# SPDX-License-Identifier: Apache-2.0
"""The interface to the file system in a device, the same for every kind (:mod:`lamella.fs.kinds`).

This process reads and writes ext4 itself, in any block device and with any engine. Only a kernel can write
XFS; so it is mounted for each operation, in no mount namespace (:mod:`lamella.fs.mounted.detached`), which
needs the kernel's engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from lamella.block import BlockDevice
    from lamella.fs.layer import ChangingTree, LayerStats, RemovalWatcher
    from lamella.fs.pair import Pair
    from lamella.fs.reader import TreeReader
    from lamella.fs.tar.source import Read, ReadInto, Recorder


@dataclass(frozen=True, slots=True)
class Condition:
    """How a file system was left, from its superblock."""

    uuid: str
    errors: bool
    """A kernel, or a check, has found damage in it."""
    needs_recovery: bool
    """It was not unmounted: what was done last is in its journal alone."""
    used_inodes: int
    """How many inodes were in use when the superblock was last written, at the latest when unmounted."""


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
    def uuid_args(self, uuid: str) -> list[str]:
        """Arguments of :meth:`make` for one with that UUID."""

    @abstractmethod
    def condition(self, device: BlockDevice) -> Condition:
        """Raises :class:`lamella.errors.NotFoundError` without one, ``CorruptError`` for a damaged one."""

    def uuid(self, device: BlockDevice) -> str:
        """Its UUID, in lower case with dashes."""
        return self.condition(device).uuid

    @abstractmethod
    def recover(self, device: BlockDevice) -> None:
        """Replay the journal of one that was not unmounted, before it is changed."""

    @abstractmethod
    def grow(self, device: BlockDevice) -> None:
        """Make it as large as *device* is now; nothing happens where it is."""

    @abstractmethod
    def tree(
        self, device: BlockDevice, *, watcher: RemovalWatcher | None = None
    ) -> AbstractContextManager[ChangingTree]:
        """Its tree, open for changes. After an exception it may be half changed."""

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
        """Apply a layer's uncompressed tar, as :func:`lamella.fs.layer.apply_layer` says."""
        from lamella.fs.layer import apply_layer  # with the reader of tar: only few commands need it

        tree = self.tree(device, watcher=recorder)
        return apply_layer(tree, stream, recorder=recorder, progress=progress)
