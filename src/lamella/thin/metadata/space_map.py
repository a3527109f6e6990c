# SPDX-License-Identifier: Apache-2.0
"""A space map as it lies on disk: its index, its bitmaps in order, its overflow counts; damage is collected.

Source of the rules: ``drivers/md/persistent-data/dm-space-map-common.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.checksum import BITMAP_XOR, INDEX_XOR, block_checksum, verify_many
from lamella.thin.format.space_map import (
    ENTRIES_PER_BITMAP,
    INDEX_ENTRY,
    MAX_INDEX_ENTRIES,
    REF_COUNT,
    SpaceMapRoot,
    block_numbers,
    unpack_bitmaps,
    unpack_metadata_index,
)
from lamella.thin.metadata.btree import Forest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import numpy.typing as npt

    from lamella.thin.format.arrays import Bools, Int64s, Uint8s, Uint64s
    from lamella.thin.metadata.block_reader import BlockReader
    from lamella.thin.metadata.findings import Problems

BITMAPS_AT_ONCE = 128
"""Bitmaps decoded together: two million counts."""


class SpaceMapReader:
    """One of the two space maps. *metadata* says which: its index is one block instead of a tree."""

    def __init__(
        self, reader: BlockReader, root: SpaceMapRoot, problems: Problems, *, metadata: bool
    ) -> None:
        self.reader = reader
        self.root = root
        self.problems = problems
        self.place = "metadata space map" if metadata else "data space map"
        self.nr_blocks = root.nr_blocks
        self.references: list[Int64s] = []
        """Metadata blocks that the map itself refers to, one element for each reference."""
        before = problems.fatal_count
        self.index = self._read_metadata_index() if metadata else self._read_index_tree()
        """An :data:`INDEX_ENTRY` for each bitmap, in order."""
        self._read_overflow()
        self._check_pointers()
        self.sound = problems.fatal_count == before
        """Whether index and overflow tree are undamaged; without that the bitmaps cannot be read."""

    def _bitmaps_wanted(self) -> int:
        return -(-self.nr_blocks // ENTRIES_PER_BITMAP)

    def _read_metadata_index(self) -> npt.NDArray[np.void]:
        nothing = np.empty(0, dtype=INDEX_ENTRY)
        block, wanted = self.root.bitmap_root, self._bitmaps_wanted()
        if not 0 < block < self.reader.nr_blocks:
            self.problems.add(self.place, f"its index block {block} lies outside the metadata device")
            return nothing
        if wanted > MAX_INDEX_ENTRIES:
            self.problems.add(self.place, f"it has {self.nr_blocks} blocks, more than the format allows")
            return nothing
        content = self.reader.read_one(block)
        place = f"{self.place}, block {block}"
        if block_checksum(content, INDEX_XOR) != int.from_bytes(content[:4], "little"):
            self.problems.add(place, "bad checksum in index block", block=block)
            return nothing
        if int.from_bytes(content[8:16], "little") != block:
            self.problems.add(place, "the index block has another block's number", block=block)
            return nothing
        self.references.append(np.array([block], dtype=np.int64))
        return unpack_metadata_index(content)[:wanted]

    def _read_index_tree(self) -> npt.NDArray[np.void]:
        forest, node = self._tree(self.root.bitmap_root, INDEX_ENTRY, f"{self.place}'s index")
        keys, entries = forest.entries_of(node)
        wanted = self._bitmaps_wanted()
        if len(keys) < wanted or (keys[:wanted] != np.arange(wanted, dtype=np.uint64)).any():
            if forest.whole[node] if node >= 0 else False:
                self.problems.add(self.place, f"its index has not all entries for {self.nr_blocks} blocks")
            return np.empty(0, dtype=INDEX_ENTRY)
        if len(keys) > wanted:
            self.problems.add(
                self.place, f"its index has {len(keys) - wanted} entries past its end", fatal=False
            )
            self.references.append(_inside(entries["blocknr"][wanted:], self.reader.nr_blocks))
        return entries[:wanted]

    def _read_overflow(self) -> None:
        forest, node = self._tree(self.root.ref_count_root, REF_COUNT, f"{self.place}'s overflow tree")
        keys, counts = forest.entries_of(node)
        inside = keys < np.uint64(min(self.nr_blocks, 2**63))
        if not inside.all():
            self.problems.add(self.place, "it counts references to blocks past its end", fatal=False)
        self.overflow_blocks = keys[inside].astype(np.int64)
        self.overflow_counts = counts[inside].astype(np.int64)

    def _tree(self, root: int, value: np.dtype[Any], place: str) -> tuple[Forest, int]:
        forest = Forest(self.reader, value, self.problems, place, keep=True)
        roots = np.array([root], dtype=np.uint64)
        forest.walk(roots)
        self.references.append(_inside(roots, self.reader.nr_blocks))
        self.references.append(forest.references())
        return forest, int(forest.node_of(roots)[0])

    def _check_pointers(self) -> None:
        blocks = self.index["blocknr"]
        outside = (blocks >= self.reader.nr_blocks) | (blocks == 0)
        if outside.any():
            first = int(np.flatnonzero(outside)[0])
            self.problems.add(
                self.place, f"bitmap {first} should be in block {int(blocks[first])}, outside the device"
            )
        inside = _inside(blocks, self.reader.nr_blocks)
        self.references.append(inside)
        distinct, times = np.unique(inside, return_counts=True)
        if (times > 1).any():
            self.problems.add_blocks(self.place, distinct[times > 1], "the bitmap is used twice")

    def bitmaps(self) -> Iterator[tuple[int, Uint8s, Bools]]:
        """Yield (number of the first block counted, counts (n, 16320) of 0 to 3, which rows are good).

        In order and without gaps. Bad rows are reported as problems. Needs ``sound``.
        """
        places = self.index["blocknr"].astype(np.int64)
        for start in range(0, len(places), BITMAPS_AT_ONCE):
            part = places[start : start + BITMAPS_AT_ONCE]
            order = np.argsort(part)
            rows = self.reader.read(part[order])
            good = verify_many(rows, BITMAP_XOR)
            if not good.all():
                self.problems.add_blocks(self.place, part[order][~good], "bad checksum in bitmap")
            moved = good & (block_numbers(rows) != part[order].astype(np.uint64))
            if moved.any():
                self.problems.add_blocks(
                    self.place, part[order][moved], "the bitmap has another block's number"
                )
            good &= ~moved
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            yield start * ENTRIES_PER_BITMAP, unpack_bitmaps(rows[back]), good[back]


def _inside(pointers: Uint64s, nr_blocks: int) -> Int64s:
    return pointers[pointers < nr_blocks].astype(np.int64)
