# SPDX-License-Identifier: Apache-2.0
"""What older copies on the disk still have of parts of mapping trees that are lost.

A commit writes a changed node to a new block, and the old block is free until another commit needs it. So a
node that cannot be read any more often has an older copy, which the device's tree in an older list of devices
leads to. Only the range of keys that is lost is taken from there, only of the same device, and only what does
not contradict the present: a data block that is mapped at another place now has been given away since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella.thin.format.mappings import data_blocks, times
from lamella.thin.format.node import MAPPING
from lamella.thin.metadata.btree import NO_NODE, Forest, Leaves
from lamella.thin.metadata.findings import Problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lamella.thin.format.arrays import Bools, Uint64s
    from lamella.thin.metadata.block_reader import BlockReader

    Range = tuple[int, int]
    """The first and the last key."""


_LAST = (1 << 64) - 1


class Age(NamedTuple):
    """How old a list of devices is; larger is newer."""

    transaction_id: int
    """The highest among its devices; 0 if their details are lost."""
    time: int


@dataclass(slots=True)
class OlderTree:
    """A device's mapping tree as an older list of devices has it."""

    root: int
    age: Age


@dataclass(slots=True)
class Found:
    """What older trees have of one device's gaps."""

    pieces: list[tuple[Uint64s, Uint64s]] = field(default_factory=list)
    """Keys and values, for each gap."""
    ages: list[Age] = field(default_factory=list)
    """Of the trees that they are from, the newest first."""
    given_away: int = 0
    """Mappings left out because their data block is in use elsewhere."""

    @property
    def count(self) -> int:
        return sum(len(keys) for keys, _ in self.pieces)


def fill_gaps(
    reader: BlockReader,
    roots: Mapping[int, int],
    older: Mapping[int, Sequence[OlderTree]],
    *,
    latest: int,
    data_chunks: int,
) -> dict[int, Found]:
    """By device id what *older* trees, the newest first, have of what is lost of those at *roots*.

    Mappings with a time after *latest*, or past a data device of *data_chunks*, are left out.
    """
    pointers = np.array(sorted({root for trees in older.values() for root in _roots(trees)}), dtype=np.uint64)
    if not len(pointers):
        return {}
    forest = Forest(reader, MAPPING, Problems(), "older mapping tree", keep=True)
    forest.walk(pointers)
    present = Forest(reader, MAPPING, Problems(), "mapping tree")
    present.walk(np.array(sorted(set(roots.values())), dtype=np.uint64))
    found: dict[int, Found] = {}
    for dev_id, trees in older.items():
        gaps = present.gaps(_node(present, roots[dev_id]))
        taken = _take(forest, trees, gaps)
        if taken.count:
            found[dev_id] = taken
    if not found:
        return {}
    users = _Users(reader, roots.values(), found.values())
    for one in found.values():
        one.pieces = [_sound(keys, values, latest, data_chunks, one, users) for keys, values in one.pieces]
        one.pieces = [piece for piece in one.pieces if len(piece[0])]
    return {dev_id: one for dev_id, one in found.items() if one.count}


def broken(reader: BlockReader, roots: Mapping[int, int]) -> list[int]:
    """The devices, by id, of whose trees at *roots* something is lost."""
    forest = Forest(reader, MAPPING, Problems(), "mapping tree")
    forest.walk(np.array(sorted(set(roots.values())), dtype=np.uint64))
    return [dev_id for dev_id, root in roots.items() if not _whole(forest, _node(forest, root))]


def _roots(trees: Iterable[OlderTree]) -> set[int]:
    return {tree.root for tree in trees}


def _node(forest: Forest, root: int) -> int:
    return int(forest.node_of(np.array([root], dtype=np.uint64))[0])


def _whole(forest: Forest, node: int) -> bool:
    return node != NO_NODE and bool(forest.whole[node])


