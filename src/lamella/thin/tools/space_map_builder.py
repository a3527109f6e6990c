# SPDX-License-Identifier: Apache-2.0
"""Both space maps of a pool written whole, from reference counts that are known.

Source of the layout: ``drivers/md/persistent-data/dm-space-map-common.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.btree_builder import build_tree
from lamella.thin.format.space_map import (
    ENTRIES_PER_BITMAP,
    INDEX_ENTRY,
    OVERFLOW,
    REF_COUNT,
    SpaceMapRoot,
    pack_bitmaps,
    pack_metadata_index,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from lamella.thin.format.arrays import Int64s, Uint8s, Uint32s, Uint64s
    from lamella.thin.metadata.reference_counts import References

BITMAPS_AT_ONCE = 128


class SpaceMapWriter:
    """Writes space maps into blocks that *take* gives (n of them, ascending) by *write* (blocks, rows).

    The data map first: the metadata map counts one reference to each block taken for either.
    """

    def __init__(self, take: Callable[[int], Uint64s], write: Callable[[Uint64s, Uint8s], None]) -> None:
        self._source = take
        self.write = write
        self._taken: list[Uint64s] = []

    def _take(self, count: int) -> Uint64s:
        blocks = self._source(count)
        self._taken.append(blocks)
        return blocks

    def _tree(self, keys: Uint64s, values: npt.NDArray[np.generic]) -> int:
        root, levels = build_tree(keys, values, self._take)
        for blocks, rows in levels:
            self.write(blocks, rows)
        return root

    def _bitmaps(
        self, nr_blocks: int, references: References, places: Uint64s
    ) -> tuple[int, npt.NDArray[np.void], Uint64s, Uint32s]:
        """Write all bitmaps; gives blocks in use, index entries, and the overflow tree's keys and counts."""
        entries = np.zeros(len(places), dtype=INDEX_ENTRY)
        allocated = 0
        keys, counts = [], []
        for start in range(0, len(places), BITMAPS_AT_ONCE):
            part = places[start : start + BITMAPS_AT_ONCE]
            first = start * ENTRIES_PER_BITMAP
            last = min(first + len(part) * ENTRIES_PER_BITMAP, nr_blocks)
            found = np.zeros(len(part) * ENTRIES_PER_BITMAP, dtype=np.int64)
            found[: last - first] = references.counts(first, last)
            large = np.flatnonzero(found >= OVERFLOW)
            keys.append((large + first).astype(np.uint64))
            counts.append(found[large].astype(REF_COUNT))
            rows = np.minimum(found, OVERFLOW).astype(np.uint8).reshape(len(part), -1)
            self.write(part, pack_bitmaps(rows, part))
            free = rows == 0
            chosen = entries[start : start + len(part)]
            chosen["blocknr"] = part
            chosen["nr_free"] = np.count_nonzero(free, axis=1)
            chosen["none_free_before"] = np.where(
                free.any(axis=1), np.argmax(free, axis=1), ENTRIES_PER_BITMAP
            )
            allocated += int(np.count_nonzero(rows))
        none = np.empty(0, dtype=np.uint64)
        return (
            allocated,
            entries,
            np.concatenate(keys) if keys else none,
            np.concatenate(counts) if counts else none.astype(REF_COUNT),
        )

    def data_map(self, nr_blocks: int, references: References) -> SpaceMapRoot:
        """The map of a data device of *nr_blocks* blocks."""
        places = self._take(-(-nr_blocks // ENTRIES_PER_BITMAP))
        allocated, entries, keys, counts = self._bitmaps(nr_blocks, references, places)
        index_root = self._tree(np.arange(len(entries), dtype=np.uint64), entries)
        return SpaceMapRoot(nr_blocks, allocated, index_root, self._tree(keys, counts))

    def metadata_map(self, tree_counts: Int64s) -> SpaceMapRoot:
        """The map of the metadata itself: *tree_counts* and one reference to each block taken here."""
        nr_blocks = len(tree_counts)
        large = np.flatnonzero(tree_counts >= OVERFLOW)
        overflow_root = self._tree(large.astype(np.uint64), tree_counts[large].astype(REF_COUNT))
        places = self._take(-(-nr_blocks // ENTRIES_PER_BITMAP))
        index_block = int(self._take(1)[0])
        final = tree_counts.copy()
        for blocks in self._taken:
            final[blocks.astype(np.int64)] = 1
        allocated, entries, _, _ = self._bitmaps(nr_blocks, _Table(final), places)
        content = np.frombuffer(pack_metadata_index(entries, index_block), dtype=np.uint8)
        self.write(np.array([index_block], dtype=np.uint64), content.reshape(1, -1))
        return SpaceMapRoot(nr_blocks, allocated, index_block, overflow_root)


class _Table:
    """Reference counts in one array."""

    def __init__(self, table: Int64s) -> None:
        self.table = table

    def counts(self, first: int, last: int) -> Int64s:
        return self.table[first:last]
