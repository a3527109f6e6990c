# SPDX-License-Identifier: Apache-2.0
"""pax extended header records (POSIX.1-2001), and what star, GNU tar and bsdtar keep in them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from lamella.block.ranges import merged
from lamella.fs import acl
from lamella.fs.entry import XATTR_NAME_LIMIT, XATTR_VALUE_LIMIT
from lamella.fs.tar.header import FieldError

PAX_LIMIT: Final = 1 << 20
"""Most bytes in one extended header or long name; Go's ``archive/tar`` has the same limit."""
SPARSE_LIMIT: Final = 1 << 16
"""Most pieces in a sparse file's map."""

_DECIMAL: Final = re.compile(rb"(-?)(\d{1,19})(?:\.(\d*))?\Z")
_XATTR: Final = b"SCHILY.xattr."
_XATTR_BASE64: Final = b"LIBARCHIVE.xattr."
_PLAIN: Final = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"))
_DEVICE: Final = {b"SCHILY.devmajor": b"major", b"SCHILY.devminor": b"minor"}
_ACLS: Final = {b"SCHILY.acl.access": acl.ACCESS, b"SCHILY.acl.default": acl.DEFAULT}


@dataclass(slots=True)
class Pax:
    """What the records of one extended header say that matters here."""

    plain: dict[bytes, bytes] = field(default_factory=dict)
    """path, linkpath, size, uid, gid, mtime, major, minor as written; b"" takes a global one back."""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    sparse: dict[bytes, bytes] = field(default_factory=dict)
    """GNU.sparse.* without that prefix."""
    pieces: list[bytes] = field(default_factory=list)
    """GNU.sparse.offset and .numbytes of format 0.0, in the order written."""


def parse(data: bytes) -> Pax:
    """Read the records ``LENGTH KEY=VALUE\\n`` of an extended header. Raises :class:`FieldError`."""
    pax = Pax()
    encoded: dict[bytes, bytes] = {}
    at, end = 0, len(data)
    while at < end:
        blank = data.find(b" ", at, at + 9)
        digits = data[at:blank] if blank > at else b""
        if not digits.isdigit():
            if not data[at:].strip(b"\0"):
                break  # some writers count the padding into the size
            raise FieldError("an extended header record without a length")
        length = int(digits)
        last = at + length - 1
        if length < 5 or last >= end or last <= blank or data[last] != 0x0A:
            raise FieldError(f"an extended header record whose length {length} is wrong")
        equals = data.find(b"=", blank + 1, last)
        if equals <= blank + 1:
            raise FieldError("an extended header record without a key")
        key, value = data[blank + 1 : equals], data[equals + 1 : last]
        at = last + 1
        if key in _PLAIN:
            if b"\0" in value:
                raise FieldError(f"a NUL in the extended header's {key.decode()}")
            pax.plain[key] = value
        elif key.startswith(_XATTR):
            _add_xattr(pax.xattrs, key[len(_XATTR) :], value)
        elif key.startswith(_XATTR_BASE64):
            try:
                plain = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except binascii.Error:
                raise FieldError("an extended attribute that is not base64") from None
            _add_xattr(encoded, unquote_to_bytes(key[len(_XATTR_BASE64) :]), plain)
        elif key.startswith(b"GNU.sparse."):
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                pax.pieces.append(value)
            else:
                pax.sparse[key[11:]] = value
        elif key in _ACLS:
            value_or_none = acl.from_text(value)
            if value_or_none is not None:
                encoded.setdefault(_ACLS[key], value_or_none)
        elif key == b"RHT.security.selinux":
            encoded.setdefault(b"security.selinux", value.rstrip(b"\0") + b"\0")
        elif key in _DEVICE:
            pax.plain[_DEVICE[key]] = value
    for name, plain in encoded.items():
        pax.xattrs.setdefault(name, plain)
    return pax


def _add_xattr(xattrs: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    if not name or len(name) > XATTR_NAME_LIMIT or b"\0" in name:
        raise FieldError(f"an extended attribute's name of {len(name)} bytes, or with a NUL in it")
    if len(value) > XATTR_VALUE_LIMIT:
        raise FieldError(f"an extended attribute of {len(value)} bytes, more than {XATTR_VALUE_LIMIT}")
    xattrs[name] = value


def decimal(value: bytes, what: str) -> int:
    """A whole number as pax writes it (``size``, ``uid``)."""
    found = _DECIMAL.match(value)
    if not found or found[3]:
        raise FieldError(f"the extended header's {what} {value[:40]!r} is not a number")
    return int(found[1] + found[2])


def decimal_of(plain: dict[bytes, bytes], key: bytes, what: str, default: int) -> int:
    """The whole number that a record has, or *default* without one."""
    value = plain.get(key)
    return decimal(value, what) if value else default


def nanoseconds(value: bytes) -> int:
    """A time as pax writes it, ``-12.000000001``: nanoseconds, further digits cut off."""
    found = _DECIMAL.match(value)
    if not found:
        raise FieldError(f"the extended header's time {value[:40]!r} is not a number")
    total = int(found[2]) * 1_000_000_000 + int((found[3] or b"")[:9].ljust(9, b"0"))
    return -total if found[1] else total


def sparse_map(numbers: list[int], size: int, stored: int) -> list[tuple[int, int]] | None:
    """Check a map of (offset, length) pairs of a file of *size* bytes that carries *stored*.

    Pieces must be in order and inside the file, and carry exactly what is stored; empty ones are
    dropped and touching ones merged. None means that nothing is a hole.
    """
    if len(numbers) % 2:
        raise FieldError("a sparse map with an odd number of fields")
    if len(numbers) > 2 * SPARSE_LIMIT:
        raise FieldError(f"a sparse map of more than {SPARSE_LIMIT} pieces")
    pieces: list[tuple[int, int]] = []
    position = total = 0
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        if offset < position or length < 0 or offset + length > size:
            raise FieldError(f"a sparse map with a piece out of place (byte {offset}, {length} bytes)")
        if length:
            pieces.append((offset, length))
        position = offset + length
        total += length
    if total != stored:
        raise FieldError(f"a sparse map of {total} bytes for a payload of {stored}")
    pieces = list(merged(pieces))
    return None if pieces == [(0, size)] or not size else pieces
