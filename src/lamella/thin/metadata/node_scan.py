# SPDX-License-Identifier: Apache-2.0
"""The search of all metadata blocks for lists of devices whose place is no longer known.

A commit writes changed nodes to new blocks, so besides the last state there are older ones, until their
blocks are used again. What a node is shows in its leaves: 24-byte values are device details; 8-byte values
that all name blocks of the metadata itself are the top level of the mapping tree, for as mappings they
would all mean the first data block; other 8-byte values are mappings. An internal node is what all of its
sound children are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella.thin.format.checksum import BLOCK_SIZE, NODE_XOR, verify_many
from lamella.thin.format.limits import MAX_DEVICE_ID
from lamella.thin.format.node import BLOCK_VALUE, DEVICE_DETAILS, INTERNAL, LEAF, NODE, headers, unpack_nodes

if TYPE_CHECKING:
    from lamella.thin.format.arrays import Bools, Int64s, Uint8s
    from lamella.thin.metadata.block_reader import BlockReader

_DETAILS, _TOP, _MAPPINGS = 1, 2, 4
_ANY = 7
_MAX_LEVELS = 16


class ListNodes(NamedTuple):
    """Blocks that may be roots, ascending."""

    details: Int64s
    tops: Int64s
    """Of the mapping tree's top level."""
    mappings: Int64s
    """All nodes of devices' mapping trees."""


def find_list_nodes(reader: BlockReader) -> ListNodes:
    """Read every block, and find the nodes that a list of devices or a mapping tree could begin with.

    Empty nodes are passed over.
    """
    kinds = np.zeros(reader.nr_blocks, dtype=np.uint8)
    known = np.zeros(reader.nr_blocks, dtype=np.bool_)
    parents: list[Int64s] = []
    children: list[Int64s] = []
    for blocks, content in reader.batches(np.arange(1, reader.nr_blocks, dtype=np.int64)):
        sound = _sound(blocks, content)
        blocks, content = blocks[sound], content[sound]
        leaf = headers(content)["flags"] == LEAF
        kinds[blocks[leaf]] = _leaf_kinds(content[leaf], reader.nr_blocks)
        known[blocks[leaf]] = True
        counts, _, pointers = unpack_nodes(content[~leaf], BLOCK_VALUE)
        owners = np.repeat(blocks[~leaf], counts)
        inside = pointers < reader.nr_blocks
        parents.append(owners[inside])
        children.append(pointers[inside].astype(np.int64))
    parent = np.concatenate(parents or [np.empty(0, dtype=np.int64)])
    child = np.concatenate(children or [np.empty(0, dtype=np.int64)])
    for _ in range(_MAX_LEVELS):
        # A node can be judged once any child is; circles stay unknown.
        usable = known[child] & ~known[parent]
        if not usable.any():
            break
        judged = np.full(reader.nr_blocks, _ANY, dtype=np.uint8)
        np.bitwise_and.at(judged, parent[usable], kinds[child[usable]])
        fresh = np.unique(parent[usable])
        kinds[fresh] = judged[fresh]
        known[fresh] = True
    return ListNodes(*(np.flatnonzero(kinds & kind) for kind in (_DETAILS, _TOP, _MAPPINGS)))


def _sound(blocks: Int64s, content: Uint8s) -> Bools:
    """Which blocks are B-tree nodes in their right place, of a shape that can be."""
    head = headers(content)
    leaf = head["flags"] == LEAF
    size = head["value_size"].astype(np.int64)
    limit = head["max_entries"].astype(np.int64)
    good: Bools = (leaf | (head["flags"] == INTERNAL)) & (head["blocknr"] == blocks.astype(np.uint64))
    good &= (size == BLOCK_VALUE.itemsize) | (leaf & (size == DEVICE_DETAILS.itemsize))
    good &= (limit > 0) & (limit * (8 + np.minimum(size, BLOCK_SIZE)) + NODE.itemsize <= BLOCK_SIZE)
    good &= (head["nr_entries"] > 0) & (head["nr_entries"] <= limit)
    places = np.flatnonzero(good)
    good[places] = verify_many(content[places], NODE_XOR)
    return good


def _leaf_kinds(content: Uint8s, nr_blocks: int) -> Uint8s:
    head = headers(content)
    kinds = np.full(len(content), _MAPPINGS, dtype=np.uint8)
    counts, keys, values = unpack_nodes(content, BLOCK_VALUE)
    if len(keys):
        starts = np.cumsum(counts) - counts
        small = np.logical_and.reduceat((values > 0) & (values < nr_blocks), starts)
        small &= np.logical_and.reduceat(keys <= MAX_DEVICE_ID, starts)
        # One mapping of the first data block looks the same.
        kinds[small & (counts > 1)] = _TOP
        kinds[small & (counts == 1)] = _TOP | _MAPPINGS
    details = head["value_size"] == DEVICE_DETAILS.itemsize
    kinds[details] = _DETAILS
    return kinds
