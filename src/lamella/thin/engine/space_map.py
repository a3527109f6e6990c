# SPDX-License-Identifier: Apache-2.0
"""Reference counts of a running pool's blocks, and the search for free ones.

Counts are held in pages, one per bitmap block (16320 counts), loaded when first touched. A page that
changes keeps a copy of what is committed: a block may be allocated only if it is free now *and* was
free in the last committed transaction, so that a crash finds every block of that transaction as it was.
Free space is searched from the lowest block on, afresh in each transaction, as the kernel does. What a
pool does when none is left: :meth:`lamella.thin.engine.pool_core.PoolCore.allocate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import CorruptError, NoSpaceError
from lamella.thin.format.checksum import BITMAP_XOR
from lamella.thin.format.runs import slices
from lamella.thin.format.space_map import (
    ENTRIES_PER_BITMAP,
    INDEX_ENTRY,
    OVERFLOW,
    REF_COUNT,
    SpaceMapRoot,
    pack_bitmaps,
    unpack_bitmaps,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from lamella.thin.engine.block_cache import BlockStore
    from lamella.thin.engine.btree import Tree
    from lamella.thin.format.arrays import Bools, Int64s, Uint32s, Uint64s

CACHED_PAGES = 256
"""Clean pages kept (64 KiB each)."""
_UNDERFLOW = 0xF0000000


class Page:
    """The counts of one bitmap: *now*, and as committed (None while both are the same)."""

    __slots__ = ("base", "now")

    def __init__(self, now: Uint32s) -> None:
        self.now = now
        self.base: Uint32s | None = None


class SpaceMap(ABC):
    """Counts of ``size`` blocks. Where the bitmaps and their index lie is for the subclasses to say."""

    what: str
    """What an error message calls one of the counted blocks."""
    searches_again: bool
    """Whether a search that comes to the end begins anew. The caller of one that does not has to know that
    what it gets then may have been written to."""

    def __init__(self, blocks: BlockStore, overflow: Tree, root: SpaceMapRoot) -> None:
        self.blocks = blocks
        self.overflow = overflow
        self.size = root.nr_blocks
        self._allocated = root.nr_allocated
        self._check_allocated()
        self.bitmap_root = root.bitmap_root
        self.ref_count_root = root.ref_count_root
        self._pages: dict[int, Page] = {}
        self._dirty: dict[int, Page] = {}
        self._index: npt.NDArray[np.void] | None = None
        self._first = self._next = self._end = self._marked = 0
        self._runs: list[tuple[int, int]] = []
        self._candidates: list[int] | None = None
        self._held = 0
        self._reusable = False

    # -- the index, and pages --------------------------------------------------------------------

    @abstractmethod
    def load_index(self) -> npt.NDArray[np.void]:
        """All index entries (n,), in order, writable."""

    @property
    def index(self) -> npt.NDArray[np.void]:
        """An :data:`INDEX_ENTRY` for each bitmap, as committed."""
        if self._index is None:
            self._index = self.load_index()
        return self._index

    def page(self, number: int) -> Page:
        """The counts of bitmap *number*."""
        found = self._pages.get(number)
        if found is None:
            found = Page(self._load(number))
            if len(self._pages) >= CACHED_PAGES + len(self._dirty):
                for old in [n for n in self._pages if n not in self._dirty][: CACHED_PAGES // 4]:
                    del self._pages[old]
            self._pages[number] = found
        return found

    def _load(self, number: int) -> Uint32s:
        if not 0 <= number < len(self.index):
            raise self._corrupt(number * ENTRIES_PER_BITMAP, f"does not exist: there are {self.size}")
        block = int(self.index[number]["blocknr"])
        packed = self.blocks.raw(block, BITMAP_XOR)
        counts: Uint32s = unpack_bitmaps(packed[None, :])[0].astype(np.uint32)
        large = np.flatnonzero(counts == OVERFLOW)
        if len(large):
            first = number * ENTRIES_PER_BITMAP
            keys, values = self.overflow.read_range(
                self.ref_count_root, first, first + ENTRIES_PER_BITMAP - 1
            )
            places = (keys - np.uint64(first)).astype(np.int64)
            if not np.array_equal(places, large):
                raise self._corrupt(first + int(large[0]), "has no large reference count, or others have one")
            counts[large] = values
        return counts

    def _touch(self, number: int) -> Page:
        page = self.page(number)
        if page.base is None:
            page.base = page.now.copy()
            self._dirty[number] = page
        return page

    def _corrupt(self, block: int, reason: str) -> CorruptError:
        return CorruptError(
            f"the metadata of {self.blocks.device.name}: {self.what} {block} {reason}",
            hint="run thin_check on the metadata, and rebuild it with thin_repair or restore a copy",
        )

    def _check_allocated(self) -> None:
        if not 0 <= self._allocated <= self.size:
            raise self.blocks.corrupt(
                0, f"counts {self._allocated} {self.what}s in use, but there are only {self.size}"
            )

    # -- counting --------------------------------------------------------------------------------

    @property
    def allocated(self) -> int:
        """Blocks with a count above zero."""
        return self._allocated + self._next - self._marked

    @property
    def free(self) -> int:
        """Blocks with a count of zero; those freed since the last commit are among them."""
        return self.size - self.allocated

    @property
    def allocatable(self) -> int:
        """Blocks that can be had before the next commit: free, and free at the last one too."""
        return self.free - self._held

    @property
    def held(self) -> int:
        """Blocks freed since the last commit, which keep their content until the next."""
        return self._held

    def record_allocated(self) -> None:
        """Count the blocks that :meth:`allocate_one` has handed out since the last call."""
        start, end = self._marked, self._next
        if start != end:
            number, place = divmod(start, ENTRIES_PER_BITMAP)
            self._touch(number).now[place : place + end - start] = 1
            self._allocated += end - start
            self._marked = end
            self._check_allocated()

    def count(self, block: int) -> int:
        """How many refer to *block*."""
        self.record_allocated()
        number, place = divmod(block, ENTRIES_PER_BITMAP)
        return int(self.page(number).now[place])

    def is_new(self, block: int) -> bool:
        """Whether *block* was free in the last committed transaction, so that it may be rewritten."""
        self.record_allocated()
        number, place = divmod(block, ENTRIES_PER_BITMAP)
        base = self.page(number).base
        return base is not None and not base[place]

    def retain(self, blocks: npt.NDArray[np.integer] | Iterable[int]) -> None:
        """One more reference to each of *blocks*; a block may be named several times."""
        self.record_allocated()
        for number, places in self._by_page(blocks):
            now = self._touch(number).now
            if not now[places].all():
                bad = int(places[now[places] == 0][0])
                raise self._corrupt(number * ENTRIES_PER_BITMAP + bad, "is in use, but its count is zero")
            np.add.at(now, places, 1)

    def release(self, blocks: npt.NDArray[np.integer] | Iterable[int]) -> Int64s:
        """One reference less to each of *blocks*; returns those that nothing refers to any more."""
        self.record_allocated()
        freed: list[Int64s] = []
        for number, places in self._by_page(blocks):
            page = self._touch(number)
            now = page.now
            np.subtract.at(now, places, 1)
            left = now[places]
            if (left > _UNDERFLOW).any():
                bad = int(places[left > _UNDERFLOW][0])
                raise self._corrupt(number * ENTRIES_PER_BITMAP + bad, "is in use, but its count is zero")
            gone = np.unique(places[left == 0])
            if len(gone):
                self._allocated -= len(gone)
                self._check_allocated()
                assert page.base is not None
                held = int(np.count_nonzero(page.base[gone]))
                self._held += held
                self._reusable |= held < len(gone)
                freed.append(gone + number * ENTRIES_PER_BITMAP)
        if len(freed) == 1:
            return freed[0]
        return np.concatenate(freed) if freed else np.empty(0, dtype=np.int64)

    @staticmethod
    def _by_page(blocks: npt.NDArray[np.integer] | Iterable[int]) -> Iterable[tuple[int, Int64s]]:
        given = np.asarray(blocks if isinstance(blocks, np.ndarray) else list(blocks)).astype(np.int64)
        if not len(given):
            return
        numbers = given // ENTRIES_PER_BITMAP
        first = int(numbers[0])
        if len(given) == 1 or (numbers == first).all():
            yield first, given - first * ENTRIES_PER_BITMAP
            return
        # Sixteen bits are sorted by radix, ten times as fast; they are enough for 65 TiB of small chunks.
        short = numbers.astype(np.uint16) if int(numbers.max()) < 1 << 16 else numbers
        order = np.argsort(short, kind="stable")
        given, numbers = given[order], numbers[order]
        for start, end in slices(np.diff(numbers) != 0):
            number = int(numbers[start])
            yield number, given[start:end] - number * ENTRIES_PER_BITMAP

    # -- allocating ------------------------------------------------------------------------------

    def allocate_one(self) -> int:
        """A block that was free, with a count of one now. Raises :class:`NoSpaceError`."""
        block = self._next
        if block == self._end:
            self._next_run()
            block = self._next
        self._next = block + 1
        return block

    def allocate(self, wanted: int) -> Int64s:
        """*wanted* blocks, ascending and together where space is; all or :class:`NoSpaceError`."""
        found: list[Int64s] = []
        missing = wanted
        try:
            while missing:
                if self._next == self._end:
                    self._next_run()
                take = min(missing, self._end - self._next)
                found.append(np.arange(self._next, self._next + take, dtype=np.int64))
                self._next += take
                missing -= take
        except NoSpaceError:
            for part in found:
                self.release(part)
            self.restart_search()
            raise
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def upcoming(self, block: int, limit: int) -> int:
        """How many blocks from *block* on, just allocated, lie in the free run that it came from (itself
        included); at most *limit*."""
        return min(self._end - block, limit) if self._first <= block < self._end else 1

    def _next_run(self) -> None:
        self.record_allocated()
        while not self._runs:
            try:
                self._runs = self._search()
            except NoSpaceError:
                # Behind the search lie blocks that were both allocated and freed since the last commit.
                if not (self.searches_again and self._reusable):
                    raise
                self.restart_search()
        self._next, self._end = self._runs.pop()
        self._first = self._marked = self._next

    def _search(self) -> list[tuple[int, int]]:
        """The allocatable runs of the next bitmap that may have any, last one first."""
        if self._candidates is None:
            self._candidates = np.flatnonzero(self.index["nr_free"])[::-1].tolist()
        if not self._candidates:
            raise NoSpaceError(f"no free {self.what} in {self.blocks.device.name}")
        number = self._candidates.pop()
        page = self.page(number)
        first = number * ENTRIES_PER_BITMAP
        counts = page.now[: self.size - first]
        usable = counts == 0
        if page.base is not None:
            usable &= page.base[: len(usable)] == 0
        edges = np.flatnonzero(np.diff(usable, prepend=False, append=False)) + first
        starts, ends = edges[::2].tolist(), edges[1::2].tolist()
        return list(zip(starts, ends, strict=True))[::-1]

    def free_runs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(start, end) of the runs of blocks from *first* to before *end* that nothing refers to, nor did
        at the last commit."""
        self.record_allocated()
        while first < end:
            number, within = divmod(first, ENTRIES_PER_BITMAP)
            base = first - within
            stop = min(end, base + ENTRIES_PER_BITMAP)
            page = self.page(number)
            usable = page.now[within : stop - base] == 0
            if page.base is not None:
                usable &= page.base[within : stop - base] == 0
            edges = np.flatnonzero(np.diff(usable, prepend=False, append=False)) + first
            yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
            first = stop

    def restart_search(self) -> None:
        """Search for free blocks from the lowest on again, as after a commit or a resize."""
        self.record_allocated()
        self._first = self._next = self._end = self._marked = 0
        self._runs = []
        self._candidates = None
        self._reusable = False

    # -- writing ---------------------------------------------------------------------------------

    def large_counts(self) -> tuple[Uint64s, Uint32s, Bools]:
        """What changed in the overflow tree: (blocks, new counts, which of them go), blocks ascending."""
        self.record_allocated()
        keys, values, gone = [], [], []
        for number in sorted(self._dirty):
            page = self._dirty[number]
            assert page.base is not None
            changed = np.flatnonzero(
                (page.now != page.base) & ((page.now >= OVERFLOW) | (page.base >= OVERFLOW))
            )
            if len(changed):
                keys.append((changed + number * ENTRIES_PER_BITMAP).astype(np.uint64))
                values.append(page.now[changed])
                gone.append(page.now[changed] < OVERFLOW)
        if not keys:
            return np.empty(0, np.uint64), np.empty(0, REF_COUNT), np.empty(0, np.bool_)
        return np.concatenate(keys), np.concatenate(values), np.concatenate(gone)

    def put_bitmaps(self, places: dict[int, int]) -> None:
        """Hand the bitmaps of the pages in *places* (bitmap number -> block) to the block store."""
        numbers = sorted(places)
        for start in range(0, len(numbers), 1024):
            part = numbers[start : start + 1024]
            now = np.stack([self._pages[number].now for number in part])
            locations = np.array([places[number] for number in part], dtype=np.uint64)
            rows = pack_bitmaps(np.minimum(now, OVERFLOW).astype(np.uint8), locations, sealed=False)
            free = now == 0
            entries = np.zeros(len(part), dtype=INDEX_ENTRY)
            entries["blocknr"] = locations
            entries["nr_free"] = free.sum(axis=1)
            entries["none_free_before"] = np.where(free.any(axis=1), free.argmax(axis=1), ENTRIES_PER_BITMAP)
            self.index[part] = entries
            for row, number in enumerate(part):
                self.blocks.put_raw(places[number], rows[row], BITMAP_XOR)

    def extend_index(self, size: int) -> range:
        """Grow to *size* blocks, the new ones free; returns the numbers of the bitmaps this needs more."""
        old = len(self.index)
        self.record_allocated()
        self.size = size
        bitmaps = max(-(-size // ENTRIES_PER_BITMAP), old)
        more = np.zeros(bitmaps, dtype=INDEX_ENTRY)
        more[:old] = self.index
        more["nr_free"][old:] = ENTRIES_PER_BITMAP
        self._index = more
        self.restart_search()
        return range(old, bitmaps)

    def root(self) -> SpaceMapRoot:
        """What the superblock has to say."""
        return SpaceMapRoot(self.size, self.allocated, self.bitmap_root, self.ref_count_root)

    def committed(self) -> None:
        """The superblock is written: what is now is what a crash would find."""
        self.restart_search()
        for page in self._dirty.values():
            page.base = None
        self._dirty.clear()
        self._held = 0
