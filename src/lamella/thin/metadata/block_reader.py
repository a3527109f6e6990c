# SPDX-License-Identifier: Apache-2.0
"""Metadata blocks read by the thousand: sorted, neighbours merged into one request, in bounded batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import CorruptError, DeviceIOError
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.space_map import MAX_METADATA_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Int64s, Uint8s

BATCH = 1024
"""Most blocks in one batch (4 MiB): enough to amortise Python, and still in the processor's cache."""
MAX_GAP = 4
"""Unwanted blocks that are read along rather than splitting a request; reading one costs less than a call."""


class BlockReader:
    """Reads blocks of *device* by number; only as many as dm-thin metadata can have are seen."""

    def __init__(self, device: BlockDevice) -> None:
        self.device = device
        self.name = device.name
        self.nr_blocks = min(device.size // BLOCK_SIZE, MAX_METADATA_BLOCKS)
        self.unreadable: set[int] = set()
        """Blocks that the device failed to read; they come as zeros."""

    def read_one(self, block: int) -> bytes:
        """The 4096 bytes of *block*. Raises :class:`CorruptError` if the device has no such block."""
        if not 0 <= block < self.nr_blocks:
            raise CorruptError(
                f"{self.name} has no block {block}: it ends after {self.nr_blocks} blocks",
                hint="check that it is thin metadata and complete, or restore it from a copy",
            )
        return self.device.read(block * BLOCK_SIZE, BLOCK_SIZE)

    def batches(self, blocks: Int64s) -> Iterator[tuple[Int64s, Uint8s]]:
        """Yield (block numbers (n,), their content (n, 4096)) for ascending, distinct *blocks*."""
        for start in range(0, len(blocks), BATCH):
            part = blocks[start : start + BATCH]
            yield part, self.read(part)

    def read(self, blocks: Int64s) -> Uint8s:
        """The content (n, 4096) of ascending, distinct *blocks*, all inside the device."""
        if not len(blocks):
            return np.empty((0, BLOCK_SIZE), dtype=np.uint8)
        cuts = np.flatnonzero(np.diff(blocks) > MAX_GAP) + 1
        firsts = np.concatenate(([0], cuts))
        lasts = np.concatenate((cuts, [len(blocks)])) - 1
        lengths = blocks[lasts] - blocks[firsts] + 1
        places = np.cumsum(lengths) - lengths
        buffer = np.empty((int(lengths.sum()), BLOCK_SIZE), dtype=np.uint8)
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # numpy has the buffer protocol
        requests = [
            (block * BLOCK_SIZE, view[place * BLOCK_SIZE : (place + length) * BLOCK_SIZE])
            for block, place, length in zip(
                blocks[firsts].tolist(), places.tolist(), lengths.tolist(), strict=True
            )
        ]
        try:
            self.device.read_many(requests)
        except DeviceIOError:
            self._read_singly(blocks, lengths, places, firsts, buffer)
        if len(buffer) == len(blocks):
            return buffer
        run = np.repeat(np.arange(len(lengths)), np.diff(np.concatenate((firsts, [len(blocks)]))))
        rows: Uint8s = buffer[places[run] + blocks - blocks[firsts][run]]
        return rows

    def _read_singly(
        self, blocks: Int64s, lengths: Int64s, places: Int64s, firsts: Int64s, buffer: Uint8s
    ) -> None:
        """A disk with bad sectors: get what can be got, note the rest."""
        wanted = set(blocks.tolist())
        for first, place, length in zip(
            blocks[firsts].tolist(), places.tolist(), lengths.tolist(), strict=True
        ):
            for step in range(length):
                row = buffer[place + step]
                row[:] = 0
                if first + step in wanted:
                    try:
                        content = self.device.read((first + step) * BLOCK_SIZE, BLOCK_SIZE)
                    except DeviceIOError:
                        self.unreadable.add(first + step)
                    else:
                        row[:] = np.frombuffer(content, dtype=np.uint8)
