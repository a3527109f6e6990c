# SPDX-License-Identifier: Apache-2.0
"""Where each member of an image archive lies, found by reading its headers only.

An archive may hold gigabytes of layers in any order, with its manifest last; so the headers are
walked once, and each member is then read from its place. Headers are parsed as those of layers are
(:mod:`lamella.fs.tar.header`, :mod:`lamella.fs.tar.pax`).
"""

from __future__ import annotations

from dataclasses import dataclass

from lamella.errors import BadInputError
from lamella.fs.tar import pax
from lamella.fs.tar.header import (
    BLOCK,
    FIELDS,
    ZERO_BLOCK,
    FieldError,
    name_prefix,
    number,
    text,
    valid_checksum,
)
from lamella.images.content import FilePiece, OpenFile

MEMBER_LIMIT = 200_000
"""Most members of an archive: Docker writes about three for each layer."""
LINK_LIMIT = 10

_REGULAR = (b"0", b"\0", b"7")
_METADATA = ("manifest.json", "index.json", "oci-layout", "repositories")


@dataclass(slots=True)
class Member:
    """A member: a file has its place and size in bytes, a link the (normal) name it leads to."""

    offset: int
    size: int
    link: str | None = None


class TarIndex:
    """The members of a tar by their names; ``./`` and leading slashes are dropped, ``..`` is refused."""

    def __init__(self, file: OpenFile, what: str) -> None:
        self.file = file
        self.what = what
        self.members: dict[str, Member] = {}
        self._read()

    def __contains__(self, name: str) -> bool:
        return self._resolve(name) is not None

    def piece(self, name: str, what: str = "") -> FilePiece | None:
        """The file *name*, through links inside the archive; None if it is not there."""
        member = self._resolve(name)
        if member is None:
            return None
        return FilePiece(self.file, what or f"{name} in {self.what}", member.offset, member.size)

    def _resolve(self, name: str) -> Member | None:
        for _ in range(LINK_LIMIT):
            member = self.members.get(name)
            if member is None or member.link is None:
                return member
            name = member.link
        raise BadInputError(f"{self.what}: the links from {name[:200]!r} cannot be resolved")

    def _bad(self, offset: int, why: str) -> BadInputError:
        if offset == 0 and not self.members:
            return BadInputError(
                f"{self.what} is not an image archive: it is not a tar",
                hint="give the output of `docker save`, an OCI archive, or an OCI layout folder",
            )
        return BadInputError(f"{self.what} is not a valid tar archive: {why} at byte {offset}")

    def _read(self) -> None:
        offset = count = 0
        records, everywhere = pax.Pax(), pax.Pax()
        long_names: dict[bytes, bytes] = {}
        while offset < self.file.size:
            header = self.file.read_at(offset, BLOCK)
            if len(header) < BLOCK:
                raise self._bad(offset, "it is truncated in a header")
            if header == ZERO_BLOCK:
                return
            try:
                if not valid_checksum(header):
                    raise FieldError("a header with a wrong checksum")
                count += 1
                if count > MEMBER_LIMIT:
                    raise BadInputError(f"{self.what} has more than {MEMBER_LIMIT} members")
                kind, size = header[156:157], number(header[124:136])
                if kind == b"x":
                    records = pax.parse(self._extension(offset, size))
                elif kind == b"g":
                    found = pax.parse(self._extension(offset, size))
                    everywhere.plain |= found.plain
                    everywhere.sparse |= found.sparse
                elif kind in (b"L", b"K"):
                    key = b"path" if kind == b"L" else b"linkpath"
                    long_names[key] = text(self._extension(offset, size))
                else:
                    sparse = everywhere.sparse or records.sparse or records.pieces or kind == b"S"
                    plain = long_names | everywhere.plain | records.plain
                    size = self._read_member(header, offset, size, plain, sparse=bool(sparse))
                    records, long_names = pax.Pax(), {}
            except FieldError as error:
                raise self._bad(offset, str(error)) from None
            offset += BLOCK + -(-size // BLOCK) * BLOCK

    def _read_member(
        self, header: bytes, offset: int, size: int, plain: dict[bytes, bytes], *, sparse: bool
    ) -> int:
        """Take in the member with this header, which *plain* overrides; returns the size of its data."""
        path, _, _, _, _, kind, link, magic, _, _, prefix, tail = FIELDS.unpack(header)
        before = name_prefix(header, magic, prefix, tail)
        path = plain.get(b"path") or (before + b"/" + text(path) if before else text(path))
        name = path.decode("utf-8", "surrogateescape")
        if sparse:
            raise FieldError(f"the sparse member {name[:200]!r}, which no image archive has,")
        if value := plain.get(b"size"):
            size = pax.decimal(value, "size")
        if size < 0:
            raise FieldError(f"a negative size ({size})")
        if kind in b"12345":
            size = 0
        if offset + BLOCK + size > self.file.size:
            raise BadInputError(
                f"{self.what} is truncated: {name[:200]!r} should have {size} bytes, "
                f"{max(0, self.file.size - offset - BLOCK)} are there"
            )
        target = (plain.get(b"linkpath") or text(link)).decode("utf-8", "surrogateescape")
        self._add(name, target, kind, offset + BLOCK, size)
        return size

    def _add(self, name: str, link: str, kind: bytes, data: int, size: int) -> None:
        clean = self._normal(name)
        if kind in _REGULAR and not name.endswith("/"):
            member = Member(data, size)
        elif kind == b"1":
            member = Member(0, 0, self._normal(link))
        elif kind == b"2":
            if link.startswith("/"):
                raise BadInputError(f"{self.what}: the link {name[:200]!r} points outside the archive")
            member = Member(0, 0, self._normal(clean.rpartition("/")[0] + "/" + link, followed=True))
        else:
            return  # no image archive needs directories or devices
        if clean in self.members and clean in _METADATA:
            raise BadInputError(f"{self.what} has two members called {clean}")
        self.members[clean] = member  # the last one counts, as if it were unpacked

    def _normal(self, name: str, *, followed: bool = False) -> str:
        """*name* without ``.`` and empty parts; ``..`` only in links (*followed*), and not past the top."""
        parts: list[str] = []
        for part in name.split("/"):
            if part == "..":
                if not followed or not parts:
                    raise BadInputError(f"{self.what}: the name {name[:200]!r} points outside the archive")
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts)

    def _extension(self, offset: int, size: int) -> bytes:
        """The body of a long name or extended header whose own header is at *offset*."""
        if not 0 <= size <= pax.PAX_LIMIT:
            raise FieldError(f"an extended header of {size} bytes")
        data = self.file.read_at(offset + BLOCK, size)
        if len(data) < size:
            raise self._bad(offset, "it is truncated in an extended header")
        return data
