# SPDX-License-Identifier: Apache-2.0
"""A layer's tar split in ``state.db``: a file cut into rows, written once and read with seeking."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from lamella.errors import CorruptError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lamella.driver.state import State

PIECE = 256 << 10
"""Bytes in every row but the last."""


class SplitWriter(io.RawIOBase):
    """Writes rows inside the open transaction. :meth:`close` writes the last one.

    The first failure is raised. What is written after it is discarded, as the transaction will be rolled
    back: buffers above flush once more when they are closed, by then without a database.
    """

    def __init__(self, state: State, chain_id: str) -> None:
        self._connection = state.connection
        self._chain_id = chain_id
        self._pending = bytearray()
        self._piece = 0
        self._failed = False

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        if self._failed:
            return len(view)
        self._pending += view
        while len(self._pending) >= PIECE:
            self._put(bytes(self._pending[:PIECE]))
            del self._pending[:PIECE]
        return len(view)

    def _put(self, piece: bytes) -> None:
        try:
            self._connection.execute(
                "INSERT INTO tar_split VALUES (?, ?, ?)", (self._chain_id, self._piece, piece)
            )
        except BaseException:
            self._failed = True
            raise
        self._piece += 1

    def close(self) -> None:
        rest = b"" if self.closed or self._failed else bytes(self._pending)
        self._pending.clear()
        try:
            if rest:
                self._put(rest)
        finally:
            super().close()  # else the collector closes it once more


class SplitReader(io.RawIOBase):
    """Reads what :class:`SplitWriter` wrote; wrap it in ``io.BufferedReader``."""

    def __init__(self, state: State, chain_id: str) -> None:
        self._state = state
        self._chain_id = chain_id
        self._offset = 0
        row = state.row(
            "SELECT count(*), max(piece), coalesce(sum(length(data)), 0) FROM tar_split WHERE chain_id = ?",
            (chain_id,),
        )
        assert row is not None
        pieces, last, self._size = row
        if not pieces or last != pieces - 1 or not (pieces - 1) * PIECE < self._size <= pieces * PIECE:
            raise CorruptError(
                f"{state.path} has no complete tar-split record of the layer {chain_id}",
                hint="the image cannot be saved; load or pull it again",
            )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        self._offset = max(0, start + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        number, inside = divmod(self._offset, PIECE)
        row = self._state.row(
            "SELECT substr(data, ?, ?) FROM tar_split WHERE chain_id = ? AND piece = ?",
            (inside + 1, len(view), self._chain_id, number),
        )
        data: bytes = row[0] if row else b""
        view[: len(data)] = data
        self._offset += len(data)
        return len(data)
