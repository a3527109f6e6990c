# SPDX-License-Identifier: Apache-2.0
"""What one name in a file tree is: the value that tar streams and file systems exchange."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lamella.errors import BadInputError
from lamella.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME_LIMIT = 255
"""Most bytes in one component of a path (ext4's and Linux's NAME_MAX)."""
PATH_LIMIT = 4095
"""Most bytes in a whole path or a symlink's target (Linux's PATH_MAX without its NUL)."""
XATTR_NAME_LIMIT = 255
"""Most bytes in an extended attribute's full name (Linux's XATTR_NAME_MAX)."""
XATTR_VALUE_LIMIT = 65536
"""Most bytes in an extended attribute's value (Linux's XATTR_SIZE_MAX)."""


class Kind(StrEnum):
    """What a name stands for, which is also a text; HARDLINK is a further name of a file met earlier."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    CHAR = "char"
    BLOCK = "block"
    FIFO = "fifo"
    SOCKET = "socket"

    @property
    def words(self) -> str:
        """It in a sentence."""
        return _WORDS.get(self, self.value)


_WORDS = {Kind.HARDLINK: "hard link", Kind.CHAR: "character device", Kind.BLOCK: "block device"}


KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}
"""What the type bits of a mode stand for."""
TYPE_BITS: Final = {kind: bits for bits, kind in KINDS.items()}


@dataclass(slots=True)
class Entry:
    """One name with everything that belongs to it except a file's bytes."""

    path: bytes
    """Relative to the root and normalised: no outer slash, no ``.`` or ``..``; ``b""`` is the root."""
    kind: Kind
    mode: int = 0
    """Permission bits with setuid, setgid and sticky (0o7777); never the file type."""
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    """Nanoseconds since 1970, negative before."""
    size: int = 0
    """Bytes of a FILE, holes included; 0 for every other kind."""
    target: bytes = b""
    """A symlink's text as it is, or a hard link's *path* (normalised as ``path``)."""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    """Full names (``b"security.capability"``); ACLs in the form of the kernel's xattr interface."""
    data: list[tuple[int, int]] | None = None
    """A sparse file's stored pieces as (offset, length), in order; None: all of it."""

    @property
    def stored(self) -> int:
        """Bytes that a payload of this entry carries: the sum of its pieces."""
        return self.size if self.data is None else sum(length for _, length in self.data)


def show(path: bytes) -> str:
    """A path as an error message prints it: printable, whatever its bytes are; the root is ``/``."""
    return printable(path.decode("utf-8", "backslashreplace")) or "/"


def stored_pieces(entry: Entry) -> Iterator[tuple[int, int]]:
    """The pieces of a sparse file, as its ``data`` has them.

    Raises :class:`BadInputError` for pieces that overlap, are out of order or reach past the file's end.
    """
    reached = 0
    for offset, length in entry.data or ():
        if offset < reached or offset + length > entry.size:
            raise BadInputError(
                f"the sparse file {show(entry.path)} has an impossible piece of {length} bytes at {offset}",
                hint="the archive is damaged",
            )
        yield offset, length
        reached = offset + length
