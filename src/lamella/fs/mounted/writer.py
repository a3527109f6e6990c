# SPDX-License-Identifier: Apache-2.0
"""A whole image layer into a mounted tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.fs.layer import LayerStats, apply_to
from lamella.fs.mounted.tree import DirectoryTree

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.fs.tar.source import Read, ReadInto, Recorder


def apply_layer(
    root: int,
    where: str,
    stream: ReadInto | Read,
    *,
    recorder: Recorder | None = None,
    progress: Callable[[int], None] | None = None,
    name: str = "layer",
) -> LayerStats:
    """Apply the layer whose uncompressed tar is *stream* to the tree below the open directory *root*.

    *where* is what errors call the tree; the rest is as in :func:`lamella.fs.layer.apply_to`. Nothing is
    flushed.

    Raises :class:`lamella.errors.BadInputError` for a damaged or hostile tar,
    :class:`lamella.errors.NoSpaceError` when room runs out, and others; the tree is then half changed.
    """
    with DirectoryTree(root, where, watcher=recorder) as tree:
        entries = apply_to(tree, stream, recorder=recorder, progress=progress, name=name)
    return LayerStats(entries, tree.bytes_written)
