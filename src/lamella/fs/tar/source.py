# SPDX-License-Identifier: Apache-2.0
"""The buffered stream under a tar reader, and the payload of one entry as its consumer sees it."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from lamella.block.system import explain
from lamella.errors import BadInputError
from lamella.fs.tar.header import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

BUFFER: Final = 1 << 20
"""Bytes read ahead; also the largest piece that a payload gives at once."""


def _fast_crc32() -> Callable[[Buffer, int], int]:
    try:
        from isal import isal_zlib
    except ImportError:  # not built for this processor; zlib's own is the same sum, slower
        return zlib.crc32
    crc: Callable[[Buffer, int], int] = isal_zlib.crc32
    return crc


crc32: Final = _fast_crc32()


class ReadInto(Protocol):
    """An uncompressed stream that fills buffers; 0 means its end."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Read(Protocol):
    """An uncompressed stream that gives bytes; b"" means its end."""

    def read(self, size: int, /) -> bytes: ...


class Recorder(Protocol):
    """Takes everything that :func:`lamella.fs.tar.read.read_tar` reads, so that the tar can be made again."""

    def raw(self, data: bytes) -> None:
        """The next bytes of the stream, to be kept as they are: headers, padding, end marks."""

    def payload(self, stored_as: bytes, pieces: list[tuple[int, int]], crc: int) -> None:
        """Next come these (offset, length) pieces of the file *stored_as*; *crc* is their CRC-32."""

    def before_removal(self, path: bytes, read: Callable[[int, int], Iterable[bytes]]) -> None:
        """The file *path* is about to be unlinked, overwritten or replaced; ``read(offset, length)`` still
        gives its bytes.

        Whoever applies the tar calls this for every regular file that it removes while it does so, because
        what came from an earlier entry of the same tar can be read nowhere else afterwards.
        """


def _adapt(stream: Read) -> Callable[[memoryview], int]:
    def readinto(view: memoryview) -> int:
        data = stream.read(len(view))
        view[: len(data)] = data
        return len(data)

    return readinto


class Source:
    """Reads a stream through one buffer of fixed size and knows where in the stream it is."""

    __slots__ = ("_buffer", "_readinto", "_view", "base", "end", "name", "pos", "recorder")

    def __init__(self, stream: ReadInto | Read, name: str, recorder: Recorder | None) -> None:
        readinto: Any = getattr(stream, "readinto", None)
        self._readinto: Callable[[memoryview], int | None] = readinto or _adapt(stream)  # type: ignore[arg-type]  # one of the two protocols
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self.pos = 0
        self.end = 0
        self.base = 0
        self.name = name
        self.recorder = recorder

    @property
    def offset(self) -> int:
        """The stream position of the next byte."""
        return self.base + self.pos

    def fill(self, need: int) -> int:
        """Try to have *need* bytes (at most the buffer's size) buffered; returns how many there are."""
        have = self.end - self.pos
        if have >= need:
            return have
        if self.pos:
            self._buffer[:have] = self._buffer[self.pos : self.end]
            self.base += self.pos
            self.pos, self.end = 0, have
        while self.end < need:
            got = self._read_into(self._view[self.end :])
            if not got:
                break
            self.end += got
        return self.end

    def block(self) -> bytes:
        """The next 512 bytes, fewer at the stream's end. Not recorded."""
        pos = self.pos
        if self.end - pos < BLOCK:
            self.fill(BLOCK)
            pos = self.pos
        self.pos = end = min(pos + BLOCK, self.end)
        return bytes(self._view[pos:end])

    def peek_block(self) -> bytes:
        """The next block without taking it."""
        self.fill(BLOCK)
        return bytes(self._view[self.pos : min(self.pos + BLOCK, self.end)])

    def take(self, length: int) -> bytes:
        """Exactly *length* bytes (names, extended headers), recorded. EOFError if there are fewer."""
        out = bytearray()
        while length:
            have = min(self.fill(1), length)
            if not have:
                raise EOFError
            out += self._view[self.pos : self.pos + have]
            self.pos += have
            length -= have
        data = bytes(out)
        if self.recorder is not None:
            self.recorder.raw(data)
        return data

    def skip(self, length: int) -> int:
        """Skip *length* bytes, recorded; returns how many were missing at the stream's end."""
        while length:
            have = min(self.fill(1), length)
            if not have:
                break
            if self.recorder is not None:
                self.recorder.raw(bytes(self._view[self.pos : self.pos + have]))
            self.pos += have
            length -= have
        return length

    def drain(self) -> None:
        """Read to the stream's end, so that a stream that checks its digest has seen all of it."""
        self.skip(1 << 62)

    def window(self, length: int) -> memoryview:
        """Up to *length* buffered bytes, at least one unless the stream has ended; not taken yet."""
        have = self.end - self.pos
        if have < length:
            # Small payloads whole; large ones as much as the buffer holds.
            have = self.fill(min(length, BUFFER))
        return self._view[self.pos : self.pos + min(have, length)]

    def direct(self, view: memoryview) -> int:
        """Fill *view* from the stream without the buffer, which must be empty."""
        got = self._read_into(view)
        self.base += got
        return got

    def _read_into(self, view: memoryview) -> int:
        try:
            return self._readinto(view) or 0
        except OSError as error:
            raise explain(error, "read", self.name) from error


