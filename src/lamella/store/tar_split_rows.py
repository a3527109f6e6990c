# SPDX-License-Identifier: Apache-2.0
"""A layer's tar split in ``state.db``: a file cut into rows, written once and read with seeking."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from lamella.errors import CorruptError

if TYPE_CHECKING:
    import sqlite3

    from typing_extensions import Buffer

    from lamella.driver.state import State

PIECE = 256 << 10
"""Bytes in every row but the last."""


class SplitPieces(io.RawIOBase):
    """Collects a tar split, which is compressed, until :meth:`insert` writes its rows.

    It is complete long after its first byte comes, and meanwhile no transaction need be open.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._pending = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        self._pending += view
        while len(self._pending) >= PIECE:
            self._pieces.append(bytes(self._pending[:PIECE]))
            del self._pending[:PIECE]
        return len(view)

    def insert(self, connection: sqlite3.Connection, chain_id: str) -> None:
        """Write the rows of the layer *chain_id* inside a transaction, in place of those it has."""
        connection.execute("DELETE FROM tar_split WHERE chain_id = ?", (chain_id,))
        pieces = [*self._pieces, bytes(self._pending)] if self._pending else self._pieces
        connection.executemany(
            "INSERT INTO tar_split VALUES (?, ?, ?)",
            [(chain_id, number, piece) for number, piece in enumerate(pieces)],
        )


class SplitReader(io.RawIOBase):
    """Reads what :class:`SplitPieces` wrote; wrap it in ``io.BufferedReader``."""

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
