# SPDX-License-Identifier: Apache-2.0
"""Reading tar streams: every format that image layers come in, fast, in bounded memory.

Read are ustar, GNU (long names, base-256 numbers, sparse files old and new, dump directories), pax
(local and global records, nanoseconds, extended attributes and ACLs as star, GNU tar and bsdtar
write them) and old tars without a magic. Names are bytes in any encoding; ``hdrcharset`` therefore
changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella.errors import BadInputError
from lamella.fs.entry import PATH_LIMIT, Entry, Kind
from lamella.fs.tar import pax
from lamella.fs.tar.header import (
    BLOCK,
    FIELDS,
    MAX_ID,
    MAX_SIZE,
    ZERO_BLOCK,
    FieldError,
    bad_entry,
    checksum_matches,
    clean_path,
    name_prefix,
    number,
    owner,
    text,
    valid_checksum,
)
from lamella.fs.tar.source import Payload, Read, ReadInto, Recorder, Source, truncated
from lamella.fs.tar.sparse import old_gnu_map, pax_map

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS: Final = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # "contiguous", which every system treats as a plain file
    b"S": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHAR,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"D": Kind.DIRECTORY,  # GNU: followed by the names that it held
    b"6": Kind.FIFO,
}
_NO_PAX: Final = pax.Pax()
_ENDS: Final = b" \0"
_CACHE_LIMIT: Final = 4096
_MAX_MAJOR: Final = (1 << 12) - 1
_MAX_MINOR: Final = (1 << 20) - 1


def read_tar(
    stream: ReadInto | Read, *, recorder: Recorder | None = None, name: str = "tar stream"
) -> Iterator[tuple[Entry, Payload]]:
    """Yield each entry of an uncompressed tar stream with its payload, in the stream's order.

    The payload must be read, or left alone, before the next entry is asked for; what is left is
    passed over. The stream is read to its very end, past the end marks, so that a stream that checks
    its digest at the end does so. *name* is the stream's name in errors. Nothing is sorted or merged:
    the same path may come more than once, and whiteouts come as the files that they are.

    Raises :class:`BadInputError` for what is damaged, cut off or hostile, naming the entry.
    """
    source = Source(stream, name, recorder)
    reader = _Reader(source)
    while True:
        found = reader.next_entry()
        if found is None:
            break
        entry, size = found
        payload = Payload(source, size, entry.path)
        yield entry, payload
        if size:
            reader.finish(entry, payload)
    source.drain()


class _Reader:
    """Turns headers into entries; keeps what carries over from one header to the next."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._global = pax.Pax()
        self._numbers: dict[bytes, tuple[int, int, int]] = {}
        self._times: dict[bytes, int] = {}

    def next_entry(self) -> tuple[Entry, int] | None:
        """The next entry and its stored size; None at the end marks or the stream's end."""
        source = self._source
        recorder = source.recorder
        local: pax.Pax | None = None
        long_name = long_link = None
        while True:
            offset = source.base + source.pos
            block = source.block()
            if recorder is not None and block:
                recorder.raw(block)
            if len(block) < BLOCK or block == ZERO_BLOCK:
                self._end(block, offset, local is not None or long_name is not None or long_link is not None)
                return None
            fields = FIELDS.unpack(block)
            kind_byte = fields[5]
            path = b""
            try:
                if not checksum_matches(block, _octal(fields[4], 6)):
                    raise FieldError("its checksum is wrong")
                path = text(fields[0])
                size = _octal(fields[2], 11)
                if size < 0:
                    raise FieldError(f"a negative size ({size})")
                if kind_byte in (b"x", b"X"):
                    local = pax.parse(self._small(size, "an extended header"))
                elif kind_byte == b"g":
                    self._merge_global(pax.parse(self._small(size, "a global extended header")))
                elif kind_byte == b"L":
                    long_name = text(self._small(size, "a long name"))
                elif kind_byte == b"K":
                    long_link = text(self._small(size, "a long link name"))
                elif kind_byte == b"V":
                    self._skip(size, "a volume label")
                else:
                    return self._entry(
                        block, fields, path, size, self._with_global(local), long_name, long_link
                    )
            except FieldError as error:
                if not offset and not local and not valid_checksum(block):
                    raise BadInputError(f"{source.name}: this is not a tar archive ({error})") from None
                raise bad_entry(source.name, long_name or path, offset, str(error)) from None

    def _entry(
        self,
        block: bytes,
        fields: tuple[bytes, ...],
        path: bytes,
        size: int,
        records: pax.Pax,
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> tuple[Entry, int]:
        _, ids, _, when, _, kind_byte, link, magic, _, device, prefix, tail = fields
        kind = _KINDS.get(kind_byte)
        if kind is None:
            raise FieldError(f"an unknown type {kind_byte!r}")
        if prefix[0]:
            before = name_prefix(block, magic, prefix, tail)
            if before:
                path = before + b"/" + path
        link = text(link) if link[0] else b""
        mode, uid, gid = self._numbers.get(ids) or self._read_numbers(ids)
        mtime = self._times.get(when)
        if mtime is None:
            mtime = self._read_time(when)
        is_device = kind is Kind.CHAR or kind is Kind.BLOCK
        major, minor = (number(device[:8]), number(device[8:])) if is_device else (0, 0)
        if records is not _NO_PAX:
            plain = records.plain
            path = plain.get(b"path") or path
            link = plain.get(b"linkpath") or link
            size = pax.decimal_of(plain, b"size", "size", size)
            uid = pax.decimal_of(plain, b"uid", "owner", uid)
            gid = pax.decimal_of(plain, b"gid", "group", gid)
            if value := plain.get(b"mtime"):
                mtime = pax.nanoseconds(value)
            major = pax.decimal_of(plain, b"major", "device number", major)
            minor = pax.decimal_of(plain, b"minor", "device number", minor)
        path = path if long_name is None else long_name
        link = link if long_link is None else long_link
        if not 0 <= size <= MAX_SIZE:
            raise FieldError(f"a size of {size} bytes")
        if uid < 0 or gid < 0 or uid > MAX_ID or gid > MAX_ID:
            uid, gid = owner(uid, "owner"), owner(gid, "group")

        data = None
        real_size = size
        if kind is not Kind.FILE:
            self._skip_content(kind, kind_byte, size)
            real_size = size = 0
        elif kind_byte == b"S":
            real_size, data = old_gnu_map(self._source, block, size)
        elif records.sparse or records.pieces:
            path = records.sparse.get(b"name") or path
            real_size, data, size = pax_map(self._source, records, size)
        elif kind_byte == b"\0" and path.endswith(b"/"):
            kind = Kind.DIRECTORY  # the seventh edition's way
            real_size = size = 0
        shown, path = path, clean_path(path)
        if not path and kind is not Kind.DIRECTORY:
            raise FieldError(f"a {kind.words} in place of the root" if shown else "an empty name")
        target = _target(kind, link) if kind is Kind.SYMLINK or kind is Kind.HARDLINK else b""
        if not is_device:
            major = minor = 0
        elif not (0 <= major <= _MAX_MAJOR and 0 <= minor <= _MAX_MINOR):
            raise FieldError(f"a device number {major}:{minor} that Linux does not support")
        xattrs = dict(records.xattrs)
        return Entry(path, kind, mode, uid, gid, mtime, real_size, target, major, minor, xattrs, data), size

    def _read_numbers(self, ids: bytes) -> tuple[int, int, int]:
        """Mode, owner and group from their fields; most entries have those of others."""
        if len(self._numbers) >= _CACHE_LIMIT:
            self._numbers.clear()
        found = number(ids[:8]) & 0o7777, number(ids[8:16]), number(ids[16:])
        self._numbers[ids] = found
        return found

    def _read_time(self, when: bytes) -> int:
        """Nanoseconds from the field of the modification time."""
        if len(self._times) >= _CACHE_LIMIT:
            self._times.clear()
        self._times[when] = found = number(when) * 1_000_000_000
        return found

    def _skip_content(self, kind: Kind, kind_byte: bytes, size: int) -> None:
        """Pass over what an entry that is no file carries."""
        if kind_byte == b"D":
            self._skip(size, "a dump directory")
        elif kind is Kind.HARDLINK and size:
            self._skip_link_body(size)

    def finish(self, entry: Entry, payload: Payload) -> None:
        """Pass over what the consumer left of the payload, and its padding; record both."""
        source, recorder = self._source, self._source.recorder
        if payload.remaining:
            if recorder is not None and payload.remaining != payload.size:
                raise ValueError("a consumer took part of a payload that is being recorded")
            if source.skip(payload.remaining):
                raise truncated(source, f"inside the bytes of {entry.path.decode('utf-8', 'replace')!r}")
            payload.remaining = 0
        elif recorder is not None:
            pieces = [(0, entry.size)] if entry.data is None else entry.data
            recorder.payload(payload.stored_as, pieces, payload.crc)
        padding = -payload.size % BLOCK
        if padding:
            if recorder is None and source.end - source.pos >= padding:
                source.pos += padding
            else:
                source.skip(padding)  # what is missing at the very end of a stream does no harm

    def _end(self, block: bytes, offset: int, pending: bool) -> None:
        """Check that the stream may end with this block: two zero blocks, or nothing at all."""
        source = self._source
        if block and len(block) < BLOCK:
            raise truncated(source, "inside a header")
        if pending:
            raise truncated(source, "after an extended header whose entry is missing")
        if block:
            second = source.peek_block()
            if second and any(second):
                raise bad_entry(source.name, b"?", offset, "a zero block with something else after it")

    def _small(self, size: int, what: str) -> bytes:
        """The body of a long name or extended header."""
        if size > pax.PAX_LIMIT:
            raise FieldError(f"{what} of {size} bytes, more than {pax.PAX_LIMIT}")
        try:
            data = self._source.take(size)
        except EOFError:
            raise truncated(self._source, f"inside {what}") from None
        self._source.skip(-size % BLOCK)
        return data

    def _skip(self, size: int, what: str) -> None:
        if self._source.skip(size):
            raise truncated(self._source, f"inside {what}")
        self._source.skip(-size % BLOCK)

    def _skip_link_body(self, size: int) -> None:
        """Pass over a hard link's body if it has one.

        pax lets a hard link carry the file's bytes again; GNU tar and Go take no body whatever the size
        says. If a header or the end follows at once, there is none.
        """
        following = self._source.peek_block()
        if len(following) == BLOCK and any(following) and not valid_checksum(following):
            self._skip(size, "a hard link's body")

    def _merge_global(self, records: pax.Pax) -> None:
        for key, value in records.plain.items():
            if value:
                self._global.plain[key] = value
            else:
                self._global.plain.pop(key, None)
        self._global.xattrs.update(records.xattrs)
        if len(self._global.xattrs) > _CACHE_LIMIT:
            raise FieldError(f"more than {_CACHE_LIMIT} global extended attributes")

    def _with_global(self, local: pax.Pax | None) -> pax.Pax:
        """The records that hold for one entry: the global ones, overridden by its own."""
        if not self._global.plain and not self._global.xattrs:
            return _NO_PAX if local is None else local
        local = local or _NO_PAX
        return pax.Pax(
            {**self._global.plain, **local.plain},
            {**self._global.xattrs, **local.xattrs},
            local.sparse,
            local.pieces,
        )


def _target(kind: Kind, link: bytes) -> bytes:
    """The target of a hard or symbolic link, checked."""
    if kind is Kind.HARDLINK:
        target = clean_path(link, "its target")
        if not target:
            raise FieldError("a hard link to nothing")
        return target
    if not link or len(link) > PATH_LIMIT:
        raise FieldError(f"a symbolic link whose target has {len(link)} bytes")
    return link


def _octal(field: bytes, digits: int) -> int:
    """A number as nearly all programs write it, *digits* octal ones and an end; or in any other form."""
    head = field[:digits]
    if head.isdigit() and field[digits] in _ENDS:
        try:
            return int(head, 8)
        except ValueError:
            pass
    return number(field)
