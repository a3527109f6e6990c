# SPDX-License-Identifier: Apache-2.0
"""Where each member of an image archive lies, found by reading its headers only.

An archive may hold gigabytes of layers in any order, with its manifest last; so the headers are
walked once, and each member is then read from its place. Formats: POSIX.1-2001 ustar and pax, and
GNU's long names and base-256 numbers (GNU tar manual, "Basic Tar Format").
"""

from __future__ import annotations

from dataclasses import dataclass

from lamella.errors import BadInputError
from lamella.images.content import FilePiece, OpenFile

BLOCK = 512
MEMBER_LIMIT = 200_000
"""Most members of an archive: Docker writes about three for each layer."""
EXTENSION_LIMIT = 1 << 20
"""Most bytes of a long name or a pax header."""
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
        raise BadInputError(f"{self.what}: the links from {name[:200]!r} lead nowhere")

    def _bad(self, offset: int, why: str) -> BadInputError:
        if offset == 0 and not self.members:
            return BadInputError(
                f"{self.what} is not an image archive: it is no tar",
                hint="give the output of `docker save`, an OCI archive, or an OCI layout folder",
            )
        return BadInputError(f"{self.what} is not a good tar archive: {why} at byte {offset}")

    def _read(self) -> None:
        offset = 0
        pax: dict[str, str] = {}
        everywhere: dict[str, str] = {}
        long_name = long_link = ""
        count = 0
        while offset < self.file.size:
            header = self.file.read_at(offset, BLOCK)
            if len(header) < BLOCK:
                raise self._bad(offset, "it is truncated in a header")
            if not any(header):
                return
            self._check_header(header, offset)
            count += 1
            if count > MEMBER_LIMIT:
                raise BadInputError(f"{self.what} has more than {MEMBER_LIMIT} members")
            kind = header[156:157]
            size = self._number(header[124:136], offset)
            data = offset + BLOCK
            if kind in b"gxLK":
                extension = self._extension(data, size)
                if kind == b"x":
                    pax = self._pax(extension, offset)
                elif kind == b"g":
                    everywhere |= self._pax(extension, offset)
                elif kind == b"L":
                    long_name = _text(extension)
                else:
                    long_link = _text(extension)
                offset = data + -(-size // BLOCK) * BLOCK
                continue
            extended = everywhere | pax
            name = extended.get("path") or long_name or _header_name(header)
            link = extended.get("linkpath") or long_link or _text(header[157:257])
            if any(key.startswith("GNU.sparse.") for key in extended) or kind == b"S":
                raise self._bad(offset, f"the sparse member {name[:200]!r}, which no image archive has,")
            if "size" in extended:
                if not extended["size"].isdecimal() or len(extended["size"]) > 18:
                    raise self._bad(offset, "a size that is no number")
                size = int(extended["size"])
            if kind in b"12345" and kind:
                size = 0
            if data + size > self.file.size:
                raise BadInputError(
                    f"{self.what} is truncated: {name[:200]!r} should have {size} bytes, "
                    f"{max(0, self.file.size - data)} are there"
                )
            self._add(name, link, kind, data, size)
            pax, long_name, long_link = {}, "", ""
            offset = data + -(-size // BLOCK) * BLOCK

    def _add(self, name: str, link: str, kind: bytes, data: int, size: int) -> None:
        clean = self._normal(name)
        if kind in _REGULAR and not name.endswith("/"):
            member = Member(data, size)
        elif kind == b"1":
            member = Member(0, 0, self._normal(link))
        elif kind == b"2":
            if link.startswith("/"):
                raise BadInputError(f"{self.what}: the link {name[:200]!r} leads out of the archive")
            member = Member(0, 0, self._normal(clean.rpartition("/")[0] + "/" + link, followed=True))
        else:
            return  # directories and devices are nothing to us
        if clean in self.members and clean in _METADATA:
            raise BadInputError(f"{self.what} has two members called {clean}")
        self.members[clean] = member  # the last one counts, as if it were unpacked

    def _normal(self, name: str, *, followed: bool = False) -> str:
        """*name* without ``.`` and empty parts; ``..`` only in links (*followed*), and not past the top."""
        parts: list[str] = []
        for part in name.split("/"):
            if part == "..":
                if not followed or not parts:
                    raise BadInputError(f"{self.what}: the name {name[:200]!r} leads out of the archive")
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts)

    def _check_header(self, header: bytes, offset: int) -> None:
        stored = self._number(header[148:156], offset)
        unsigned = sum(header) - sum(header[148:156]) + 8 * 0x20
        if stored != unsigned:
            # Some old programs added the bytes up as signed ones.
            signed = unsigned - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
            if stored != signed:
                raise self._bad(offset, "a header with a wrong checksum")

    def _number(self, field: bytes, offset: int) -> int:
        if field[0] & 0x80:
            if field[0] not in (0x80,):
                raise self._bad(offset, "a negative or absurd number")
            return int.from_bytes(field[1:], "big")
        digits = field.strip(b"\0 ")
        if not digits:
            return 0
        if digits.strip(b"01234567"):
            raise self._bad(offset, "a number that is not octal")
        return int(digits, 8)

    def _extension(self, offset: int, size: int) -> bytes:
        if size > EXTENSION_LIMIT:
            raise self._bad(offset, f"an extended header of {size} bytes")
        data = self.file.read_at(offset, size)
        if len(data) < size:
            raise self._bad(offset, "it is truncated in an extended header")
        return data

    def _pax(self, data: bytes, offset: int) -> dict[str, str]:
        """Records ``LENGTH KEY=VALUE\\n``; the length counts the whole record."""
        found: dict[str, str] = {}
        place = 0
        while place < len(data):
            space = data.find(b" ", place, place + 20)
            digits = data[place:space] if space > 0 else b""
            length = int(digits) if digits.isdigit() else 0
            record = data[space + 1 : place + length]
            key, equals, value = record.partition(b"=")
            if length < 5 or place + length > len(data) or not equals or record[-1:] != b"\n":
                raise self._bad(offset, "a malformed extended header")
            found[_text(key)] = _text(value[:-1])
            place += length
        return found


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _header_name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name
