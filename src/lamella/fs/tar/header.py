# SPDX-License-Identifier: Apache-2.0
"""One 512-byte tar header block: its fields, numbers and checksum, and the rules for names.

:mod:`lamella.fs.tar.read` reads an archive with it, :mod:`lamella.fs.tar.write` writes one.

The layouts are those of POSIX.1-1988 ustar (pax(1), "ustar Interchange Format"), of GNU tar ("Basic
Tar Format" in its manual), of star and of the seventh edition's tar, which has no magic.
Where real programs disagree, Go's ``archive/tar`` decides, because Docker, containerd and umoci
read layers with it.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Final

from lamella.errors import BadInputError
from lamella.fs.entry import NAME_LIMIT, PATH_LIMIT, show

BLOCK: Final = 512
ZERO_BLOCK: Final = bytes(BLOCK)

FIELDS: Final = Struct("100s24s12s12s8sc100s8s64s16s155s12s")
"""name, mode + uid + gid (8 each), size, mtime, checksum, type, link name, magic + version, user and
group names, device major + minor (8 each), prefix, padding."""

USTAR: Final = b"ustar\x0000"
GNU: Final = b"ustar  \0"

MAX_ID: Final = (1 << 32) - 2
"""The largest owner or group: 2**32 - 1 means "no change" to chown(2) and owns nothing."""
MAX_SIZE: Final = (1 << 63) - 1


class FieldError(ValueError):
    """A field that cannot be read; the caller adds which entry it belongs to."""


def number(field: bytes) -> int:
    """A numeric field: octal digits among blanks and NULs, or base-256 if its top bit is set.

    An empty field is 0. Raises :class:`FieldError`.
    """
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value
    text = field.strip(b" \0")
    if not text:
        return 0
    end = text.find(b"\0")
    if end >= 0:
        text = text[:end]
    try:
        if not text.isdigit():
            raise ValueError
        return int(text, 8)
    except ValueError:
        raise FieldError(f"{field!r} is not an octal number") from None


def checksum_matches(block: bytes, stored: int) -> bool:
    """Whether *stored* is the sum of the block's bytes with the checksum field taken as blanks.

    Old programs summed signed bytes; that sum is accepted too.
    """
    # adler32's low half is 1 plus the sum of the bytes, modulo 65521: far faster than adding them up here.
    fast = (zlib.adler32(block[156:], zlib.adler32(block[:148])) + 255) & 0xFFFF
    if fast == stored and stored < 65521:
        return True
    rest = block[:148] + block[156:]
    unsigned = sum(rest) + 8 * 32
    return stored in (unsigned, unsigned - 256 * sum(byte >= 128 for byte in rest))


def valid_checksum(block: bytes) -> bool:
    """Whether the block is a header with a right checksum."""
    try:
        return checksum_matches(block, number(block[148:156]))
    except FieldError:
        return False


def text(field: bytes) -> bytes:
    """A field's text up to its first NUL, or all of it."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def name_prefix(block: bytes, magic: bytes, prefix: bytes, tail: bytes) -> bytes:
    """What goes before the name, which only POSIX headers have: b"" for GNU and old ones.

    star keeps two times after a shorter prefix. Go before 1.8 wrote a prefix under GNU's magic when a
    number needed base-256; such layers exist, and are told by times that are not numbers.
    """
    if magic == USTAR:
        if tail[-4:] == b"tar\0":
            prefix = prefix[:131]
        return text(prefix)
    if magic == GNU and prefix[0] and block[156:157] != b"S":
        try:
            number(prefix[:12])
            number(prefix[12:24])
        except FieldError:
            found = text(prefix)
            return found if found.isascii() else b""
    return b""


def owner(value: int, what: str) -> int:
    """An owner or group as 32 bits; small negative ones (-2, "nobody") wrap as chown(2) wraps them."""
    if -(1 << 31) <= value < -1:
        return value + (1 << 32)
    if not 0 <= value <= MAX_ID:
        raise FieldError(f"{what} {value} is out of range")
    return value


def clean_path(path: bytes, what: str = "the path") -> bytes:
    """The path relative to the root: ``./`` and leading slashes dropped, ``a/../b`` made ``b``.

    That is what Docker, containerd and umoci make of it. What would lead out of the root, and what no
    Linux file system can hold, raises :class:`FieldError`.
    """
    if path[:2] == b"./":
        path = path[2:]
    if path[-1:] == b"/":
        path = path.rstrip(b"/")
    if b"//" in path or b"/." in path or path[:1] in (b"/", b"."):
        parts: list[bytes] = []
        for part in path.split(b"/"):
            if part == b"..":
                if not parts:
                    raise FieldError(f"{what} points outside the root")
                parts.pop()
            elif part not in (b"", b"."):
                parts.append(part)
        path = b"/".join(parts)
    if len(path) > NAME_LIMIT:
        if len(path) > PATH_LIMIT:
            raise FieldError(f"{what} has {len(path)} bytes, more than {PATH_LIMIT}")
        longest = max(map(len, path.split(b"/")))
        if longest > NAME_LIMIT:
            raise FieldError(f"{what} has a name of {longest} bytes, more than {NAME_LIMIT}")
    return path


def bad_entry(stream: str, path: bytes, offset: int, reason: str) -> BadInputError:
    """The error for an entry that cannot be accepted."""
    return BadInputError(
        f"{stream}: entry {show(path)!r} (header at byte {offset}): {reason}",
        hint="the archive is damaged or was made to do harm; get it again from its source",
    )
