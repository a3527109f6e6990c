# SPDX-License-Identifier: Apache-2.0
"""Storing a file's bytes: allocating blocks, writing the pieces, leaving the holes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.fs.entry import Entry, stored_pieces
from lamella.fs.ext4.extents import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.fs.ext4.allocator import Blocks
    from lamella.fs.ext4.data_writer import DataWriter
    from lamella.fs.layer import FilePayload


def store_file(data: DataWriter, blocks: Blocks, entry: Entry, payload: FilePayload) -> list[Run]:
    """Take blocks for a file's bytes and write them; holes take none."""
    size = data.block_size
    if entry.data is None:
        length = entry.size
        taken = blocks.take(-(-length // size))
        if len(taken) == 1:
            first, count = taken[0]
            data.begin(first)
            data.put(payload, length)
            if length % size:
                data.pad(size - length % size)
            return [Run(0, first, count)]
        return _store_stretch(data, 0, taken, [(0, length)], payload)
    runs: list[Run] = []
    for start, stop, pieces in _stretches(entry, size):
        runs += _store_stretch(data, start, blocks.take(stop - start), pieces, payload)
    return runs


def _store_stretch(
    data: DataWriter,
    logical: int,
    taken: list[tuple[int, int]],
    pieces: list[tuple[int, int]],
    payload: FilePayload,
) -> list[Run]:
    """Write *pieces* (offset, length) of a file into the blocks *taken*, which hold all of them.

    What the blocks have between and around the pieces becomes zeros.
    """
    size = data.block_size
    runs: list[Run] = []
    waiting = iter(pieces)
    offset, left = next(waiting)
    for first, count in taken:
        data.begin(first)
        at, end = logical * size, (logical + count) * size
        while at < end:
            if not left:
                following = next(waiting, None)
                if following is None:
                    data.pad(end - at)
                    break
                offset, left = following
            if at < offset:
                gap = min(offset, end) - at
                data.pad(gap)
                at += gap
            else:
                take = min(left, end - at)
                data.put(payload, take)
                at += take
                offset += take
                left -= take
        runs.append(Run(logical, first, count))
        logical += count
    return runs


def _stretches(entry: Entry, size: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """A sparse file's :func:`stored_pieces`, gathered into stretches of neighbouring blocks.

    Yields (first block, block after the last, pieces).
    """
    start = stop = 0
    pieces: list[tuple[int, int]] = []
    for offset, length in stored_pieces(entry):
        if not length:
            continue
        first, after = offset // size, -(-(offset + length) // size)
        if pieces and first <= stop:
            stop = after
        else:
            if pieces:
                yield start, stop, pieces
            start, stop, pieces = first, after, []
        pieces.append((offset, length))
    if pieces:
        yield start, stop, pieces
