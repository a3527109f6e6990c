# SPDX-License-Identifier: Apache-2.0
"""Keeping what a tar stream is beyond its files, so that the very same bytes can be made again.

Once a layer is unpacked, its files' bytes lie in a volume; headers, padding and end marks do not, and
a layer's digest covers them. A *tar split* is the stream with every payload replaced by a reference to
the file that holds it. (Docker keeps such a thing for the same purpose; the idea is from
vbatts/tar-split, the format here is our own.)

The format: the magic, one Zstandard frame of records with its content checksum, and a trailer.
Numbers are little endian. A record is one of

- ``R``: length (u32), bytes: stream bytes as they are;
- ``F``: CRC-32 (u32), number of pieces (u32), length of path (u16), path, pieces (offset u64, length
  u64): the pieces of a file, whose CRC is of their bytes together;
- ``S``: index of an F record (u64), length (u64), bytes: what that F record stands for, because its
  file was overwritten or removed later in the same stream;
- ``E``: the tar stream's whole length (u64).

The trailer is the number of S records (u64) and the magic's second half.
"""

from __future__ import annotations

import io
import os
import tempfile
from array import array
from dataclasses import dataclass
from struct import Struct
from typing import IO, TYPE_CHECKING, Final, Protocol, cast

import numpy as np
import zstandard

from lamella.errors import CorruptError
from lamella.fs.entry import PATH_LIMIT, show
from lamella.fs.tar.batch import BATCH, BatchWriter
from lamella.fs.tar.pax import SPARSE_LIMIT
from lamella.fs.tar.source import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

MAGIC: Final = b"LamellaTarSplit1"
_TRAILER: Final = Struct("<Q8s")
_RAW: Final = Struct("<I")
_FILE: Final = Struct("<IIH")
_SAVED: Final = Struct("<QQ")
_END: Final = Struct("<Q")
_PIECE: Final = Struct("<QQ")
_RAW_LIMIT: Final = 1 << 21
_SCAN: Final = 1 << 16


class Out(Protocol):
    """Where reassembled bytes go: a file, a socket, a digest."""

    def write(self, data: bytes, /) -> object: ...


class ReadFile(Protocol):
    """Gives *length* bytes of a stored file from *offset*, as ``Reader.read`` does."""

    def __call__(self, path: bytes, offset: int, length: int, /) -> Iterable[bytes]: ...


