# SPDX-License-Identifier: Apache-2.0
"""The files of a container or an image, for reading."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from lamella.closing import Closing, on_error
from lamella.store.arguments import inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.driver.device_set import DeviceSet
    from lamella.fs.entry import Entry


class Tree(Closing):
    """One tree; a context manager. Paths are absolute or from the root, which ``..`` never leaves.

    As bytes or text, which is encoded as file names are.
    All methods raise :class:`lamella.errors.NotFoundError` for a path that is not there.
    """

    def __init__(self, devices: DeviceSet, device: str, name: str) -> None:
        self.name = name
        self._stack = ExitStack()
        with on_error(self._stack.close):
            volume = self._stack.enter_context(devices.volume(device))
            self.reader = self._stack.enter_context(devices.filesystem.reader(volume))

    def ls(self, path: bytes | str = b"/") -> list[Entry]:
        """The entries of a directory by name, or the one entry that another path names."""
        return self.reader.list(inside(path))

    def walk(self, path: bytes | str = b"/") -> Iterator[Entry]:
        """*path* and everything below it, in order; further names of a file as hard links."""
        return self.reader.walk(inside(path))

    def stat(self, path: bytes | str, *, follow: bool = False) -> Entry:
        """What *path* names; with *follow*, what a symlink there leads to."""
        return self.reader.stat(inside(path), follow=follow)

    def read(self, path: bytes | str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """A file's bytes in pieces of at most 1 MiB; symlinks are followed inside the tree."""
        return self.reader.read(inside(path), offset, length)

    def close(self) -> None:
        """Close the device. Closing twice is harmless."""
        self._stack.close()
