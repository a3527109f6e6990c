# SPDX-License-Identifier: Apache-2.0
"""The two lists that make a pool, wherever they are found: details of devices, and roots of mapping trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.limits import MAX_DEVICE_ID
from lamella.thin.format.mappings import data_blocks, times
from lamella.thin.format.node import BLOCK_VALUE, DEVICE_DETAILS, MAPPING
from lamella.thin.format.space_map import ENTRIES_PER_BITMAP
from lamella.thin.metadata.btree import NO_NODE, Forest, Leaves
from lamella.thin.metadata.findings import Problems
from lamella.thin.metadata.node_scan import find_list_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    import numpy.typing as npt

    from lamella.thin.format.arrays import Int64s, Uint64s
    from lamella.thin.metadata.block_reader import BlockReader


@dataclass(frozen=True, slots=True)
class DetailsList:
    """A details tree: *whole* if nothing of it is missing."""

    devices: dict[int, DeviceDetails]
    whole: bool

    def age(self) -> tuple[int, int]:
        """Larger is newer: the highest transaction id, the highest time."""
        found = self.devices.values()
        return (
            max((one.transaction_id for one in found), default=0),
            max((max(one.creation_time, one.snapshotted_time) for one in found), default=0),
        )


@dataclass(frozen=True, slots=True)
class RootList:
    """The top level of a mapping tree: device ids to root blocks."""

    roots: dict[int, int]
    whole: bool


PLACES = {"details": "device details tree", "tops": "top level of the mapping tree"}


def read_details_list(reader: BlockReader, root: int, problems: Problems) -> DetailsList:
    """What is left of the details tree at block *root*; damage goes to *problems*."""
    [(keys, values, whole)] = _read(reader, DEVICE_DETAILS, PLACES["details"], [root], problems)
    return _details_list(keys, values, whole)


def read_root_list(reader: BlockReader, root: int, problems: Problems) -> RootList:
    """What is left of the top level at block *root*; damage goes to *problems*."""
    [(keys, values, whole)] = _read(reader, BLOCK_VALUE, PLACES["tops"], [root], problems)
    return RootList(dict(zip(keys.tolist(), values.tolist(), strict=True)), whole)


def search(reader: BlockReader) -> tuple[list[DetailsList], list[RootList], list[int]]:
    """All whole lists that are anywhere in the metadata, of the last state and of older ones.

    The third result is the blocks of all nodes of devices' mapping trees.
    """
    nodes = find_list_nodes(reader)
    details = [
        _details_list(keys, values, whole)
        for keys, values, whole in _read(
            reader, DEVICE_DETAILS, PLACES["details"], nodes.details.tolist(), Problems()
        )
        if whole and len(keys) and keys[-1] <= MAX_DEVICE_ID
    ]
    tops = [
        RootList(dict(zip(keys.tolist(), values.tolist(), strict=True)), whole)
        for keys, values, whole in _read(reader, BLOCK_VALUE, PLACES["tops"], nodes.tops.tolist(), Problems())
        if whole and len(keys) and keys[-1] <= MAX_DEVICE_ID
    ]
    return details, tops, nodes.mappings.tolist()


def _details_list(keys: Uint64s, values: npt.NDArray[Any], whole: bool) -> DetailsList:
    pairs = zip(keys.tolist(), values.tolist(), strict=True)
    return DetailsList({key: DeviceDetails(*value) for key, value in pairs}, whole)


def _read(
    reader: BlockReader, value: np.dtype[Any], place: str, roots: list[int], problems: Problems
) -> list[tuple[Uint64s, npt.NDArray[Any], bool]]:
    forest = Forest(reader, value, problems, place, keep=True)
    pointers = np.array(roots, dtype=np.uint64)
    forest.walk(pointers)
    found = []
    for node in forest.node_of(pointers).tolist():
        chosen = np.array([node] if node != NO_NODE else [], dtype=np.int64)
        keys, values = forest.gather(forest.leaves_of(chosen)[0])
        found.append((keys, values, node != NO_NODE and bool(forest.whole[node])))
    return found


class MappingTrees:
    """A summary of the mapping trees at some *roots*, made without keeping their mappings."""

    def __init__(self, reader: BlockReader, roots: Iterable[int]) -> None:
        latest: list[Uint64s] = []
        highest: list[Uint64s] = []
        blocks: list[Int64s] = []
        possible = np.uint64(reader.nr_blocks * ENTRIES_PER_BITMAP)

        def note(leaves: Leaves) -> None:
            filled = leaves.counts > 0
            if filled.any():
                starts = (np.cumsum(leaves.counts) - leaves.counts)[filled]
                blocks.append(leaves.blocks[filled])
                latest.append(np.maximum.reduceat(times(leaves.values), starts))
                data = data_blocks(leaves.values) + np.uint64(1)
                data[data > possible] = 0
                highest.append(np.maximum.reduceat(data, starts))

        self._forest = forest = Forest(reader, MAPPING, Problems(), "mapping tree", on_leaves=note)
        pointers = np.array(sorted(set(roots)), dtype=np.uint64)
        forest.walk(pointers)
        self._time = np.zeros(len(forest.blocks), dtype=np.uint64)
        self._needed = np.zeros(len(forest.blocks), dtype=np.uint64)
        if latest:
            leaves = forest.node_of(np.concatenate(blocks).astype(np.uint64))
            self._time[leaves] = np.concatenate(latest)
            self._needed[leaves] = np.concatenate(highest)
        edges = forest.sound_edges()
        level_of = forest.height[edges.parent]
        for level in range(1, int(forest.height.max(initial=0)) + 1):
            at = level_of == level
            for column in (self._time, self._needed):
                np.maximum.at(column, edges.parent[at], column[edges.target[at]])

    def data_blocks_needed(self, roots: Iterable[int]) -> int:
        """Data blocks that a data device must have to hold all that *roots* map.

        Mappings to blocks that metadata of this size could not count are damage, and pass for none.
        """
        nodes = self._forest.node_of(np.array(list(roots), dtype=np.uint64))
        return int(self._needed[nodes[nodes != NO_NODE]].max(initial=0))

    def totals(self, roots: Iterable[int]) -> list[tuple[int, bool, int]]:
        """For each of *roots*: mappings found, whether none is missing, and their latest time."""
        nodes = self._forest.node_of(np.array(list(roots), dtype=np.uint64))
        present = nodes != NO_NODE
        known = nodes[present]
        columns = []
        for column in (self._forest.total, self._forest.whole, self._time):
            row = np.zeros(len(nodes), dtype=column.dtype)
            row[present] = column[known]
            columns.append(row.tolist())
        return list(zip(*columns, strict=True))