class Payload:
    """The stored bytes of one entry, in order: its pieces' bytes if it is sparse, without the holes.

    Valid until the next entry is asked for. With a recorder, a consumer takes all of it or nothing:
    what was taken is recorded as a reference to the file ``stored_as``, the rest as bytes.
    """

    __slots__ = ("_crc", "_source", "remaining", "size", "stored_as")

    def __init__(self, source: Source, size: int, path: bytes) -> None:
        self._source = source
        self._crc = 0
        self.size = size
        """Stored bytes."""
        self.remaining = size
        """Stored bytes not read yet."""
        self.stored_as = path
        """Where these bytes can be read again once stored, the entry's path unless the consumer changes it
        (because a parent of that path was a symbolic link)."""

    @property
    def crc(self) -> int:
        """CRC-32 of what was read; counted only if there is a recorder."""
        return self._crc

    def pieces(self) -> Iterator[memoryview]:
        """The remaining bytes as views of at most 1 MiB, each valid only until the next is asked for."""
        source = self._source
        while self.remaining:
            view = source.window(self.remaining)
            if not view:
                raise self._truncated()
            if source.recorder is not None:
                self._crc = crc32(view, self._crc)
            source.pos += len(view)
            self.remaining -= len(view)
            yield view

    def read_into(self, buffer: Buffer) -> int:
        """Fill *buffer* as far as bytes remain; returns how many bytes it got."""
        target = memoryview(buffer).cast("B")
        source = self._source
        done, want = 0, min(len(target), self.remaining)
        while done < want:
            if source.pos == source.end and want - done >= BUFFER:
                got = source.direct(target[done:want])
            else:
                view = source.window(want - done)
                got = len(view)
                target[done : done + got] = view
                source.pos += got
            if not got:
                raise self._truncated()
            if source.recorder is not None:
                self._crc = crc32(target[done : done + got], self._crc)
            done += got
            self.remaining -= got
        return done

    def read(self, length: int = -1) -> bytes:
        """Up to *length* bytes as an object of their own; all that remain if it is negative."""
        out = bytearray(self.remaining if length < 0 else min(length, self.remaining))
        self.read_into(out)
        return bytes(out)

    def _truncated(self) -> BadInputError:
        return truncated(self._source, f"inside the bytes of {self.stored_as.decode('utf-8', 'replace')!r}")


def truncated(source: Source, where: str) -> BadInputError:
    """The error for a stream that ends too early."""
    return BadInputError(
        f"{source.name}: the tar stream ends at byte {source.offset}, {where}",
        hint="the archive is cut off; get it again from its source",
    )
