# SPDX-License-Identifier: Apache-2.0
"""Chunks of the data device that are sure to read as zeros.

Where discarding leaves zeros (a sparse file), the free run that a chunk comes from is made a hole ahead,
64 MiB at a time. A first write then costs only what it writes, in time and on the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella.block import BlockDevice

AHEAD = 64 << 20
"""Most bytes made zero at once."""


class ZeroedAhead:
    """Remembers one range of free chunks that has been zeroed, until the next commit."""

    def __init__(self, data: BlockDevice, chunk_size: int) -> None:
        self.data = data
        self.chunk_size = chunk_size
        self.limit = max(AHEAD // chunk_size, 1)
        self.cheap = data.discard_zeroes
        self._start = self._end = 0

    def ensure(self, block: int, upcoming: int, count: int = 1) -> None:
        """Make the *count* chunks from *block* read as zeros. As a rule the *upcoming* free chunks from
        *block* on are made so at once."""
        end = block + count
        if not (self._start <= block and end <= self._end):
            length = max(upcoming, count)
            self.data.write_zeros(block * self.chunk_size, length * self.chunk_size)
            self._end = block + length
        self._start = end

    def forget(self) -> None:
        """Free chunks may be handed out a second time from now on."""
        self._start = self._end = 0
