# SPDX-License-Identifier: Apache-2.0
"""One thin device as a block device: reads through the map, writes that provision and break sharing."""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lamella.block import SECTOR
from lamella.block.ranges import merged
from lamella.errors import NoSpaceError, NotFoundError, ReadOnlyError, UsageError
from lamella.thin.engine.btree import LARGEST_KEY
from lamella.thin.engine.device_map import PAGE, UNMAPPED, check_inside
from lamella.thin.engine.live_metadata import PAGE_LIMIT, PAGE_UNITS
from lamella.thin.engine.pool_core import PoolCore, Shortage
from lamella.thin.engine.write_batch import Batch
from lamella.thin.engine.write_pieces import groups, split
from lamella.thin.format.mappings import merge
from lamella.thin.format.node import TIME_BITS, TIME_MASK
from lamella.thin.format.runs import slices
from lamella.thin.interface import ThinVolume
from lamella.thin.status import PoolMode, ThinStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from lamella.block import BlockDevice
    from lamella.thin.engine.device_map import MapPage
    from lamella.thin.engine.device_record import Device
    from lamella.thin.format.arrays import Uint64s

_ZEROS = bytes(1 << 20)
_WINDOW = 64 * PAGE
"""Chunks looked at together where a whole volume is walked."""
_DIRECT_UNMAP = 16 * PAGE
"""Discards of more chunks than this are done in the mapping tree, without loading the map."""


