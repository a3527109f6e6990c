# SPDX-License-Identifier: Apache-2.0
"""Whether an XFS was unmounted, or its log waits to be replayed.

The log is a ring of blocks of 512 bytes. Each begins with the number of the round in which it was
written, or, where a record begins, with a magic number and then that round; so the youngest block is
found by bisection, and the youngest record before it. Unmounting leaves a record of its own that
nothing follows. (XFS Algorithms & Data Structures, "Journaling Log".)
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lamella.block import BlockDevice
    from lamella.fs.xfs.superblock import SuperBlock

BLOCK: Final = 512
_MAGIC: Final = 0xFEEDBABE
_RECORD: Final = Struct(">IIII")
"""Magic, round, version, bytes of what follows."""
_OPERATIONS_AT: Final = 40
_SIZE_AT: Final = 320
_VERSION_2: Final = 2
_PER_HEADER: Final = 32768
"""Bytes of a record that one block of its header describes."""
_FLAGS_AT: Final = 9
_UNMOUNT: Final = 0x20
_MAX_DISTANCE: Final = 4096
"""Blocks in which the youngest record must begin: one has 256 KiB at most, eight are on their way at once."""


def is_clean(device: BlockDevice, superblock: SuperBlock) -> bool:
    """Whether nothing waits to be replayed. A log elsewhere, or one not understood, counts as unclean."""
    start, count = superblock.log_start, superblock.log_size // BLOCK
    if not start or not count or start + count * BLOCK > device.size:
        return False
    return _Log(device, start, count).is_clean()


class _Log:
    def __init__(self, device: BlockDevice, start: int, count: int) -> None:
        self._device = device
        self._start = start
        self._count = count

    def _block(self, number: int) -> bytes:
        return self._device.read(self._start + number % self._count * BLOCK, BLOCK)

    def _round(self, number: int) -> int:
        raw = self._block(number)
        first = int.from_bytes(raw[:4], "big")
        return int.from_bytes(raw[4:8], "big") if first == _MAGIC else first

    def _head(self) -> int:
        """The number of the block after the youngest."""
        first, last = self._round(0), self._round(self._count - 1)
        if first == last:
            return 0
        low, high = 0, self._count - 1  # the round of *low* is the first block's, that of *high* is not
        while high - low > 1:
            middle = (low + high) // 2
            if self._round(middle) == first:
                low = middle
            else:
                high = middle
        return high

    def is_clean(self) -> bool:
        head = self._head()
        for back in range(1, min(self._count, _MAX_DISTANCE)):
            number = (head - back) % self._count
            raw = self._block(number)
            magic, _, version, length = _RECORD.unpack_from(raw)
            if magic == _MAGIC:
                break
        else:
            return False
        headers = 1
        if version & _VERSION_2:
            headers = max(1, -(-int.from_bytes(raw[_SIZE_AT : _SIZE_AT + 4], "big") // _PER_HEADER))
        if (number + headers + -(-length // BLOCK) - head) % self._count:
            return False
        if int.from_bytes(raw[_OPERATIONS_AT : _OPERATIONS_AT + 4], "big") != 1:
            return False
        return bool(self._block(number + headers)[_FLAGS_AT] & _UNMOUNT)