class TarSplitWriter(BatchWriter):
    """A recorder for :func:`lamella.fs.tar.read.read_tar` that writes a tar split to a binary file.

    Memory: 20 bytes per file of the stream. Nothing is valid until :meth:`close` has returned.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        out.write(MAGIC)
        compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        self._frame = compressor.stream_writer(out, closefd=False)
        super().__init__(self._frame.write)
        self._raw: list[bytes] = []
        self._raw_size = 0
        self._length = 0
        # Per F record: its path's hash, its payload's length and CRC; its pieces only if it is sparse.
        self._hashes = array("q")
        self._sizes = array("Q")
        self._crcs = array("I")
        self._sparse: dict[int, list[tuple[int, int]]] = {}
        self._saved: set[int] = set()

    def raw(self, data: bytes) -> None:
        """Keep bytes of the stream."""
        self._raw.append(data)
        self._raw_size += len(data)
        self._length += len(data)
        if self._raw_size >= BATCH:
            self._put_raw()

    def payload(self, stored_as: bytes, pieces: list[tuple[int, int]], crc: int) -> None:
        """Keep a reference to a file's pieces."""
        self._put_raw()
        packed = b"".join(_PIECE.pack(*piece) for piece in pieces)
        self._put(b"F" + _FILE.pack(crc, len(pieces), len(stored_as)) + stored_as + packed)
        size = sum(length for _, length in pieces)
        if len(pieces) != 1 or pieces[0][0]:
            self._sparse[len(self._hashes)] = pieces
        self._hashes.append(hash(stored_as))
        self._sizes.append(size)
        self._crcs.append(crc)
        self._length += size

    def before_removal(self, path: bytes, read: Callable[[int, int], Iterable[bytes]]) -> None:
        """Take over the bytes of *path* if they came with this stream."""
        index = self._find(hash(path))
        if index is None or index in self._saved:
            return
        self._saved.add(index)
        self._put_raw()
        size = self._sizes[index]
        self._put(b"S" + _SAVED.pack(index, size))
        crc = done = 0
        for offset, length in self._sparse.get(index, [(0, size)]):
            for piece in read(offset, length):
                crc = crc32(piece, crc)
                done += len(piece)
                self._put(bytes(piece))
        if done != size or crc != self._crcs[index]:
            raise CorruptError(f"{show(path)}: its content changed before it was replaced")

    def _end(self) -> None:
        self._put_raw()
        self._put(b"E" + _END.pack(self._length))
        self._flush()
        self._frame.close()  # type: ignore[no-untyped-call]  # zstandard's stub lacks a type here
        self._out.write(_TRAILER.pack(len(self._saved), MAGIC[8:]))

    def _find(self, key: int) -> int | None:
        """The latest F record of a path; newest first, because what is replaced is often recent."""
        end = len(self._hashes)
        while end:
            start = max(0, end - _SCAN)
            with memoryview(self._hashes) as view:
                found = np.flatnonzero(np.frombuffer(view, np.int64)[start:end] == key)
            if len(found):
                return start + int(found[-1])
            end = start
        return None

    def _put_raw(self) -> None:
        if self._raw_size:
            data = b"".join(self._raw)
            self._raw.clear()
            self._raw_size = 0
            for at in range(0, len(data), _RAW_LIMIT):
                piece = data[at : at + _RAW_LIMIT]
                self._put(b"R" + _RAW.pack(len(piece)))
                self._put(piece)


@dataclass(slots=True)
class _Raw:
    data: bytes


@dataclass(slots=True)
class _File:
    path: bytes
    pieces: list[tuple[int, int]]
    crc: int


@dataclass(slots=True)
class _Saved:
    index: int
    length: int
    bytes: Iterator[bytes]


@dataclass(slots=True)
class _End:
    length: int


def reassemble(split: BinaryIO, read_file: ReadFile, out: Out, *, name: str = "tar split") -> int:
    """Write the tar stream that *split* (seekable) describes to *out*; returns its length in bytes.

    *read_file* gives the files' bytes. *name* is what errors call the split. Raises
    :class:`CorruptError` if the split is damaged, or if a file no longer is what it was.
    """
    expected = _saved_count(split, name)
    index = written = 0
    with tempfile.TemporaryFile() as store:
        saved = _collect_saved(_records(split, name), store) if expected else {}
        if len(saved) != expected:
            raise _damaged(name, f"{len(saved)} replaced files where {expected} were recorded")
        for record in _records(split, name):
            if isinstance(record, _Raw):
                out.write(record.data)
                written += len(record.data)
            elif isinstance(record, _File):
                streams: Iterator[Iterable[bytes]]
                if index in saved:
                    streams = iter([_stored(store, *saved[index])])
                else:
                    streams = (read_file(record.path, offset, length) for offset, length in record.pieces)
                written += _copy(record, streams, out, name)
                index += 1
            elif isinstance(record, _End) and record.length != written:
                raise _damaged(name, f"it makes {written} bytes where {record.length} were recorded")
    return written


def _collect_saved(
    records: Iterator[_Raw | _File | _Saved | _End], store: IO[bytes]
) -> dict[int, tuple[int, int]]:
    """Put the bytes of all S records into *store*; returns where each is, by its F record's index."""
    places: dict[int, tuple[int, int]] = {}
    for record in records:
        if isinstance(record, _Saved):
            places[record.index] = store.tell(), record.length
            for data in record.bytes:
                store.write(data)
    return places


