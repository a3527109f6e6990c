# SPDX-License-Identifier: Apache-2.0
"""The maps of sparse files in tar streams: GNU's old format, and its pax formats 0.0, 0.1 and 1.0.

Described in GNU tar's manual, "Storing Sparse Files".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella.fs.tar.header import BLOCK, MAX_SIZE, FieldError, number
from lamella.fs.tar.pax import SPARSE_LIMIT, decimal, sparse_map
from lamella.fs.tar.source import truncated

if TYPE_CHECKING:
    from lamella.fs.tar.pax import Pax
    from lamella.fs.tar.source import Source

_Map = list[tuple[int, int]] | None

_MAP_TEXT_LIMIT: Final = 1 << 20
"""Most bytes of a map before the data (format 1.0); Go's ``archive/tar`` has the same limit."""


def old_gnu_map(source: Source, block: bytes, stored: int) -> tuple[int, _Map]:
    """Real size and pieces of an old GNU sparse file ('S'), reading its extension blocks.

    Four pieces in the header from byte 386, the "more follows" byte at 482, the real size at 483; 21 in
    each extension block, "more follows" at its byte 504.
    """
    size = number(block[483:495])
    if not 0 <= size <= MAX_SIZE:
        raise FieldError(f"a real size of {size} bytes")
    numbers: list[int] = []
    fields, more = block[386:482], block[482]
    while True:
        for at in range(0, len(fields), 24):
            if fields[at] == 0 and not any(fields[at : at + 24]):
                break
            numbers += (number(fields[at : at + 12]), number(fields[at + 12 : at + 24]))
        if not more:
            return size, sparse_map(numbers, size, stored)
        if len(numbers) > 2 * SPARSE_LIMIT:
            raise FieldError(f"a sparse map of more than {SPARSE_LIMIT} pieces")
        extension = source.block()
        if source.recorder is not None and extension:
            source.recorder.raw(extension)
        if len(extension) < BLOCK:
            raise truncated(source, "inside a sparse file's map")
        fields, more = extension[:504], extension[504]


def pax_map(source: Source, records: Pax, size: int) -> tuple[int, _Map, int]:
    """Real size, pieces and stored size of a pax sparse file whose header says *size*."""
    sparse = records.sparse
    if sparse.get(b"major") == b"1" and sparse.get(b"minor") == b"0":
        real = _size(sparse, b"realsize", b"size")
        numbers, used = _map_before_data(source, size)
        return real, sparse_map(numbers, real, size - used), size - used
    if b"major" in sparse or b"minor" in sparse:
        version = (sparse.get(b"major", b"?") + b"." + sparse.get(b"minor", b"?"))[:20]
        raise FieldError(f"a sparse file of the unknown version {version!r}")
    if b"map" in sparse:
        fields = sparse[b"map"].split(b",") if sparse[b"map"] else []
    elif records.pieces:
        fields = records.pieces
    elif b"numblocks" in sparse and sparse[b"numblocks"] == b"0":
        fields = []
    else:
        # A size without a map (some writers leave records of a former file): a plain file.
        return size, None, size
    if len(fields) > 2 * SPARSE_LIMIT:
        raise FieldError(f"a sparse map of more than {SPARSE_LIMIT} pieces")
    real = _size(sparse, b"size", b"realsize")
    return real, sparse_map([decimal(field, "sparse map") for field in fields], real, size), size


def _size(sparse: dict[bytes, bytes], first: bytes, second: bytes) -> int:
    value = sparse.get(first) or sparse.get(second)
    if not value:
        raise FieldError("a sparse file without its real size")
    size = decimal(value, "real size")
    if not 0 <= size <= MAX_SIZE:
        raise FieldError(f"a real size of {size} bytes")
    return size


def _map_before_data(source: Source, size: int) -> tuple[list[int], int]:
    """Format 1.0: decimal numbers, one per line, first their count, in whole blocks before the data."""
    lines: list[bytes] = []
    rest = b""
    used = 0
    wanted = 1
    while len(lines) < wanted:
        if used + BLOCK > min(size, _MAP_TEXT_LIMIT):
            raise FieldError("a sparse map that is longer than its file, or than 1 MiB")
        try:
            rest += source.take(BLOCK)
        except EOFError:
            raise truncated(source, "inside a sparse file's map") from None
        used += BLOCK
        *whole, rest = rest.split(b"\n")
        lines += whole
        if lines and wanted == 1:
            count = decimal(lines[0], "sparse map")
            if not 0 <= count <= SPARSE_LIMIT:
                raise FieldError(f"a sparse map of {count} pieces")
            wanted = 1 + 2 * count
    return [decimal(line, "sparse map") for line in lines[1:wanted]], used