class Volume(ThinVolume):
    """A thin device that is open. Made by :meth:`lamella.thin.engine.pool.Pool.open_volume`.

    What was never written reads as zeros (or as the external origin). :meth:`flush` commits the pool.
    """

    def __init__(
        self,
        pool: PoolCore,
        device: Device,
        size: int,
        *,
        read_only: bool,
        external_origin: BlockDevice | None,
        zero_fresh: bool,
    ) -> None:
        self.pool = pool
        self.device = device
        self.size = size
        self.read_only = read_only
        self.external_origin = external_origin
        self.zero_fresh = zero_fresh
        self.dev_id = device.dev_id
        self.name = f"thin device {device.dev_id} of {pool.name}"
        self.chunk_size = pool.chunk_size
        self._closed = False

    # -- what it is ------------------------------------------------------------------------------

    @property
    def mapped_chunks(self) -> int:
        """Chunks that are mapped."""
        return self.device.mapped

    @property
    def highest_mapped(self) -> int | None:
        """The last mapped chunk, or None."""
        with self.pool.lock:
            root = self._root()
            return self.pool.live.maps.highest(root)

    def status_line(self) -> str:
        """The parameters of the kernel's status line."""
        if self.pool.mode is PoolMode.FAIL:
            return ThinStatus(0, 0, failed=True).line()
        highest = self.highest_mapped
        end = 0 if highest is None else (highest + 1) * self.chunk_size
        return ThinStatus(self.mapped_chunks * self.chunk_size, end).line()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self.name} is closed", hint="open it again")
        if self.device.gone:
            raise NotFoundError(
                f"{self.name} no longer exists: the transaction that created it was aborted",
                hint="list the pool's devices",
            )
        self.pool.check_usable()

    def _root(self) -> int:
        """The mapping tree's root, the tree being up to date."""
        self._check_open()
        return self.pool.mapping_root(self.dev_id)

    def _trim(self) -> None:
        if self.pool.live.budget.held > PAGE_LIMIT:
            with self.pool.updating("shrink the maps in memory"):
                self.pool.live.trim()

    # -- reading ---------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        self.check_range(offset, length)
        chunk, within = divmod(offset, self.chunk_size)
        if within + length <= self.chunk_size and length:
            pool, device = self.pool, self.device
            with pool.lock:
                live = pool.live
                if pool.mode or pool.stopped or self._closed or device.gone or live.budget.held > PAGE_LIMIT:
                    self._check_open()
                    self._trim()
                mapped = device.map or live.map_of(device)
                page = mapped.pages.get(chunk // PAGE) or mapped.load(chunk // PAGE, live.maps)
                value = page.values[chunk % PAGE]
                if value != UNMAPPED:
                    return pool.data_device.read((value >> TIME_BITS) * self.chunk_size + within, length)
                if self.external_origin is None:
                    return bytes(length)
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        length = len(view)
        self.check_range(offset, length)
        if not length:
            return
        with self.pool.lock:
            self._check_open()
            self._trim()
            requests: list[tuple[int, memoryview]] = []
            done = 0
            for start, end, place in self._pieces(offset, length):
                part = view[done : done + end - start]
                done += end - start
                if place >= 0:
                    requests.append((place, part))
                elif self.external_origin is not None:
                    read_origin(self.external_origin, start, part)
                else:
                    fill_zeros(part)
            self.pool.data_device.read_many(requests)

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """(start, end, place on the data device or -1) of the range's pieces that lie in one piece there."""
        size = self.chunk_size
        live = self.pool.live
        mapped = live.map_of(self.device)
        end = offset + length
        while offset < end:
            first = offset // size
            count = min(-(-end // size) - first, _WINDOW)
            stop = min((first + count) * size, end)
            for run, chunks, block in runs(mapped.read(first, count, live.maps)):
                start = max((first + run) * size, offset)
                finish = min((first + run + chunks) * size, stop)
                place = -1 if block < 0 else block * size + start - (first + run) * size
                yield start, finish, place
            offset = stop

    def mapped_ranges(self) -> Iterator[tuple[int, int, int, int]]:
        """(first chunk, length, data chunk, time) of all mappings, merged where all of these go on."""
        pending: tuple[int, int, int, int] | None = None
        for keys, values in self._mappings(0, LARGEST_KEY + 1):
            for found in _mapped_runs(keys, values):
                if pending is not None and (
                    pending[0] + pending[1] == found[0]
                    and pending[2] + pending[1] == found[2]
                    and pending[3] == found[3]
                ):
                    pending = (pending[0], pending[1] + found[1], pending[2], pending[3])
                else:
                    if pending is not None:
                        yield pending
                    pending = found
        if pending is not None:
            yield pending

    def _mappings(self, first: int, end: int) -> Iterator[tuple[Uint64s, Uint64s]]:
        """(chunks, values) of the mappings from chunk *first* to before *end*, some at a time.

        Gaps cost nothing, however long. Raises :class:`lamella.errors.CorruptError` for a mapping that leads
        past the data device.
        """
        while first < end:
            with self.pool.lock:
                root = self._root()
                maps = self.pool.live.maps
                start = maps.next_key(root, first)
                if start is None or start >= end:
                    return
                keys, values = maps.read_range(root, start, min(start + _WINDOW, end) - 1)
            check_inside(values, self.pool.live.budget.data_chunks, maps, root)
            yield keys, values
            first = start + _WINDOW

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """As the base class says: what is mapped, and what the external origin has."""
        asked = self.size - offset if length is None else length
        self.check_range(offset, asked)
        yield from merged(self._data_pieces(offset, offset + asked))

    def _data_pieces(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        size = self.chunk_size
        origin = self.external_origin
        highest = self.highest_mapped
        end = min(end, max(origin.size if origin else 0, 0 if highest is None else (highest + 1) * size))
        mapped = (
            (int(chunk) * size, count * size)
            for keys, values in self._mappings(offset // size, -(-end // size))
            for chunk, count, _, _ in _mapped_runs(keys, values)
        )
        beneath: Iterable[tuple[int, int]] = ()
        if origin is not None and offset < origin.size:
            beneath = origin.data_ranges(offset, min(end, origin.size) - offset)
        for at, length in heapq.merge(mapped, beneath):
            start, stop = max(at, offset), min(at + length, end)
            if start < stop:
                yield start, stop - start

    # -- writing ---------------------------------------------------------------------------------

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        length = len(view)
        self.check_range(offset, length)
        if not length:
            return
        chunk, within = divmod(offset, self.chunk_size)
        pool = self.pool
        device = self.device
        with pool.lock:
            live = pool.live
            if (
                pool.mode or pool.stopped or self._closed or self.read_only or device.gone
                or live.budget.held > PAGE_LIMIT
            ):  # fmt: skip
                self._check_writable()
            if within + length <= self.chunk_size:
                mapped = device.map or live.map_of(device)
                page = mapped.pages.get(chunk // PAGE) or mapped.load(chunk // PAGE, live.maps)
                value = page.values[chunk % PAGE]
                if value == UNMAPPED:
                    if self._write_new(page, chunk, within, view):
                        return
                elif (value & TIME_MASK) >= device.snapshotted_time:
                    pool.data_written = True
                    pool.data_device.write((value >> TIME_BITS) * self.chunk_size + within, view)
                    return
            self._write_pieces([(offset, view)])

    def _write_new(self, page: MapPage, chunk: int, within: int, view: memoryview) -> bool:
        """The common case of a batch of one, made short: part of one unmapped chunk, with space to spare.

        False: not done, it takes the long way.
        """
        pool, live, device = self.pool, self.pool.live, self.device
        units = PAGE_UNITS if page.changed is None else 1
        zero = self.zero_fresh and len(view) < self.chunk_size
        if (
            pool.headroom < units
            or pool.mode is not PoolMode.WRITE
            or (zero and not pool.zeroed.cheap)
            or self.external_origin is not None
        ):
            return False
        pool.headroom -= units
        data = live.data
        try:
            block = data.allocate_one()
        except NoSpaceError:
            return False
        try:
            if zero:
                pool.zeroed.ensure(block, data.upcoming(block, pool.zeroed.limit))
            pool.data_written = True
            pool.data_device.write(block * self.chunk_size + within, view)
        except BaseException:
            data.release((block,))
            raise
        marks = page.changed
        if marks is None:
            marks = live.map_of(device).begin_change(chunk // PAGE, page)
            live.note_change(device)
        page.values[chunk % PAGE] = block << TIME_BITS | live.time & TIME_MASK
        marks[chunk % PAGE] = 1
        device.mapped += 1
        device.changed = True
        return True

    def write_many(self, pieces: Iterable[tuple[int, Buffer]]) -> None:
        """As the base class says. New chunks for all pieces are allocated together, the pieces of a chunk
        count as one write (so that a chunk written whole by several is not copied or zeroed first), and
        neighbouring data is written with one request."""
        views = [(offset, memoryview(data).cast("B")) for offset, data in pieces]
        views = [piece for piece in views if len(piece[1])]
        for offset, view in views:
            self.check_range(offset, len(view))
        if not views:
            return
        in_order = sorted(views, key=lambda piece: piece[0])
        overlapping = any(one[0] + len(one[1]) > two[0] for one, two in pairwise(in_order))
        with self.pool.lock:
            self._check_writable()
            if not overlapping:
                for group in groups(in_order, self.chunk_size):
                    self._trim()
                    self._write_pieces(group)
                return
            for piece in views:
                self._write_pieces([piece])

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise ReadOnlyError(f"{self.name} is open for reading only", hint="open it for writing")
        self.pool.check_writable(self.name)
        self._trim()

    def _write_pieces(self, pieces: list[tuple[int, memoryview]]) -> None:
        """Write ascending pieces that do not overlap, in as few batches as space allows."""
        todo = [pieces]
        while todo:
            part = todo.pop()
            try:
                Batch(
                    self.pool,
                    self.device,
                    part,
                    name=self.name,
                    external_origin=self.external_origin,
                    zero_fresh=self.zero_fresh,
                ).run()
            except Shortage:
                halves = split(part, self.chunk_size)
                if halves is None:
                    self.pool.wait_for_space(self.name)
                    self._check_writable()
                    todo.append(part)
                else:
                    # Fill what is left of the device first, as single writes would.
                    todo += [halves[1], halves[0]]

    def write_zeros(self, offset: int, length: int) -> None:
        """Whole chunks are unmapped where that leaves zeros; the rest is written."""
        self.check_range(offset, length)
        size = self.chunk_size
        first, last = -(-offset // size), (offset + length) // size
        with self.pool.lock:
            self._check_writable()
            if self.external_origin is not None or last <= first:
                self._write_zeros_mapped(offset, length)
                return
            self._write_zeros_mapped(offset, first * size - offset)
            self._unmap(first, last - 1)
            self._write_zeros_mapped(last * size, offset + length - last * size)

    def _write_zeros_mapped(self, offset: int, length: int) -> None:
        """Write zeros, but leave alone what is unmapped and reads as zeros already."""
        if not length:
            return
        for start, end, place in list(self._pieces(offset, length)):
            if place < 0 and self.external_origin is None:
                continue
            for at in range(start, end, len(_ZEROS)):
                self._write_pieces([(at, memoryview(_ZEROS)[: min(end - at, len(_ZEROS))])])

    # -- giving back -----------------------------------------------------------------------------

    @property
    def discard_zeroes(self) -> bool:
        """Whole chunks do, but a discard leaves the rest of a range as it is; so no."""
        return False

    def discard(self, offset: int, length: int) -> None:
        """Unmap the whole chunks in the range; they go back to the pool with the next commit.

        As in the kernel, the parts of chunks at its ends are left alone.
        """
        self.check_range(offset, length)
        first, last = -(-offset // self.chunk_size), (offset + length) // self.chunk_size
        with self.pool.lock:
            self._check_writable()
            if self.pool.options.discards != "ignore" and last > first:
                self._unmap(first, last - 1)

    def _unmap(self, first: int, last: int) -> None:
        """Unmap the chunks *first* to *last*, both included."""
        pool, live, device = self.pool, self.pool.live, self.device
        pool.check_provisioning(self.name)
        pool.make_room(64)
        mapped = live.map_of(device)
        if last - first >= _DIRECT_UNMAP:
            with pool.updating(f"discard part of {self.name}"):
                live.unmap(device, first, last)
            return
        values = mapped.read(first, last - first + 1, live.maps)
        there = np.flatnonzero(values != UNMAPPED)
        if not len(there):
            return
        chunks = there + first
        live.count_unmapped(device, len(chunks))
        live.remap(device, chunks, np.full(len(chunks), UNMAPPED, dtype=np.uint64), discard=True)

    # -- the rest ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Commit the pool, as a flush of a thin device does. In a transaction its end does that."""
        with self.pool.lock:
            self._check_open()
            if not self.read_only and not self.pool.in_transaction:
                self.pool.commit()

    def resize(self, size: int) -> None:
        """Change the size that is shown; the pool does not record it. A cut-off part stays mapped."""
        if size <= 0 or size % SECTOR:
            raise UsageError(f"cannot give {self.name} {size} bytes", hint="give a multiple of 512")
        self.size = size

    def close(self) -> None:
        """Let go of the device. Does not commit."""
        with self.pool.lock:
            if not self._closed:
                self._closed = True
                self.device.opens -= 1


def read_origin(origin: BlockDevice, offset: int, view: memoryview) -> None:
    """Fill *view* from an external origin, which may end before it; the rest is zeros."""
    there = max(min(origin.size - offset, len(view)), 0)
    if there:
        origin.read_into(offset, view[:there])
    fill_zeros(view[there:])


def fill_zeros(view: memoryview) -> None:
    """Make *view* all zeros."""
    for start in range(0, len(view), len(_ZEROS)):
        part = view[start : start + len(_ZEROS)]
        part[:] = _ZEROS[: len(part)] if len(part) < len(_ZEROS) else _ZEROS


def runs(values: Uint64s) -> Iterator[tuple[int, int, int]]:
    """(first, length, data chunk or -1) of the runs of *values* that are unmapped or follow each
    other on the data device, whatever their times."""
    blocks = np.where(values == UNMAPPED, np.int64(-1), (values >> np.uint64(TIME_BITS)).astype(np.int64))
    if len(blocks) == 1:
        yield 0, 1, int(blocks[0])
        return
    before, after = blocks[:-1], blocks[1:]
    goes_on = np.where(before < 0, after < 0, after == before + 1)
    for start, end in slices(~goes_on):
        yield start, end - start, int(blocks[start])


def _mapped_runs(keys: Uint64s, values: Uint64s) -> Iterator[tuple[int, int, int, int]]:
    """(first chunk, length, data chunk, time) of the runs in which all of these go on."""
    found = merge(keys, values)
    yield from zip(
        found.begin.tolist(), found.length.tolist(), found.data.tolist(), found.time.tolist(), strict=True
    )
