# SPDX-License-Identifier: Apache-2.0
"""A whole image layer into an ext4 file system: the tar's entries, whiteouts and opaque directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.fs.ext4.tree import Tree
from lamella.fs.layer import LayerStats, apply_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.block import BlockDevice
    from lamella.fs.tar.source import Read, ReadInto, Recorder


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

    The parameters and rules are those of :func:`lamella.fs.layer.apply_to`; *discard* gives freed space
    back to the device, which is not flushed.

    Raises :class:`lamella.errors.BadInputError` for a damaged or hostile tar,
    :class:`lamella.errors.NoSpaceError` when blocks, inodes or the pool run out; the file system is then
    not to be used until the pool has gone back.
    """
    with Tree.open(device, discard=discard, watcher=recorder) as tree:
        entries = apply_to(tree, stream, recorder=recorder, progress=progress, name=name)
    return LayerStats(entries, tree.bytes_written)


__all__ = ["LayerStats", "apply_layer"]
