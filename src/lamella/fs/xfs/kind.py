# SPDX-License-Identifier: Apache-2.0
"""XFS in a device: made by mkfs.xfs, and mounted for whatever is done with it."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lamella.block import programs
from lamella.block.system import explaining
from lamella.errors import MissingError, UnsupportedError, UsageError
from lamella.fs.entry import Entry, Kind
from lamella.fs.filesystem import Condition, FileSystem
from lamella.fs.mounted import detached, mount
from lamella.fs.mounted.grow import grow_mounted
from lamella.fs.mounted.pair import DirectoryPair
from lamella.fs.mounted.reader import DirectoryReader
from lamella.fs.mounted.tree import DirectoryTree
from lamella.fs.xfs.log import is_clean
from lamella.fs.xfs.superblock import read_superblock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from lamella.block import BlockDevice
    from lamella.fs.layer import ChangingTree, RemovalWatcher
    from lamella.fs.pair import Pair
    from lamella.fs.reader import TreeReader

MIN_SIZE = 300 << 20
"""Smallest XFS that mkfs.xfs makes since 5.19, in bytes."""
_RETRIES = "/sys/fs/xfs/{}/error/metadata/ENOSPC/max_retries"


@runtime_checkable
class Lendable(Protocol):
    """A device with a node that the kernel can mount."""

    def lent(self) -> AbstractContextManager[str]:
        """The node's path, for as long as the kernel may use it; nothing else has it open for writing."""


class Xfs(FileSystem):
    """XFS, by the kernel. *mount_options* as ``dm.mountopt`` has them; *max_retries*: how often the kernel
    tries again to write metadata for which a pool has no room, None for its own setting."""

    kind = "xfs"
    written_here = False

    def __init__(self, mount_options: Iterable[str] = (), max_retries: int | None = None) -> None:
        self._options = mount.split_options(mount_options)[1]
        self._max_retries = max_retries

    def check_tools(self) -> None:
        self._program()

    def _program(self) -> str:
        program = shutil.which("mkfs.xfs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise MissingError(
                "dm.fs=xfs needs the program mkfs.xfs, which is not here",
                hint="install the package xfsprogs; or use dm.fs=ext4",
            )
        return program

    def make(self, device: BlockDevice, mkfs_args: Sequence[str] = ()) -> None:
        with _lent(device) as node:
            # -K: a new device has nothing to discard. The node may be larger: it has whole chunks.
            size = [] if _size_of(node) == device.size else ["-d", f"size={device.size}"]
            command = [self._program(), "-q", "-K", *size, *mkfs_args, node]
            done = programs.run(command, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line and not line.startswith("Usage")]
            raise UsageError(
                f"mkfs.xfs cannot make a file system of {device.size} bytes: "
                f"{said[0] if said else 'it failed without an error message'}",
                hint=f"look at dm.mkfsarg; dm.basesize has to be {MIN_SIZE >> 20}M or more",
            )
        with self.tree(device) as tree:
            tree.put(Entry(b"", Kind.DIRECTORY, 0o755))

    def uuid_args(self, uuid: str) -> list[str]:
        return ["-m", f"uuid={uuid}"]

    def condition(self, device: BlockDevice) -> Condition:
        found = read_superblock(device)
        return Condition(found.uuid, found.needs_repair, not is_clean(device, found), found.used_inodes)

    def uuid(self, device: BlockDevice) -> str:
        return read_superblock(device).uuid

    def recover(self, device: BlockDevice) -> None:
        """Nothing: mounting it replays the log."""

    def grow(self, device: BlockDevice) -> None:
        with self._mounted(device) as root:
            grow_mounted(f"/proc/self/fd/{root}", "xfs", device.size)

    @contextmanager
    def tree(self, device: BlockDevice, *, watcher: RemovalWatcher | None = None) -> Iterator[ChangingTree]:
        with self._mounted(device) as root, DirectoryTree(root, device.name, watcher=watcher) as tree:
            yield tree

    @contextmanager
    def reader(self, device: BlockDevice) -> Iterator[TreeReader[Any]]:
        with self._reading(device) as reader:
            yield reader

    @contextmanager
    def pair(
        self, lower: BlockDevice, upper: BlockDevice, changed: Iterable[tuple[int, int]] | None = None
    ) -> Iterator[Pair[Any]]:
        related = self.uuid(lower) == self.uuid(upper)
        with ExitStack() as stack:
            below, above = (stack.enter_context(self._reading(device)) for device in (lower, upper))
            yield DirectoryPair(below, above, related=related)

    @contextmanager
    def _reading(self, device: BlockDevice) -> Iterator[DirectoryReader]:
        with self._mounted(device, read_only=True) as root, DirectoryReader(root, device.name) as reader:
            yield reader

    @contextmanager
    def _mounted(self, device: BlockDevice, *, read_only: bool = False) -> Iterator[int]:
        """A descriptor of the root; everything is written when the block ends well.

        On a device that cannot be written, one that was not unmounted is an error; on any other the kernel
        replays its log, also to read it.
        """
        options = ["nouuid", *filter(None, [self._options])]
        with (
            _lent(device) as node,
            detached.mounted(node, "xfs", ",".join(options), read_only=read_only or device.read_only) as root,
        ):
            if not read_only:
                set_max_retries(node, self._max_retries)
            yield root


def set_max_retries(node: str, count: int | None) -> None:
    """Tell the kernel how often it tries again to write metadata of the mounted XFS in *node* (a path).

    None leaves the kernel's setting. Where it cannot be set, the mount must not go on
    (:class:`lamella.errors.LamellaError`): a full pool could hold the mount for ever.
    """
    if count is None:
        return
    with explaining("set dm.xfs_nospace_max_retries of", node):
        number = os.stat(node).st_rdev
        device = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        path = _RETRIES.format(os.path.basename(device))
        with open(path, "w", encoding="ascii") as file:
            file.write(str(count))


def _lent(device: BlockDevice) -> AbstractContextManager[str]:
    if not isinstance(device, Lendable):
        raise UnsupportedError(
            f"{device.name} holds an XFS file system, which only the kernel can read and write, mounted",
            hint="as root: --engine kernel; see docs/explanation/xfs.md",
        )
    return device.lent()


def _size_of(node: str) -> int:
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
