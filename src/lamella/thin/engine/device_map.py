# SPDX-License-Identifier: Apache-2.0
"""Where a thin device's chunks lie, as an array in memory in front of its mapping tree.

The map is held in pages of 1024 chunks, loaded when first needed, so that opening a volume costs nothing
and a large one costs what is used of it. Changes stay in the pages until the tree takes all of them in one
batch (:meth:`DeviceMap.take_changes`): at a commit, before a snapshot, or when memory runs short.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format.node import MAPPING, TIME_BITS
from lamella.thin.format.runs import slices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.thin.engine.btree import Tree
    from lamella.thin.engine.btree_update import TreeWriter
    from lamella.thin.format.arrays import Bools, Int64s, Uint64s

PAGE = 1024
"""Chunks in a page."""
UNMAPPED = (1 << 64) - 1
"""Stands for "no mapping"; real values are data block << 24 | time, and no data block is that large."""
_EMPTY = array("Q", [UNMAPPED]) * PAGE


class PageBudget:
    """What all maps of a pool have in common."""

    __slots__ = ("data_chunks", "held")

    def __init__(self) -> None:
        self.held = 0
        """Pages that they hold together."""
        self.data_chunks = 0
        """Chunks of the data device."""


class MapPage:
    """1024 mappings: *values* for single reads and writes, *view* of the same memory for whole ones."""

    __slots__ = ("changed", "values", "view")

    def __init__(self) -> None:
        self.values = _EMPTY[:]
        self.view = np.frombuffer(self.values, dtype=np.uint64)
        self.changed: bytearray | None = None
        """A one for each mapping that the tree does not know yet; None when it knows all."""


class DeviceMap:
    """The mappings of one device: chunk number -> data block << 24 | time."""

    def __init__(self, root: int, budget: PageBudget) -> None:
        self.root = root
        self.budget = budget
        self.pages: dict[int, MapPage] = {}
        self.changed: set[int] = set()
        """Numbers of the pages with changes."""

    def load(self, number: int, tree: TreeWriter) -> MapPage:
        """Page *number*, read from the tree if it is not here."""
        page = self.pages.get(number)
        if page is None:
            page = MapPage()
            first = number * PAGE
            keys, values = tree.read_range(self.root, first, first + PAGE - 1)
            if len(keys):
                check_inside(values, self.budget.data_chunks, tree, self.root)
                page.view[(keys - np.uint64(first)).astype(np.int64)] = values
            self.pages[number] = page
            self.budget.held += 1
        return page

    def begin_change(self, number: int, page: MapPage) -> bytearray:
        """The page's change marks, which the caller sets for what it changes."""
        if page.changed is None:
            page.changed = bytearray(PAGE)
            self.changed.add(number)
        return page.changed

    def read(self, first: int, count: int, tree: TreeWriter) -> Uint64s:
        """The mappings of *count* chunks from *first*, :data:`UNMAPPED` where there is none."""
        number, place = divmod(first, PAGE)
        if place + count <= PAGE:
            return self.load(number, tree).view[place : place + count].copy()
        found = np.empty(count, dtype=np.uint64)
        done = 0
        while done < count:
            number, place = divmod(first + done, PAGE)
            take = min(PAGE - place, count - done)
            found[done : done + take] = self.load(number, tree).view[place : place + take]
            done += take
        return found

    def pick(self, chunks: Int64s, tree: TreeWriter) -> Uint64s:
        """The mappings of *chunks*, which ascend."""
        found = np.empty(len(chunks), dtype=np.uint64)
        for number, start, end in _pages_of(chunks):
            page = self.load(number, tree)
            found[start:end] = page.view[chunks[start:end] - number * PAGE]
        return found

    def store(self, chunks: Int64s, values: Uint64s, tree: TreeWriter) -> Uint64s:
        """Map *chunks*, which ascend, to *values*.

        Returns the old values that the tree has never seen: their data blocks are the caller's to free.
        """
        lost = []
        for number, start, end in _pages_of(chunks):
            page = self.load(number, tree)
            places = chunks[start:end] - number * PAGE
            marks = np.frombuffer(self.begin_change(number, page), dtype=np.uint8)
            old = page.view[places]
            unseen = old[(marks[places] != 0) & (old != UNMAPPED)]
            if len(unseen):
                lost.append(unseen)
            page.view[places] = values[start:end]
            marks[places] = 1
        return np.concatenate(lost) if lost else np.empty(0, dtype=np.uint64)

    def take_changes(self) -> tuple[Uint64s, Uint64s, Bools | None]:
        """What the tree does not know: (chunks ascending, values, which of them are unmapped now or None).

        The pages are clean afterwards.
        """
        keys, values = [], []
        for number in sorted(self.changed):
            page = self.pages[number]
            assert page.changed is not None
            places = np.flatnonzero(np.frombuffer(page.changed, dtype=np.uint8))
            keys.append(places + number * PAGE)
            values.append(page.view[places])
            page.changed = None
        self.changed.clear()
        if not keys:
            return np.empty(0, np.uint64), np.empty(0, MAPPING), None
        new = np.concatenate(values)
        gone = new == UNMAPPED
        return np.concatenate(keys).astype(np.uint64), new, gone if gone.any() else None

    def drop_clean(self) -> None:
        """Forget all pages without changes."""
        kept = {number: self.pages[number] for number in self.changed}
        self.budget.held -= len(self.pages) - len(kept)
        self.pages = kept

    def forget(self, first: int = 0, last: int | None = None) -> None:
        """Forget the pages that hold the chunks *first* to *last*, changes and all."""
        if not first and last is None:
            doomed = list(self.pages)
        else:
            end = last if last is not None else UNMAPPED
            doomed = [n for n in self.pages if n * PAGE <= end and (n + 1) * PAGE > first]
        for number in doomed:
            del self.pages[number]
            self.changed.discard(number)
        self.budget.held -= len(doomed)


def check_inside(values: Uint64s, data_chunks: int, tree: Tree, root: int) -> None:
    """Raise :class:`lamella.errors.CorruptError` if one of *values* leads past the data device."""
    furthest = int(values.max(initial=0)) >> TIME_BITS
    if len(values) and furthest >= data_chunks:
        raise tree.blocks.corrupt(
            root,
            f"is the root of a mapping tree that refers to data block {furthest}, "
            f"but there are only {data_chunks}",
        )


def _pages_of(chunks: Int64s) -> Iterator[tuple[int, int, int]]:
    """(page number, start, end) of the slices of ascending *chunks* that lie in one page each."""
    numbers = chunks // PAGE
    if not len(numbers):
        return
    if numbers[0] == numbers[-1]:
        yield int(numbers[0]), 0, len(chunks)
        return
    for start, end in slices(np.diff(numbers) != 0):
        yield int(numbers[start]), start, end
