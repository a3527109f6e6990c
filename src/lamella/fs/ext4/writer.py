# SPDX-License-Identifier: Apache-2.0
"""A whole image layer into an ext4 file system: the tar's entries, whiteouts and opaque directories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lamella.errors import BadInputError
from lamella.fs.entry import show
from lamella.fs.ext4.tree import Tree
from lamella.fs.tar_in import read_tar

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.block import BlockDevice
    from lamella.fs.tar_source import Read, ReadInto, Recorder

WHITEOUT: Final = b".wh."
META: Final = b".wh..wh."
OPAQUE: Final = b".wh..wh..opq"
_REPORT_EVERY: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LayerStats:
    """What a layer came to."""

    entries: int
    """Entries in its tar, whiteouts among them."""
    bytes_written: int
    """Bytes of file data written to the device."""


def apply_layer(
    device: BlockDevice,
    stream: ReadInto | Read,
    *,
    recorder: Recorder | None = None,
    progress: Callable[[int], None] | None = None,
    discard: bool = True,
    name: str = "layer",
) -> LayerStats:
    """Apply the layer whose uncompressed tar is *stream* to the ext4 file system in *device*.

    ``.wh.NAME`` removes what lower layers have under that name, ``.wh..wh..opq`` all that they have in
    its directory; neither touches what this layer itself brings, wherever in the tar it comes (the OCI
    image specification's rule). *recorder* gets the stream's bytes for putting the tar together again;
    *progress* is called with numbers of bytes taken; *name* is what errors call the stream. The device
    is not flushed.

    Raises :class:`BadInputError` for a damaged or hostile tar, :class:`NoSpaceError` when blocks, inodes
    or the pool run out; the file system is then not to be used until the pool has gone back.
    """
    entries = 0
    unreported = 0
    with Tree.open(device, discard=discard, watcher=recorder) as tree:
        put = tree.put
        for entry, payload in read_tar(stream, recorder=recorder, name=name):
            entries += 1
            path = entry.path
            if WHITEOUT in path and _is_bookkeeping(path):
                pass
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
        if progress is not None:
            progress(unreported)
    return LayerStats(entries, tree.bytes_written)


def _is_bookkeeping(path: bytes) -> bool:
    """Whether a path belongs to aufs's own files (``.wh..wh.plnk/5``), which mean nothing elsewhere."""
    return any(part.startswith(META) and part != OPAQUE for part in path.split(b"/"))


def _white_out(tree: Tree, path: bytes, name: str) -> None:
    head, _, last = path.rpartition(b"/")
    if last == OPAQUE:
        tree.opaque(head)
    else:
        hidden = last.removeprefix(WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise BadInputError(
                f"{name}: the whiteout {show(path)} names nothing that could be removed",
                hint="the archive is damaged or hostile",
            )
        tree.whiteout(head + b"/" + hidden if head else hidden)
