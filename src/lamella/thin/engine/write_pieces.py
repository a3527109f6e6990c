# SPDX-License-Identifier: Apache-2.0
"""Pieces of (offset, bytes) that are to be written, divided into batches between chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 1024
"""Pieces that are planned together."""


def groups(pieces: list[tuple[int, memoryview]], chunk_size: int) -> Iterator[list[tuple[int, memoryview]]]:
    """Ascending *pieces* in groups of about :data:`BATCH`, cut between chunks.

    A group that is all over the volume loads a page of the map for each piece; so this bounds memory.
    """
    start = 0
    while start < len(pieces):
        end = start + BATCH
        while end < len(pieces):
            offset, view = pieces[end - 1]
            if (offset + len(view) - 1) // chunk_size < pieces[end][0] // chunk_size:
                break
            end += 1
        yield pieces[start:end]
        start = end


def split(
    pieces: list[tuple[int, memoryview]], chunk_size: int
) -> tuple[list[tuple[int, memoryview]], list[tuple[int, memoryview]]] | None:
    """The *pieces* in two halves at a chunk boundary, or None when they lie in one chunk."""
    first = pieces[0][0] // chunk_size
    last = (pieces[-1][0] + len(pieces[-1][1]) - 1) // chunk_size
    if first == last:
        return None
    middle = (first + last + 1) // 2 * chunk_size
    low: list[tuple[int, memoryview]] = []
    high: list[tuple[int, memoryview]] = []
    for offset, view in pieces:
        if offset + len(view) <= middle:
            low.append((offset, view))
        elif offset >= middle:
            high.append((offset, view))
        else:
            low.append((offset, view[: middle - offset]))
            high.append((middle, view[middle - offset :]))
    if not low or not high:
        half = len(pieces) // 2
        return (pieces[:half], pieces[half:]) if half else None
    return low, high
