# SPDX-License-Identifier: Apache-2.0
"""Applying an image layer: its tar's entries, whiteouts, opaque directories, and what is skipped.

The rules are the same for every file system, which only has to offer a :class:`ChangingTree`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from lamella.errors import BadInputError
from lamella.fs.entry import Kind, show
from lamella.fs.tar.read import read_tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from lamella.fs.entry import Entry
    from lamella.fs.tar.source import Read, ReadInto, Recorder

WHITEOUT: Final = b".wh."
META: Final = b".wh..wh."
OPAQUE: Final = b".wh..wh..opq"
_LINKS: Final = b".wh..wh.plnk/"
"""Where aufs keeps files of several names, which are hard links into it (moby, ``pkg/archive/diff.go``)."""
_REPORT_EVERY: Final = 1 << 20


class FilePayload(Protocol):
    """A file's stored bytes in order: fills a buffer, returns how many bytes it gave."""

    def read_into(self, buffer: memoryview, /) -> int: ...


class RemovalWatcher(Protocol):
    """Notified of each regular file that is about to lose a name."""

    def before_removal(self, path: bytes, read: Callable[[int, int], Iterable[bytes]]) -> None: ...


class ChangingTree(Protocol):
    """A file system's tree that is open for changes."""

    @property
    def bytes_written(self) -> int:
        """Bytes of file data written so far."""

    def put(self, entry: Entry, payload: FilePayload | None = None) -> bytes:
        """Make what *entry* says, in place of what has its name; returns the path it really got.

        A directory over a directory keeps its content and takes the entry's attributes. Missing parents
        are made (0755, root's, the present time). *payload* gives a file's ``entry.stored`` bytes.
        """

    def make_directory(self, path: bytes) -> None:
        """Make a directory with its parents; one that is there is left as it is."""

    def kind_of(self, path: bytes) -> Kind | None:
        """What *path* names at this moment, a last link not followed; None if there is nothing."""

    def remove(self, path: bytes, *, recursive: bool = False) -> None:
        """Remove a name, and with *recursive* what lies below it.

        Raises :class:`NotFoundError` if it is not there, :class:`ExistsError` for a directory that is not
        empty.
        """

    def whiteout(self, path: bytes) -> None:
        """Remove what lower layers have under *path*, if anything; what this session has put there stays."""

    def opaque(self, path: bytes) -> None:
        """Remove everything that lower layers have in the directory *path*."""


@dataclass(frozen=True, slots=True)
class LayerStats:
    """What a layer came to."""

    entries: int
    """Entries in its tar, whiteouts among them."""
    bytes_written: int
    """Bytes of file data written to the device."""


def apply_layer(
    opened: AbstractContextManager[ChangingTree],
    stream: ReadInto | Read,
    *,
    recorder: Recorder | None = None,
    progress: Callable[[int], None] | None = None,
    name: str = "layer",
) -> LayerStats:
    """Apply the layer whose uncompressed tar is *stream* to the tree that *opened* opens, and close that.

    ``.wh.NAME`` removes what lower layers have under that name, ``.wh..wh..opq`` all that they have in
    its directory; neither touches what this layer itself brings, wherever in the tar it comes (the OCI
    image specification's rule). *recorder* gets the stream's bytes for putting the tar together again; it
    also has to be the tree's watcher. *progress* is called with numbers of bytes read; *name* is what
    errors call the stream. The device is not flushed.

    Raises :class:`BadInputError` for a damaged or hostile tar, and what the tree raises, such as
    :class:`lamella.errors.NoSpaceError`; the tree may then hold half of the layer.
    """
    with opened as tree:
        entries = _apply(tree, stream, recorder, progress, name)
    return LayerStats(entries, tree.bytes_written)  # closing the tree wrote the last of them


def _apply(
    tree: ChangingTree,
    stream: ReadInto | Read,
    recorder: Recorder | None,
    progress: Callable[[int], None] | None,
    name: str,
) -> int:
    entries = 0
    unreported = 0
    links = False
    put = tree.put
    for entry, payload in read_tar(stream, recorder=recorder, name=name):
        entries += 1
        path = entry.path
        if WHITEOUT in path and _is_bookkeeping(path):
            if path.startswith(_LINKS) and entry.kind is Kind.FILE:
                # aufs kept what has several names here; it goes when the names are made.
                put(entry, payload)
                links = True
        elif WHITEOUT in path and path.rpartition(b"/")[2].startswith(WHITEOUT):
            _white_out(tree, path, name)
        else:
            found = put(entry, payload)
            if found != path:
                payload.stored_as = found
        unreported += payload.size + 512
        if progress is not None and unreported >= _REPORT_EVERY:
            progress(unreported)
            unreported = 0
    if links:
        tree.remove(_LINKS.rstrip(b"/"), recursive=True)
    if progress is not None:
        progress(unreported)
    return entries


def _is_bookkeeping(path: bytes) -> bool:
    """Whether a path belongs to aufs's own files (``.wh..wh.plnk/5``), which mean nothing elsewhere."""
    return any(part.startswith(META) and part != OPAQUE for part in path.split(b"/"))


def _white_out(tree: ChangingTree, path: bytes, name: str) -> None:
    head, _, last = path.rpartition(b"/")
    if last == OPAQUE:
        tree.opaque(head)
    else:
        hidden = last.removeprefix(WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise BadInputError(
                f"{name}: the whiteout {show(path)} does not name anything",
                hint="the archive is damaged or hostile",
            )
        tree.whiteout(head + b"/" + hidden if head else hidden)
