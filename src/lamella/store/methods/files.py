# SPDX-License-Identifier: Apache-2.0
"""Methods of :class:`lamella.store.Store` for the files in containers and images."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.errors import NotFoundError, UsageError
from lamella.progress import QUIET
from lamella.store import arguments

if TYPE_CHECKING:
    from typing import BinaryIO

    from lamella.progress import Progress
    from lamella.store.open_store import OpenStore
    from lamella.store.tree import Tree


def tree(self: OpenStore, name: str) -> Tree:
    """The files of a container or an image, for reading; use it as a context manager."""
    from lamella.store.tree import Tree

    return Tree(self.devices, self._tree_device(name), name)


def place(self: OpenStore, text: str) -> tuple[str, bytes]:
    """Name and absolute path that *text* stands for: ``NAME``, ``NAME:/PATH`` or ``NAME:PATH``.

    In the last form the path begins at the root, and the longest name before a colon that there is
    counts, so that ``debian:12:etc`` is a path in an image with a tag.
    """
    name, slash, tail = text.partition(":/")
    if slash:
        return name, b"/" + os.fsencode(tail)
    end = len(text)
    while end > 0:
        with suppress(NotFoundError, UsageError):
            self._find(text[:end])
            return text[:end], b"/" + os.fsencode(text[end + 1 :])
        end = text.rfind(":", 0, end)
    name, _, tail = text.partition(":")
    return name, b"/" + os.fsencode(tail)


def copy_in(
    self: OpenStore,
    container: str,
    source: str | os.PathLike[str] | BinaryIO,
    path: bytes | str,
    *,
    keep_owner: bool = False,
    follow_link: bool = False,
    progress: Progress = QUIET,
) -> None:
    """Copy a file, a folder, or the content of a tar stream into a container, as ``docker cp`` does.

    *path* is absolute in the container, as bytes or text; symlinks in it are followed inside the
    container, those that lead to nothing too. The owner is root unless *keep_owner*; a tar stream always
    keeps its owners. A *source* that is a symlink is copied as one unless *follow_link*.
    """
    from lamella.store.copy import copy_in

    self._writable()
    arguments.place_or_stream(source, "the source", "read")
    where = arguments.inside(path)
    device = self._catalog.find_container(container).device
    with self._opened.beside_readers():
        copy_in(
            self.devices,
            device,
            container,
            source,
            where,
            keep_owner=keep_owner,
            follow_link=follow_link,
            progress=progress,
        )


def copy_out(
    self: OpenStore,
    name: str,
    path: bytes | str,
    target: str | os.PathLike[str] | BinaryIO,
    *,
    follow_link: bool = False,
    progress: Progress = QUIET,
) -> None:
    """Copy a file or a folder out of a container or an image, to a local path or as a tar stream.

    A *path* that is a symlink is copied as one unless *follow_link*.
    """
    from lamella.store.copy import copy_out

    arguments.place_or_stream(target, "the target", "write")
    where = arguments.inside(path)
    copy_out(self.devices, self._tree_device(name), name, where, target, progress, follow_link=follow_link)


def export(
    self: OpenStore, name: str, out: str | os.PathLike[str] | BinaryIO, *, progress: Progress = QUIET
) -> None:
    """Write the whole tree of a container or an image as one tar."""
    from lamella.fs.difference import tree_size, write_tree
    from lamella.images.output import output

    arguments.place_or_stream(out, "the output", "write")
    with (
        self.devices.volume(self._tree_device(name)) as volume,
        self.devices.filesystem.reader(volume) as reader,
        output(out) as file,
    ):
        progress.start(f"from {name}", None if progress is QUIET else tree_size(reader))
        write_tree(reader, file, advance=progress.advance)
        progress.done()
