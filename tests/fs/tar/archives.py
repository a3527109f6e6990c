# SPDX-License-Identifier: Apache-2.0
"""Tar archives made by hand, header by header."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from lamella.fs.tar.read import read_tar

if TYPE_CHECKING:
    from lamella.fs.entry import Entry


def header(
    name: bytes = b"file",
    kind: bytes = b"0",
    size: bytes | int = 0,
    *,
    link: bytes = b"",
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    magic: bytes = b"ustar\x0000",
    device: bytes = b"0000000\x000000000\0",
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """A header block made by hand."""
    if isinstance(size, bytes):
        number = size
    else:
        number = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    block = b"".join(
        (
            name.ljust(100, b"\0"), mode, uid, b"0000000\0", number, mtime, b" " * 8, kind,
            link.ljust(100, b"\0"), magic, bytes(64), device, prefix.ljust(167, b"\0"),
        )
    )  # fmt: skip
    assert len(block) == 512
    return block[:148] + (checksum or b"%06o\0 " % sum(block)) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 4
    while len(b"%d %s=%s\n" % (length, key, value)) != length:
        length = len(b"%d %s=%s\n" % (length, key, value))
    return b"%d %s=%s\n" % (length, key, value)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    body = b"".join(record(*pair) for pair in records)
    return header(b"PaxHeaders/x", kind, len(body)) + padded(body)


END = bytes(1024)


def parse(data: bytes) -> list[tuple[Entry, bytes]]:
    return [(entry, payload.read()) for entry, payload in read_tar(io.BytesIO(data))]


def one(data: bytes) -> Entry:
    [(entry, _)] = parse(data)
    return entry


GNU_FORMATS = {
    "gnu": (["--format=gnu"], False, False),
    "oldgnu": (["--format=oldgnu"], False, False),
    "posix": (["--format=posix"], True, False),
    "posix with attributes": (["--format=posix", "--xattrs", "--xattrs-include=*", "--acls"], True, True),
    "gnu sparse": (["--format=gnu", "--sparse"], False, False),
    "pax sparse 0.0": (["--format=posix", "--sparse", "--sparse-version=0.0"], True, False),
    "pax sparse 0.1": (["--format=posix", "--sparse", "--sparse-version=0.1"], True, False),
    "pax sparse 1.0": (["--format=posix", "--sparse", "--sparse-version=1.0"], True, False),
    "absolute names": (["--format=gnu", "-P", "--transform=s,^[.],/,S"], False, False),
}
