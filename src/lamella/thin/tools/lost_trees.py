# SPDX-License-Identifier: Apache-2.0
"""Mapping trees that are whole, but that no list of devices leads to any more.

Whose tree it is must be certain, for it decides who sees which data. Two signs are taken together: it has
as many mappings as the device's details say, and at least half of them are those of an older tree that is
known to be the device's. A snapshot that has not changed since has the tree of a device that has been
snapshotted at the very time that it was created, with as many mappings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.node import MAPPING
from lamella.thin.metadata.btree import Forest
from lamella.thin.metadata.findings import Problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamella.thin.format.arrays import Uint64s
    from lamella.thin.format.details import DeviceDetails
    from lamella.thin.metadata.block_reader import BlockReader

MOST_COMPARED = 64
"""Trees compared with one device's older tree."""


def descendants(
    reader: BlockReader, older: Mapping[int, int], choices: Mapping[int, list[int]]
) -> dict[int, int]:
    """For devices by id the one root among *choices* that continues the tree at its root in *older*.

    Where two would do equally well, there is no answer.
    """
    wanted = {dev_id: roots[:MOST_COMPARED] for dev_id, roots in choices.items() if dev_id in older}
    all_roots = {root for roots in wanted.values() for root in roots} | {older[dev_id] for dev_id in wanted}
    forest = Forest(reader, MAPPING, Problems(), "mapping tree", keep=True)
    forest.walk(np.array(sorted(all_roots), dtype=np.uint64))

    def entries(root: int) -> tuple[Uint64s, Uint64s]:
        return forest.entries_of(int(forest.node_of(np.array([root], dtype=np.uint64))[0]))

    found = {}
    for dev_id, roots in wanted.items():
        before = entries(older[dev_id])
        scores = sorted(((_common(before, entries(root)), root) for root in roots), reverse=True)
        unique = len(scores) == 1 or scores[0][0] > scores[1][0]
        if scores and unique and scores[0][0] * 2 >= max(len(before[0]), 1):
            found[dev_id] = scores[0][1]
    return found


def _common(one: tuple[Uint64s, Uint64s], other: tuple[Uint64s, Uint64s]) -> int:
    """How many mappings are in both."""
    _, here, there = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    return int((one[1][here] == other[1][there]).sum())


def unchanged_snapshots(
    details: Mapping[int, DeviceDetails],
    roots: Mapping[int, int],
    latest: Mapping[int, int],
    wanted: set[int],
) -> dict[int, int]:
    """Roots for those of *wanted* that can only have the same tree as a device in *roots*, their origin.

    *latest* has the latest time in each of these devices' trees.
    """
    found = {}
    for dev_id in sorted(wanted):
        one = details[dev_id]
        made = one.creation_time
        same = {
            root
            for other, root in roots.items()
            if details[other].mapped_blocks == one.mapped_blocks
            and details[other].creation_time < made == details[other].snapshotted_time
            and latest[other] < made
        }
        if len(same) == 1 and one.snapshotted_time == made and one.mapped_blocks:
            [found[dev_id]] = same
    return found
