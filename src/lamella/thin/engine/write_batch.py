# SPDX-License-Identifier: Apache-2.0
"""One batch of writes to a thin device: which chunks it provisions, and of which it breaks the sharing.

The rest of such a chunk is filled with zeros or from the shared one, and each piece is written to its place.

The order makes an interruption at any point safe: new chunks are allocated, data is written to them, and only
then are they mapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.engine.device_map import PAGE, UNMAPPED
from lamella.thin.format.node import TIME_BITS, TIME_MASK
from lamella.thin.format.runs import consecutive, slices

if TYPE_CHECKING:
    from lamella.block import BlockDevice
    from lamella.thin.engine.device_record import Device
    from lamella.thin.engine.pool_core import PoolCore
    from lamella.thin.format.arrays import Bools, Int64s

COMPOSED = 16 << 20
"""Most bytes of chunks put together in memory before they are written."""


class Batch:
    """Ascending *pieces* of (offset, bytes), none empty, none overlapping another, for *device* of *pool*.

    *name* is what errors call the device. *external_origin* shows through where nothing is mapped. With
    *zero_fresh* the rest of a partly written new chunk is zeroed.
    """

    def __init__(
        self,
        pool: PoolCore,
        device: Device,
        pieces: list[tuple[int, memoryview]],
        *,
        name: str,
        external_origin: BlockDevice | None,
        zero_fresh: bool,
    ) -> None:
        self.pool = pool
        self.device = device
        self.pieces = pieces
        self.name = name
        self.external_origin = external_origin
        self.zero_fresh = zero_fresh
        self.size = pool.chunk_size
        self.out: list[tuple[int, memoryview]] = []
        self.composed = 0

    def run(self) -> None:
        """Write all of it, or raise. Raises :class:`Shortage` before anything is written."""
        pool, live, device = self.pool, self.pool.live, self.device
        starts = np.array([offset for offset, _ in self.pieces], dtype=np.int64)
        ends = starts + np.array([len(view) for _, view in self.pieces], dtype=np.int64)
        chunks, whole = self._chunks(starts, ends)
        values = live.map_of(device).pick(chunks, live.maps)
        mapped = values != UNMAPPED
        anew = ~mapped | ((values & np.uint64(TIME_MASK)) < device.snapshotted_time)
        blocks = (values >> np.uint64(TIME_BITS)).astype(np.int64)
        count = int(np.count_nonzero(anew))
        if not count:
            self._write(starts, ends, chunks, blocks, np.zeros(len(chunks), dtype=np.bool_))
            return
        pool.check_provisioning(self.name)
        pool.keep_metadata_free(device, set(np.unique(chunks[anew] // PAGE).tolist()), count)
        new = pool.allocate(count)
        data = live.data
        try:
            old = blocks[anew]
            blocks[anew] = new
            composed = self._fill(starts, ends, chunks, blocks, anew, mapped, whole, old)
            self._write(starts, ends, chunks, blocks, composed)
        except BaseException:
            data.release(new)
            raise
        values = (new.astype(np.uint64) << np.uint64(TIME_BITS)) | np.uint64(live.time & TIME_MASK)
        device.mapped += int(np.count_nonzero(~mapped))
        live.remap(device, chunks[anew], values)

    def _chunks(self, starts: Int64s, ends: Int64s) -> tuple[Int64s, Bools]:
        """The chunks that the pieces touch, ascending, and which of them they cover whole."""
        size = self.size
        begins = np.ones(len(starts), dtype=np.bool_)
        begins[1:] = starts[1:] != ends[:-1]
        firsts = np.flatnonzero(begins)
        low, high = starts[firsts], ends[np.append(firsts[1:], len(ends)) - 1]
        first, last = low // size, (high - 1) // size
        counts = last - first + 1
        numbers = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
        covers = (numbers * size >= np.repeat(low, counts)) & (
            (numbers + 1) * size <= np.repeat(high, counts)
        )
        # Stretches apart may touch the same chunk, but then neither covers it.
        different = np.ones(len(numbers), dtype=np.bool_)
        different[1:] = numbers[1:] != numbers[:-1]
        return numbers[different], covers[different]

    def _fill(
        self,
        starts: Int64s,
        ends: Int64s,
        chunks: Int64s,
        blocks: Int64s,
        anew: Bools,
        mapped: Bools,
        whole: Bools,
        old: Int64s,
    ) -> Bools:
        """Fill what lies around the pieces in new chunks that are only partly written.

        Returns the chunks that were put together in memory, pieces and all, and are written whole.
        """
        pool, origin, size = self.pool, self.external_origin, self.size
        composed = np.zeros(len(chunks), dtype=np.bool_)
        old_of = np.zeros(len(chunks), dtype=np.int64)
        old_of[anew] = old
        parts = anew & ~whole
        fresh = parts & ~mapped
        if origin is not None:
            fresh &= chunks * size >= origin.size
        if not self.zero_fresh or pool.zeroed.cheap:
            parts &= ~fresh
            if self.zero_fresh and fresh.any():
                self._zero(blocks[fresh])
        for place in np.flatnonzero(parts).tolist():
            chunk, block = int(chunks[place]), int(blocks[place])
            buffer = bytearray(size)
            content = memoryview(buffer)
            if mapped[place]:
                pool.data_device.read_into(int(old_of[place]) * size, content)
            elif not fresh[place]:
                assert origin is not None
                there = min(origin.size - chunk * size, size)
                origin.read_into(chunk * size, content[:there])
            first = int(ends.searchsorted(chunk * size, "right"))
            last = int(starts.searchsorted((chunk + 1) * size))
            for offset, view in self.pieces[first:last]:
                start = max(offset, chunk * size)
                end = min(offset + len(view), (chunk + 1) * size)
                content[start - chunk * size : end - chunk * size] = view[start - offset : end - offset]
            composed[place] = True
            self._put(block * size, content)
        return composed

    def _zero(self, blocks: Int64s) -> None:
        """Make new chunks read as zeros; they ascend, as all that is allocated together."""
        pool = self.pool
        for start, end in consecutive(blocks):
            block = int(blocks[start])
            pool.zeroed.ensure(block, pool.live.data.upcoming(block, pool.zeroed.limit), end - start)

    def _write(self, starts: Int64s, ends: Int64s, chunks: Int64s, blocks: Int64s, composed: Bools) -> None:
        """Write the pieces to where their chunks lie, but for *composed* chunks, and then all that waits."""
        size = self.size
        breaks = np.ones(len(chunks), dtype=np.bool_)
        breaks[1:] = (np.diff(blocks) != 1) | composed[1:] | composed[:-1]
        firsts = chunks.searchsorted(starts // size)
        lasts = chunks.searchsorted((ends - 1) // size)
        self.composed = 0
        for (offset, view), first, last in zip(self.pieces, firsts.tolist(), lasts.tolist(), strict=True):
            if first == last:
                if not composed[first]:
                    self.out.append((int(blocks[first]) * size + offset % size, view))
                continue
            for start, end in slices(breaks[first + 1 : last + 1]):
                low, high = first + start, first + end
                if composed[low]:
                    continue
                begin = int(chunks[low]) * size
                start = max(offset, begin)
                end = min(offset + len(view), begin + (high - low) * size)
                place = int(blocks[low]) * size + start - begin
                self.out.append((place, view[start - offset : end - offset]))
        self._send()

    def _put(self, place: int, content: memoryview) -> None:
        self.out.append((place, content))
        self.composed += len(content)
        if self.composed > COMPOSED:
            self._send()

    def _send(self) -> None:
        if self.out:
            self.pool.data_written = True
            self.pool.data_device.write_many(self.out)
        self.out = []
        self.composed = 0
