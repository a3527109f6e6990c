# SPDX-License-Identifier: Apache-2.0
"""Where blobs lie: a file of its own, or a piece of an archive; read in order, never loaded whole."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from typing import Protocol

from lamella.block.system import explain, explaining
from lamella.closing import Closing
from lamella.errors import BadInputError

READ_SIZE = 256 << 10
"""Bytes per read: enough that Python's part in a read costs nothing."""


class Reader(Protocol):
    """Bytes in order; ``b""`` at the end."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class OpenFile:
    """A regular file (or block device) held open for reading at any place, by several threads."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor
        try:
            status = os.fstat(descriptor)
            self.size = (
                os.lseek(descriptor, 0, os.SEEK_END) if stat.S_ISBLK(status.st_mode) else status.st_size
            )
        except OSError as error:
            self.close()
            raise explain(error, "read", name) from error

    @classmethod
    def open(cls, path: str | os.PathLike[str], name: str = "") -> OpenFile:
        """Open *path*; pipes and other things that cannot be read at any place are refused."""
        name = name or os.fspath(path)
        with explaining("open", name):
            # O_NONBLOCK: opening a named pipe would wait for a writer that may never come.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            os.close(descriptor)
            raise BadInputError(f"{name} is not a regular file")
        return cls(name, descriptor)

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to *size* bytes at *offset*; fewer only at the end of the file."""
        try:
            data = os.pread(self._descriptor, size, offset)
            while len(data) < size and (
                more := os.pread(self._descriptor, size - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            raise explain(error, "read", self.name) from error
        return data

    def close(self) -> None:
        """Closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Piece(Protocol):
    """A blob's bytes somewhere; ``name`` is for errors, ``size`` in bytes."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def open(self) -> Reader: ...


class FilePiece:
    """*size* bytes at *offset* of an open file (a member of an archive)."""

    def __init__(self, file: OpenFile, name: str, offset: int, size: int) -> None:
        self.file = file
        self.name = name
        self.offset = offset
        self.size = size

    def open(self) -> Reader:
        return _PieceReader(self.file, self.name, self.offset, self.size, owned=False)


class PathPiece:
    """A whole file, opened only while it is read."""

    def __init__(self, path: str, name: str = "") -> None:
        self.path = path
        self.name = name or path
        self._size = -1

    @property
    def size(self) -> int:
        if self._size < 0:
            file = OpenFile.open(self.path, self.name)
            self._size = file.size
            file.close()
        return self._size

    def open(self) -> Reader:
        file = OpenFile.open(self.path, self.name)
        return _PieceReader(file, self.name, 0, file.size, owned=True)


class _PieceReader(Closing):
    def __init__(self, file: OpenFile, name: str, offset: int, size: int, *, owned: bool) -> None:
        self._file = file
        self._name = name
        self._offset = offset
        self._end = offset + size
        self._owned = owned

    def read(self, size: int, /) -> bytes:
        wanted = min(size, self._end - self._offset)
        if wanted <= 0:
            return b""
        data = self._file.read_at(self._offset, wanted)
        if len(data) < wanted:
            raise BadInputError(
                f"{self._name} is truncated: {self._end - self._offset - len(data)} bytes are missing"
            )
        self._offset += wanted
        return data

    def close(self) -> None:
        if self._owned:
            self._file.close()


def read_whole(piece: Piece, limit: int) -> bytes:
    """All of a small blob; :class:`BadInputError` if it is larger than *limit*."""
    if piece.size > limit:
        raise BadInputError(f"{piece.name} has {piece.size} bytes; no more than {limit} are accepted")
    with closing(piece.open()) as reader:
        return reader.read(piece.size)