def _take(forest: Forest, trees: Sequence[OlderTree], gaps: list[Range]) -> Found:
    """The entries of *trees* in *gaps*; what the first has lost as well comes from the next one."""
    found = Found()
    for tree in trees:
        if not gaps:
            break
        node = _node(forest, tree.root)
        lost = forest.gaps(node)
        wanted, gaps = _without(gaps, lost), _common(gaps, lost)
        leaves = forest.leaves_of(np.array([node], dtype=np.int64))[0]
        before = found.count
        for low, high in wanted:
            reach = (forest.low[leaves] <= np.uint64(high)) & (forest.high[leaves] >= np.uint64(low))
            keys, values = forest.gather(leaves[reach & (forest.counts[leaves] > 0)])
            start = int(np.searchsorted(keys, np.uint64(low)))
            stop = int(np.searchsorted(keys, np.uint64(high), side="right"))
            if start < stop:
                found.pieces.append((keys[start:stop], values[start:stop]))
        if found.count > before:
            found.ages.append(tree.age)
    found.pieces.sort(key=lambda piece: int(piece[0][0]))
    return found


def _sound(
    keys: Uint64s, values: Uint64s, latest: int, data_chunks: int, found: Found, users: _Users
) -> tuple[Uint64s, Uint64s]:
    data = data_blocks(values)
    good = (data < np.uint64(data_chunks)) & (times(values) <= np.uint64(latest))
    elsewhere = good & users.elsewhere(keys, data)
    found.given_away += int(np.count_nonzero(elsewhere))
    good &= ~elsewhere
    users.add(keys[good], data[good])
    return keys[good], values[good]


class _Users:
    """At which keys the data blocks are mapped that some older mappings lead to."""

    def __init__(self, reader: BlockReader, roots: Iterable[int], found: Iterable[Found]) -> None:
        pieces = [data_blocks(values) for one in found for _, values in one.pieces]
        wanted = np.unique(np.concatenate(pieces))
        self._keys: list[Uint64s] = []
        self._data: list[Uint64s] = []

        def note(leaves: Leaves) -> None:
            data = data_blocks(leaves.values)
            met = np.isin(data, wanted)
            self.add(leaves.keys[met], data[met])

        forest = Forest(reader, MAPPING, Problems(), "mapping tree", on_leaves=note)
        forest.walk(np.array(sorted(set(roots)), dtype=np.uint64))

    def add(self, keys: Uint64s, data: Uint64s) -> None:
        if len(keys):
            self._keys.append(keys)
            self._data.append(data)

    def elsewhere(self, keys: Uint64s, data: Uint64s) -> Bools:
        """Which of *data* are mapped at another key than the one of *keys*."""
        if not self._keys:
            return np.zeros(len(keys), dtype=np.bool_)
        all_data, which = np.unique(np.concatenate(self._data), return_inverse=True)
        all_keys, where = np.unique(np.concatenate(self._keys), return_inverse=True)
        pairs = np.sort(which * len(all_keys) + where)
        data_at = np.minimum(np.searchsorted(all_data, data), len(all_data) - 1)
        key_at = np.minimum(np.searchsorted(all_keys, keys), len(all_keys) - 1)
        users = np.where(all_data[data_at] == data, np.bincount(which)[data_at], 0)
        pair = data_at * len(all_keys) + key_at
        here = np.searchsorted(pairs, pair, side="right") - np.searchsorted(pairs, pair)
        same: Bools = users > np.where(all_keys[key_at] == keys, here, 0)
        return same


def _common(one: list[Range], other: list[Range]) -> list[Range]:
    """What lies in both; the ranges of each ascend and lie apart."""
    found = []
    at = there = 0
    while at < len(one) and there < len(other):
        low, high = max(one[at][0], other[there][0]), min(one[at][1], other[there][1])
        if low <= high:
            found.append((low, high))
        if one[at][1] < other[there][1]:
            at += 1
        else:
            there += 1
    return found


def _without(ranges: list[Range], holes: list[Range]) -> list[Range]:
    """What of *ranges* lies in none of *holes*."""
    edges = [high + 1 for _, high in holes]
    starts = [low - 1 for low, _ in holes]
    return [
        part
        for part in _common(ranges, list(zip([0, *edges], [*starts, _LAST], strict=True)))
        if part[0] <= part[1]
    ]
