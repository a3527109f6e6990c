# SPDX-License-Identifier: Apache-2.0
"""B-tree nodes of dm-thin metadata, coded and decoded as whole arrays of nodes.

A node is one 4096-byte block: a header of 32 bytes, ``max_entries`` keys (u64), then the values packed
from byte ``32 + 8 * max_entries`` on. An internal node's values are block numbers (u64); entry *i*
leads to the keys from its own key up to the next one's. All numbers are little endian.
Sources: ``struct node_header`` and ``calc_max_entries`` in the kernel's
``drivers/md/persistent-data/dm-btree-internal.h`` and ``dm-btree.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.checksum import BLOCK_SIZE, NODE_XOR, seal_many

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from lamella.thin.format.arrays import Int64s, Uint8s, Uint64s

NODE = np.dtype(
    [
        ("csum", "<u4"),
        ("flags", "<u4"),
        ("blocknr", "<u8"),
        ("nr_entries", "<u4"),
        ("max_entries", "<u4"),
        ("value_size", "<u4"),
        ("padding", "<u4"),
    ]
)
"""The header of a node."""
INTERNAL = 1
LEAF = 2

BLOCK_VALUE = np.dtype("<u8")
"""Value of an internal node, and of the top mapping tree: a block number."""
MAPPING = np.dtype("<u8")
"""Value of a device's mapping tree: data block << 24 | time."""
DEVICE_DETAILS = np.dtype(
    [
        ("mapped_blocks", "<u8"),
        ("transaction_id", "<u8"),
        ("creation_time", "<u4"),
        ("snapshotted_time", "<u4"),
    ]
)
"""Value of the details tree."""
TIME_BITS = 24
TIME_MASK = (1 << TIME_BITS) - 1


def max_entries(value_size: int) -> int:
    """Most entries of a node whose values have *value_size* bytes; always a multiple of three."""
    return (BLOCK_SIZE - NODE.itemsize) // (8 + value_size) // 3 * 3


def headers(blocks: Uint8s) -> npt.NDArray[np.void]:
    """The headers (n,) of *blocks* (n, 4096, rows contiguous), as a view."""
    return blocks[:, : NODE.itemsize].view(NODE)[:, 0]


def entry_views(blocks: Uint8s, limit: int, value: np.dtype[Any]) -> tuple[Uint64s, npt.NDArray[Any]]:
    """Views of all keys (n, limit) and values (n, limit) in nodes (n, 4096) with ``max_entries`` *limit*.

    Entries at and after a node's ``nr_entries`` are rubbish.
    """
    start = NODE.itemsize
    middle = start + 8 * limit
    keys = blocks[:, start:middle].view("<u8")
    values = blocks[:, middle : middle + value.itemsize * limit].view(value)
    return keys, values


def unpack_nodes(blocks: Uint8s, value: np.dtype[Any]) -> tuple[Int64s, Uint64s, npt.NDArray[Any]]:
    """The entries of all nodes (n, 4096), one node after the other.

    Returns (entries of each node (n,), all keys (sum,), all values (sum,)). Checks nothing, but
    never reads outside a block: what a header claims is cut to what fits.
    """
    head = headers(blocks)
    fits = (BLOCK_SIZE - NODE.itemsize) // (8 + value.itemsize)
    limits = np.minimum(head["max_entries"], fits).astype(np.int64)
    counts = np.minimum(head["nr_entries"].astype(np.int64), limits)
    distinct = np.unique(limits)
    if len(distinct) == 1:
        limit = int(distinct[0])
        used = np.arange(limit) < counts[:, None]
        keys, values = entry_views(blocks, limit, value)
        return counts, keys[used], values[used]
    # Nodes of different shapes in one tree: legal, though no known writer makes them.
    starts = np.cumsum(counts) - counts
    all_keys = np.empty(int(counts.sum()), dtype=np.uint64)
    all_values = np.empty(int(counts.sum()), dtype=value)
    for limit in distinct.tolist():
        rows = np.flatnonzero(limits == limit)
        used = np.arange(limit) < counts[rows, None]
        keys, values = entry_views(blocks[rows], limit, value)
        places = (starts[rows, None] + np.arange(limit))[used]
        all_keys[places] = keys[used]
        all_values[places] = values[used]
    return counts, all_keys, all_values


def pack_nodes(
    keys: Uint64s, values: npt.NDArray[Any], counts: Int64s, locations: Uint64s, *, flags: int | Uint64s
) -> Uint8s:
    """Nodes (n, 4096) holding *keys* and *values* (sum,), *counts* (n,) of them each, for *locations* (n,).

    *values* must have the tree's value dtype; *flags* is :data:`LEAF` or :data:`INTERNAL`, of all or of each.
    """
    value = values.dtype
    limit = max_entries(value.itemsize)
    blocks = np.zeros((len(counts), BLOCK_SIZE), dtype=np.uint8)
    head = headers(blocks)
    head["flags"] = flags
    head["blocknr"] = locations
    head["nr_entries"] = counts
    head["max_entries"] = limit
    head["value_size"] = value.itemsize
    used = np.arange(limit) < np.asarray(counts)[:, None]
    key_view, value_view = entry_views(blocks, limit, value)
    key_view[used] = keys
    value_view[used] = values
    seal_many(blocks, NODE_XOR)
    return blocks