def _stored(store: IO[bytes], start: int, length: int) -> Iterator[bytes]:
    store.seek(start)
    while length:
        data = store.read(min(length, BATCH))
        if not data:
            return
        length -= len(data)
        yield data


def _copy(record: _File, streams: Iterator[Iterable[bytes]], out: Out, name: str) -> int:
    """Copy a payload and compare it with its record."""
    expected = sum(length for _, length in record.pieces)
    crc = done = 0
    for stream in streams:
        for piece in stream:
            crc = crc32(piece, crc)
            done += len(piece)
            if done > expected:
                break
            out.write(piece)
    if done != expected or crc != record.crc:
        raise CorruptError(
            f"{name}: the file {show(record.path)!r} has changed since its layer was unpacked",
            hint="the layer cannot be written out again; load or pull its image again",
        )
    return done


class _Inside:
    """The bytes between the magic and the trailer, which the decompressor must not read on into."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file = file
        self._left = left

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _damaged(name: str, reason: str) -> CorruptError:
    return CorruptError(f"{name} is damaged: {reason}", hint="load or pull the layer's image again")


def _saved_count(split: BinaryIO, name: str) -> int:
    """Check the magic and the trailer; returns how many S records there are."""
    end = split.seek(0, os.SEEK_END)
    if end < len(MAGIC) + _TRAILER.size:
        raise _damaged(name, f"{end} bytes are too few")
    split.seek(end - _TRAILER.size)
    count, half = _TRAILER.unpack(split.read(_TRAILER.size))
    split.seek(0)
    if split.read(len(MAGIC)) != MAGIC:
        raise _damaged(name, "it does not start as one")
    if half != MAGIC[8:]:
        raise _damaged(name, "its end is missing")
    return int(count)


def _records(split: BinaryIO, name: str) -> Iterator[_Raw | _File | _Saved | _End]:
    """All records in order. The bytes of an S record must be taken before the next record, or are skipped."""
    end = split.seek(0, os.SEEK_END)
    split.seek(len(MAGIC))
    inside = _Inside(split, end - len(MAGIC) - _TRAILER.size)
    files = 0
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
        cast("BinaryIO", inside), closefd=False
    ) as frame:
        reader = io.BufferedReader(cast("io.RawIOBase", frame), BATCH)

        def take(length: int) -> bytes:
            data = reader.read(length)
            if len(data) != length:
                raise _damaged(name, "it ends in the middle of a record")
            return data

        def spread(length: int) -> Iterator[bytes]:
            left = length
            while left:
                data = take(min(left, BATCH))
                left -= len(data)
                yield data

        try:
            while True:
                kind = take(1)
                if kind == b"R":
                    (length,) = _RAW.unpack(take(_RAW.size))
                    if length > _RAW_LIMIT:
                        raise _damaged(name, f"a raw record of {length} bytes")
                    yield _Raw(take(length))
                elif kind == b"F":
                    crc, count, length = _FILE.unpack(take(_FILE.size))
                    if length > PATH_LIMIT or count > SPARSE_LIMIT:
                        raise _damaged(name, "a file record that is too large")
                    path = take(length)
                    yield _File(path, list(_PIECE.iter_unpack(take(count * _PIECE.size))), crc)
                    files += 1
                elif kind == b"S":
                    index, length = _SAVED.unpack(take(_SAVED.size))
                    if index >= files:
                        raise _damaged(name, f"a replaced file {index} that does not exist")
                    data = spread(length)
                    yield _Saved(index, length, data)
                    for _ in data:
                        pass
                elif kind == b"E":
                    (length,) = _END.unpack(take(_END.size))
                    if reader.read(1):  # reading on also makes Zstandard check the frame's checksum
                        raise _damaged(name, "it goes on after its end")
                    yield _End(length)
                    return
                else:
                    raise _damaged(name, f"an unknown record {kind!r}")
        except zstandard.ZstdError as error:
            raise _damaged(name, f"it does not decompress ({error})") from None
