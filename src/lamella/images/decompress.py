# SPDX-License-Identifier: Apache-2.0
"""Decompression of layers and archives as a stream of bounded pieces.

What a stream is, its first bytes say (media types are often wrong, and Docker and containerd do not
believe them either). gzip goes through ISA-L where there is a build of it, twice as fast as zlib.
"""

from __future__ import annotations

import zlib
from typing import IO, TYPE_CHECKING, Protocol, cast

from lamella.errors import BadInputError
from lamella.images.zstd_frames import ZstdFrames

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_LIMIT = 1 << 27
"""Largest zstd window and xz dictionary, 128 MiB as in the zstd program: no stream gets more memory."""

_MAGICS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
MAGIC_SIZE = 8
STEP = 128 << 10
"""Compressed bytes read at a time."""


class Input(Protocol):
    """Compressed bytes in order. Its own failures are LamellaErrors, so an OSError is a format's."""

    def read(self, size: int = -1, /) -> bytes: ...

    def readinto(self, target: memoryview, /) -> int: ...


class Output(Protocol):
    """Uncompressed bytes: up to *size* at a time, ``b""`` at the end."""

    def read(self, size: int, /) -> bytes: ...


def sniff(start: bytes) -> str:
    """``gzip``, ``zstd``, ``bzip2``, ``xz`` or, for anything else, ``plain``."""
    for magic, kind in _MAGICS:
        if start.startswith(magic):
            return kind
    if start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F:  # a skippable frame goes first
        return "zstd"
    return "plain"


def decompressor(kind: str, source: Input) -> Output:
    """A stream of what *source* holds; several members or frames, one after another, are one stream.

    Zeros after the last gzip member are padding; anything else there is an error, as it is to Go.
    """
    if kind == "plain":
        return source
    if kind == "gzip":
        return _gzip(source)
    if kind == "zstd":
        return _Zstd(source)
    if kind == "bzip2":
        import bz2

        return _Members(source, bz2.BZ2Decompressor, padding=b"")
    assert kind == "xz", kind
    import lzma

    # lzma.LZMAFile would have no limit to its memory.
    return _Members(source, lambda: lzma.LZMADecompressor(memlimit=WINDOW_LIMIT + (1 << 20)), padding=b"\0")


class _Zstd:
    """All frames as one stream. The library takes a stream that was cut off for one that has ended."""

    def __init__(self, source: Input) -> None:
        import zstandard

        self._frames = ZstdFrames()
        self._output = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).stream_reader(
            cast("IO[bytes]", _Followed(source, self._frames)), read_size=STEP, read_across_frames=True
        )

    def read(self, size: int, /) -> bytes:
        data = self._output.read(size)
        if not data and not self._frames.complete:
            raise EOFError("the stream ends too early")
        return data


class _Followed:
    """Compressed bytes as they are, also given to *frames*."""

    def __init__(self, source: Input, frames: ZstdFrames) -> None:
        self._source = source
        self._frames = frames

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._frames.feed(data)
        return data


def _gzip(source: Input) -> Output:
    try:
        from isal import igzip
    except ImportError:  # no build for this processor
        import gzip

        return gzip.GzipFile(fileobj=cast("gzip._ReadableFileobj", source), mode="rb")
    return cast("Output", igzip.IGzipFile(fileobj=source, mode="rb"))  # type: ignore[no-untyped-call]  # isal has no hints here


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Members:
    """One stream after another, each decompressed by what *make* makes; *padding* may lie between them."""

    def __init__(self, source: Input, make: Callable[[], _Decompressor], padding: bytes) -> None:
        self._source = source
        self._make = make
        self._padding = padding
        self._member = make()

    def read(self, size: int, /) -> bytes:
        while True:
            data = b""
            if self._member.eof:
                data = self._skip(self._member.unused_data) or self._skip(self._source.read(STEP))
                if not data:
                    return b""
                self._member = self._make()
            elif self._member.needs_input:
                data = self._source.read(STEP)
                if not data:
                    raise EOFError("the stream ends too early")
            data = self._member.decompress(data, size)
            if data:
                return data

    def _skip(self, data: bytes) -> bytes:
        """*data* from where the next member begins; more is read while there is only padding."""
        rest = data.lstrip(self._padding) if self._padding else data
        while data and not rest:
            data = self._source.read(STEP)
            rest = data.lstrip(self._padding) if self._padding else data
        return rest


def format_errors() -> tuple[type[Exception], ...]:
    """What the decompressors raise for bad input (some raise plain OSError, see :class:`Input`)."""
    kinds: list[type[Exception]] = [EOFError, OSError, zlib.error, ValueError]
    import lzma

    import zstandard

    kinds += [lzma.LZMAError, zstandard.ZstdError]
    try:
        from isal import isal_zlib
    except ImportError:
        return tuple(kinds)
    return (*kinds, cast("type[Exception]", isal_zlib.error))


def bad_stream(error: Exception, kind: str, what: str) -> BadInputError:
    """The user's error for a decompressor's."""
    if isinstance(error, EOFError):
        return BadInputError(f"{what} is truncated: its {kind} stream ends too early")
    return BadInputError(f"{what} is not valid {kind}: {error}")
