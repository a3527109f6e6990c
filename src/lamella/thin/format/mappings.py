# SPDX-License-Identifier: Apache-2.0
"""Mappings of thin devices as arrays: decoding values, merging neighbours into runs, comparing two sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella.thin.format.node import TIME_BITS, TIME_MASK
from lamella.thin.format.runs import consecutive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.thin.format.arrays import Int64s, Uint64s


class Runs(NamedTuple):
    """Runs of mappings, all arrays of u64 and equally long; numbers count data blocks (chunks)."""

    begin: Uint64s
    """First block of the thin device."""
    data: Uint64s
    """First block of the data device."""
    length: Uint64s
    time: Uint64s


def data_blocks(values: Uint64s) -> Uint64s:
    """The data blocks in values of a mapping tree."""
    return values >> np.uint64(TIME_BITS)


def times(values: Uint64s) -> Uint64s:
    """The times in values of a mapping tree."""
    return values & np.uint64(TIME_MASK)


def merge(keys: Uint64s, values: Uint64s, breaks: Int64s | None = None) -> Runs:
    """Join mappings (ascending *keys*, raw *values*) that go on in both devices with the same time.

    *breaks* are positions where a run must begin, because another device's mappings do.
    """
    if not len(keys):
        none = np.empty(0, dtype=np.uint64)
        return Runs(none, none, none, none)
    # One more data block at the same time is a value larger by exactly 2**24.
    begins = np.ones(len(keys) + 1, dtype=np.bool_)
    begins[1:-1] = (keys[1:] - keys[:-1] != np.uint64(1)) | (
        values[1:] - values[:-1] != np.uint64(1 << TIME_BITS)
    )
    if breaks is not None:
        begins[breaks] = True
    edges = np.flatnonzero(begins)
    starts = edges[:-1]
    first = values[starts]
    return Runs(keys[starts], data_blocks(first), np.diff(edges).astype(np.uint64), times(first))


def count_beyond(keys_a: Uint64s, values_a: Uint64s, keys_b: Uint64s, values_b: Uint64s) -> int:
    """How many chunks the second set of mappings (chunks ascending, raw values) maps to data chunks to which
    the first does not map them."""
    if not len(keys_a) or not len(keys_b):
        return len(keys_b)
    at = np.minimum(np.searchsorted(keys_a, keys_b), len(keys_a) - 1)
    alike = (keys_a[at] == keys_b) & (data_blocks(values_a[at]) == data_blocks(values_b))
    return int(len(keys_b) - np.count_nonzero(alike))


def ranges_that_differ(
    keys_a: Uint64s, values_a: Uint64s, keys_b: Uint64s, values_b: Uint64s
) -> Iterator[tuple[int, int]]:
    """(first chunk, length) of the chunks that two sets of mappings (chunks ascending, raw values) map
    differently, in order.

    Chunks that both map to the same data chunk, or that neither maps, are left out: their content is the
    same.
    """
    keys = np.concatenate((keys_a, keys_b))
    blocks = data_blocks(np.concatenate((values_a, values_b)))
    order = np.argsort(keys, kind="stable")
    keys, blocks = keys[order], blocks[order]
    # A chunk that both map alike occurs twice with the same data block.
    same = (keys[1:] == keys[:-1]) & (blocks[1:] == blocks[:-1])
    differs = np.ones(len(keys), dtype=np.bool_)
    differs[1:] &= ~same
    differs[:-1] &= ~same
    chunks = np.unique(keys[differs]).astype(np.int64)
    if not len(chunks):
        return
    for start, end in consecutive(chunks):
        yield int(chunks[start]), end - start
