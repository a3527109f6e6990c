# SPDX-License-Identifier: Apache-2.0
"""Writing tar streams: pax archives that depend on nothing but the entries given.

A plain ustar header where everything fits into one; pax records (POSIX.1-2001) before it where
something does not: long or non-ASCII names, large numbers, times with a fraction, extended attributes
(``SCHILY.xattr.``). An ACL is written twice: as an xattr, which is where Go's programs look for it, and as
text (``SCHILY.acl.``), which is all that ``tar --acls`` heeds. Names are written as the bytes they
are, with ``hdrcharset=BINARY`` where a record must carry one that is not UTF-8. GNU tar, bsdtar, Go's
``archive/tar`` and Python's ``tarfile`` read the result.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote_from_bytes

from lamella.errors import BadInputError, UnsupportedError
from lamella.fs import acl
from lamella.fs.entry import Entry, Kind, show
from lamella.fs.tar.batch import BATCH, BatchWriter
from lamella.fs.tar.header import BLOCK, FIELDS, USTAR, ZERO_BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable

_ACLS: Final = {acl.ACCESS: b"SCHILY.acl.access", acl.DEFAULT: b"SCHILY.acl.default"}
_TYPES: Final = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHAR: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_NO_NAMES: Final = bytes(64)
_NO_DEVICE: Final = b"0000000\0" * 2
_NAMES: Final = (b"path", b"linkpath", b"GNU.sparse.name")
_SECOND: Final = 1_000_000_000


class Out(Protocol):
    """Where the stream goes: a file, a socket, a digest."""

    def write(self, data: bytes, /) -> object: ...


class TarWriter(BatchWriter):
    """Writes entries to *out* as one tar stream; :meth:`close` writes the end marks."""

    def __init__(self, out: Out) -> None:
        super().__init__(out.write)

    def add(self, entry: Entry, chunks: Iterable[bytes | memoryview] = (), *, sparse: bool = False) -> None:
        """Write one entry. *chunks* give a FILE's bytes, ``entry.size`` of them together.

        With *sparse* and ``entry.data``, the chunks carry the stored pieces only, and the entry is
        written in GNU's sparse format 1.0. Otherwise holes are written as the zeros that they read as,
        as Docker does. Raises :class:`BadInputError` if the chunks are more or fewer bytes than the
        entry says, and :class:`UnsupportedError` for a socket, which tar cannot carry.
        """
        if entry.kind is Kind.SOCKET:
            raise UnsupportedError(f"{show(entry.path)}: a tar stream cannot carry a socket")
        records: list[tuple[bytes, bytes]] = []
        name = entry.path
        lead = b""
        size = entry.size if entry.kind is Kind.FILE else 0
        if sparse and entry.data is not None and entry.kind is Kind.FILE:
            lead = _sparse_map(entry)
            size = len(lead) + entry.stored
            records += [
                (b"GNU.sparse.major", b"1"),
                (b"GNU.sparse.minor", b"0"),
                (b"GNU.sparse.name", entry.path),
                (b"GNU.sparse.realsize", b"%d" % entry.size),
            ]
            name = b"GNUSparseFile.0/" + entry.path.rsplit(b"/", 1)[-1]
        self._header(entry, name, size, records)
        if lead:
            self._put(lead)
        if size:
            self._body(entry, chunks, size - len(lead))

    def _end(self) -> None:
        self._put(ZERO_BLOCK + ZERO_BLOCK)
        self._flush()

    def _header(self, entry: Entry, name: bytes, size: int, records: list[tuple[bytes, bytes]]) -> None:
        if entry.kind is Kind.DIRECTORY:
            name = name + b"/" if name else b"./"
        prefix, short = _split(name)
        if prefix is None:
            prefix = b""
            records.append((b"path", name))
        link = entry.target
        if len(link) > 100 or _needs_record(link):
            records.append((b"linkpath", link))
        if not all(_is_utf8(value) for key, value in records if key in _NAMES):
            records.insert(0, (b"hdrcharset", b"BINARY"))
        seconds, fraction = divmod(entry.mtime_ns, _SECOND)
        if fraction or not 0 <= seconds < 1 << 33:
            records.append((b"mtime", _time(entry.mtime_ns)))
            seconds = min(max(seconds, 0), (1 << 33) - 1)
        octal_size, uid, gid = size, entry.uid, entry.gid
        if size >= 1 << 33:
            records.append((b"size", b"%d" % size))
            octal_size = 0
        if uid >= 1 << 21:
            records.append((b"uid", b"%d" % uid))
            uid = 0
        if gid >= 1 << 21:
            records.append((b"gid", b"%d" % gid))
            gid = 0
        for key, value in sorted(entry.xattrs.items()):
            records.append(_xattr(key, value))
            if key in _ACLS and (text := acl.to_text(value)) is not None:
                records.append((_ACLS[key], text))
        device = _NO_DEVICE
        if entry.kind is Kind.CHAR or entry.kind is Kind.BLOCK:
            device = b"%07o\0%07o\0" % (entry.major, entry.minor)
        if records:
            self._extended(name, records)
        ids = b"%07o\0%07o\0%07o\0" % (entry.mode & 0o7777, uid, gid)
        numbers = b"%011o\0" % octal_size, b"%011o\0" % seconds
        self._put(_block(short, ids, *numbers, _TYPES[entry.kind], link[:100], device, prefix))

    def _extended(self, name: bytes, records: list[tuple[bytes, bytes]]) -> None:
        body = b"".join(_record(key, value) for key, value in records)
        base = name.rstrip(b"/").rsplit(b"/", 1)[-1]
        label = b"PaxHeaders.0/" + bytes(c if 32 < c < 127 else 95 for c in base)[:87]
        ids = b"0000644\0" + b"0000000\0" * 2
        numbers = b"%011o\0" % len(body), b"00000000000\0"
        self._put(_block(label, ids, *numbers, b"x", b"", _NO_DEVICE, b""))
        self._put(body + bytes(-len(body) % BLOCK))

    def _body(self, entry: Entry, chunks: Iterable[bytes | memoryview], size: int) -> None:
        done = 0
        for chunk in chunks:
            done += len(chunk)
            if done > size:
                break
            if len(chunk) >= BATCH:
                self._flush()
                self._write(chunk if isinstance(chunk, bytes) else bytes(chunk))
            else:
                self._put(bytes(chunk))
        if done != size:
            raise BadInputError(
                f"{show(entry.path)}: its bytes are {'more' if done > size else 'fewer'} than its {size}",
                hint="the file changed while it was read; try again",
            )
        if size % BLOCK:
            self._put(bytes(-size % BLOCK))


def _block(
    name: bytes, ids: bytes, size: bytes, when: bytes, kind: bytes, link: bytes, device: bytes, prefix: bytes
) -> bytes:
    """A ustar header with its checksum."""
    block = FIELDS.pack(name, ids, size, when, b" " * 8, kind, link, USTAR, _NO_NAMES, device, prefix, b"")
    # adler32's low half is 1 plus the sum modulo 65521, which 512 bytes below 128 cannot reach.
    total = (zlib.adler32(block) & 0xFFFF) - 1 if block.isascii() else sum(block)
    return block[:148] + b"%06o\0 " % total + block[156:]


def _split(name: bytes) -> tuple[bytes | None, bytes]:
    """The prefix and name of a ustar header; None as prefix if a pax record must carry the name."""
    if not _needs_record(name):
        if len(name) <= 100:
            return b"", name
        if len(name) <= 256:
            # The slash between the two is not stored; the part after it must not be empty.
            at = name.find(b"/", len(name) - 101, len(name) - 1)
            if 0 < at <= 155:
                return name[:at], name[at + 1 :]
    return None, name[:100]


def _needs_record(name: bytes) -> bool:
    """Whether a short name goes into a record: UTF-8 does, of which a header would not say what it is.

    Other bytes are best left in the header, where every program takes them as they are: GNU tar 1.34
    warns about ``hdrcharset``.
    """
    return not name.isascii() and _is_utf8(name)


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _time(nanoseconds: int) -> bytes:
    """A time as pax has it, without superfluous zeros."""
    seconds, fraction = divmod(abs(nanoseconds), _SECOND)
    text = b"%d.%09d" % (seconds, fraction)
    return (b"-" if nanoseconds < 0 else b"") + text.rstrip(b"0").rstrip(b".")


def _xattr(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if b"=" in name or not _is_utf8(name):
        # A key ends at its first "="; libarchive's form of the record writes any name.
        key = b"LIBARCHIVE.xattr." + quote_from_bytes(name).encode()
        return key, base64.b64encode(value).rstrip(b"=")
    return b"SCHILY.xattr." + name, value


def _record(key: bytes, value: bytes) -> bytes:
    """One pax record, whose length counts its own digits."""
    length = len(key) + len(value) + 3
    digits = len(b"%d" % length)
    if len(b"%d" % (length + digits)) > digits:
        digits += 1
    return b"%d %s=%s\n" % (length + digits, key, value)


def _sparse_map(entry: Entry) -> bytes:
    """The map that stands before a sparse file's bytes in format 1.0, padded to whole blocks."""
    pieces = list(entry.data or ())
    if not pieces or sum(pieces[-1]) < entry.size:
        pieces.append((entry.size, 0))  # marks the hole at the end
    lines = [b"%d\n" % len(pieces)] + [b"%d\n%d\n" % piece for piece in pieces]
    text = b"".join(lines)
    return text + bytes(-len(text) % BLOCK)
