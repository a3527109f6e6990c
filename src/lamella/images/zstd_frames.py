# SPDX-License-Identifier: Apache-2.0
"""Where the frames of a zstd stream end, which a decompressor that reads across frames does not tell.

Format: RFC 8878, section 3.1. Only headers are read; a frame's blocks are skipped by their sizes.
"""

from __future__ import annotations

_MAGIC = 0xFD2FB528
_DICTIONARY_ID = (0, 1, 2, 4)
_CONTENT_SIZE = (0, 2, 4, 8)
_RLE = 1


class ZstdFrames:
    """Follows compressed bytes; :attr:`complete` after each whole frame.

    What is no zstd at all is left to the decompressor.
    """

    def __init__(self) -> None:
        self._skip = 0
        self._head = bytearray()
        self._inside = False
        self._checksum = 0

    @property
    def complete(self) -> bool:
        """Whether what was given ends with a frame."""
        return not (self._skip or self._head or self._inside)

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            need = self._needed() - len(self._head)
            if need > 0:
                self._head += data[at : at + need]
                at += need
            if len(self._head) >= self._needed():
                self._take()

    def _needed(self) -> int:
        """Bytes of the present header, as far as its beginning tells."""
        if self._inside:
            return 3
        if len(self._head) < 5:
            return 5
        if int.from_bytes(self._head[:4], "little") & ~0xF == 0x184D2A50:
            return 8
        flags = self._head[4]
        single = flags >> 5 & 1
        size = _CONTENT_SIZE[flags >> 6] or single
        return 5 + (1 - single) + _DICTIONARY_ID[flags & 3] + size

    def _take(self) -> None:
        """A whole header is there."""
        head = bytes(self._head)
        self._head.clear()
        if self._inside:
            block = int.from_bytes(head, "little")
            self._skip = 1 if block >> 1 & 3 == _RLE else block >> 3
            if block & 1:
                self._inside = False
                self._skip += self._checksum
        elif int.from_bytes(head[:4], "little") == _MAGIC:
            self._inside = True
            self._checksum = 4 if head[4] & 4 else 0
        else:
            self._skip = int.from_bytes(head[4:8], "little")
