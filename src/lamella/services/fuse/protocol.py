# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of the kernel's FUSE protocol, as bytes and as values. No system calls.

Numbers and structures are those of ``linux/fuse.h``, protocol 7.32 (Linux 5.10) and later; all fields are in
the machine's own byte order. A request is ``fuse_in_header``, the operation's own structure, and names
or data; an answer is ``fuse_out_header`` and the operation's own structure or data.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from lamella.errors import BadInputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

MAJOR, MINOR = 7, 38
"""The version that is spoken; what later ones add is optional."""
OLDEST_MINOR = 31
"""Linux 5.4 and later."""
ROOT_ID = 1
DEV_IOC_CLONE = 0x8004E500
PAGE = 4096
MAX_PAGES = 256
"""Pages of a request that the kernel allows unless ``fs.fuse.max_pages_limit`` says more."""
_DEFAULT_PAGES = 32
"""Where the kernel has no ``FUSE_MAX_PAGES``."""


class Opcode(IntEnum):
    """``enum fuse_opcode``: the operations that are answered."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46


class InitFlag(IntFlag):
    """``FUSE_*`` flags of INIT that are asked for where the kernel offers them."""

    ASYNC_READ = 1 << 0
    BIG_WRITES = 1 << 5
    ASYNC_DIO = 1 << 15
    """A direct request of several pieces is sent as several FUSE requests at once."""
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    HANDLE_KILLPRIV_V2 = 1 << 28
    """Setuid bits are ours to clear. No file has any; so the kernel asks nothing before each write."""


_WANTED = (
    InitFlag.ASYNC_READ
    | InitFlag.BIG_WRITES
    | InitFlag.ASYNC_DIO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.HANDLE_KILLPRIV_V2
)

_FATTR_MODE_AND_OWNERS = 0b111
_FATTR_SIZE = 1 << 3
FOPEN_DIRECT_IO = 1 << 0
FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6
NOTIFY_INVAL_INODE = 2
FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_ZERO_RANGE = 0x10

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""struct fuse_in_header: length, opcode, unique, node, uid, gid, pid, length of extensions, padding."""
OUT_HEADER = struct.Struct("=IiQ")
"""struct fuse_out_header: length, negative error, unique."""
TRANSFER = struct.Struct("=IIQQ16xQQI20x")
"""A READ or a WRITE: of the header length, opcode, unique, node; of struct fuse_read_in and fuse_write_in,
which are alike, handle, offset and size. Of any other request the first four fields hold."""
HEAD = TRANSFER.size
"""Bytes before the data of a WRITE."""
WRITE_OUT = struct.Struct("=IiQII")
"""struct fuse_out_header, and struct fuse_write_out: size, padding."""
_INIT_IN = struct.Struct("=4I")
_INIT_OUT = struct.Struct("=4IHHIIHHI28x")
_ATTRIBUTES = struct.Struct("=6Q10I")
_ENTRY_OUT = struct.Struct("=4QII")
_ATTR_OUT = struct.Struct("=QII")
_OPEN_IN = struct.Struct("=II")
_OPEN_OUT = struct.Struct("=QII")
_RELEASE_IN = struct.Struct("=QIIQ")
_SETATTR_IN = struct.Struct("=IIQQ")
_FALLOCATE_IN = struct.Struct("=QQQII")
_LSEEK_IN = struct.Struct("=QQII")
_LSEEK_OUT = struct.Struct("=Q")
_STATFS_OUT = struct.Struct("=5QIIII24x")
_DIRENT = struct.Struct("=QQII")
_INVAL_INODE = struct.Struct("=Qqq")


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the thread *pid*, and *body*: what follows its header."""

    opcode: int
    unique: int
    node: int
    pid: int
    body: memoryview

    @classmethod
    def parse(cls, data: Buffer) -> Request:
        """Raises :class:`BadInputError` where it has not the length that it says."""
        view = memoryview(data)
        if len(view) < IN_HEADER.size:
            raise BadInputError(f"a FUSE request of {len(view)} bytes has no whole header")
        length, opcode, unique, node, _, _, pid, extensions, _ = IN_HEADER.unpack_from(view)
        end = length - 8 * extensions
        if length != len(view) or end < IN_HEADER.size:
            raise BadInputError(f"a FUSE request of {len(view)} bytes says that it has {length}")
        return cls(opcode, unique, node, pid, view[IN_HEADER.size : end])

    def fields(self, structure: struct.Struct) -> tuple[int, ...]:
        """The operation's structure. Raises :class:`BadInputError` where it is not whole."""
        if len(self.body) < structure.size:
            raise BadInputError(f"FUSE operation {self.opcode} has only {len(self.body)} bytes")
        return structure.unpack_from(self.body)

    def name(self) -> bytes:
        """The name that a LOOKUP asks for."""
        text, end, _ = bytes(self.body).partition(b"\0")
        if not end:
            raise BadInputError(f"the name in FUSE operation {self.opcode} has no end")
        return text


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the kernel and we have agreed on. *max_write* in bytes, also the most that one READ asks for."""

    minor: int
    flags: InitFlag
    max_write: int


def agree(request: Request, background: int) -> tuple[Agreed | None, bytes]:
    """The answer to INIT. *background*: asynchronous requests that the kernel may have open at once.

    The agreement is None where the kernel has a newer major version: it then asks again, in ours. Raises
    :class:`UnsupportedError` for a kernel that is too old.
    """
    major, minor, readahead, offered = request.fields(_INIT_IN)
    if major > MAJOR:
        return None, _INIT_OUT.pack(MAJOR, MINOR, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    if (major, minor) < (MAJOR, OLDEST_MINOR):
        raise UnsupportedError(
            f"the kernel's FUSE protocol {major}.{minor} is too old", hint="use Linux 5.10 or later"
        )
    flags = InitFlag(offered) & _WANTED
    pages = MAX_PAGES if InitFlag.MAX_PAGES in flags else _DEFAULT_PAGES
    agreed = Agreed(min(minor, MINOR), flags, pages * PAGE)
    return agreed, _INIT_OUT.pack(
        MAJOR, agreed.minor, readahead, int(flags), background, background * 3 // 4, agreed.max_write, 1,
        pages, 0, 0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attributes:
    """struct fuse_attr, as far as files here differ. *size* and *allocated* in bytes, *changed* in
    nanoseconds since 1970."""

    node: int
    mode: int
    size: int = 0
    allocated: int = 0
    changed: int = 0

    def pack(self) -> bytes:
        """As the kernel reads it."""
        seconds, nanoseconds = divmod(self.changed, 1_000_000_000)
        links = 2 if stat.S_ISDIR(self.mode) else 1
        return _ATTRIBUTES.pack(
            self.node, self.size, -(-self.allocated // 512), seconds, seconds, seconds,
            nanoseconds, nanoseconds, nanoseconds, self.mode, links, 0, 0, 0, PAGE, 0,
        )  # fmt: skip


def entry(attributes: Attributes) -> bytes:
    """The answer to LOOKUP. Names and attributes are not to be kept: they are asked for each time."""
    return _ENTRY_OUT.pack(attributes.node, 0, 0, 0, 0, 0) + attributes.pack()


def attributes_answer(attributes: Attributes) -> bytes:
    """The answer to GETATTR and SETATTR."""
    return _ATTR_OUT.pack(0, 0, 0) + attributes.pack()


def open_flags(request: Request) -> int:
    """The flags of open(2) in an OPEN."""
    return request.fields(_OPEN_IN)[0]


def opened(handle: int, flags: int = 0) -> bytes:
    """The answer to OPEN and OPENDIR; *flags* are ``FOPEN_*``."""
    return _OPEN_OUT.pack(handle, flags, 0)


def released_handle(request: Request) -> int:
    """The handle that a RELEASE closes."""
    return request.fields(_RELEASE_IN)[0]


def set_attributes(request: Request) -> tuple[bool, int | None]:
    """Of a SETATTR whether it sets the mode or an owner, and the size that it sets."""
    valid, _, _, size = request.fields(_SETATTR_IN)
    return bool(valid & _FATTR_MODE_AND_OWNERS), size if valid & _FATTR_SIZE else None


def fallocate(request: Request) -> tuple[int, int, int]:
    """(offset, length, mode) of a FALLOCATE."""
    _, offset, length, mode, _ = request.fields(_FALLOCATE_IN)
    return offset, length, mode


def lseek(request: Request) -> tuple[int, int]:
    """(offset, whence) of an LSEEK."""
    _, offset, whence, _ = request.fields(_LSEEK_IN)
    return offset, whence


def found_offset(offset: int) -> bytes:
    """The answer to LSEEK."""
    return _LSEEK_OUT.pack(offset)


def read_directory(request: Request) -> tuple[int, int]:
    """(cookie, most bytes) of a READDIR, whose structure is that of a READ."""
    _, cookie, size = request.fields(struct.Struct("=QQI20x"))
    return cookie, size


def statistics(size: int, unit: int, files: int) -> bytes:
    """The answer to STATFS: *size* bytes in blocks of *unit* bytes, none of them free."""
    return _STATFS_OUT.pack(size // unit, 0, 0, files, 0, unit, 255, unit, 0)


def directory(entries: Iterable[tuple[int, int, int, bytes]], most: int) -> bytes:
    """The answer to READDIR of at most *most* bytes. *entries*: (node, cookie of the next, mode, name)."""
    found = bytearray()
    for node, following, mode, name in entries:
        record = _DIRENT.pack(node, following, len(name), stat.S_IFMT(mode) >> 12) + name
        record += bytes(-len(record) % 8)
        if len(found) + len(record) > most:
            break
        found += record
    return bytes(found)


def answer(unique: int, body: bytes = b"", error: int = 0) -> bytes:
    """A whole answer; *error* is an errno, or 0."""
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), -error, unique) + body


def forget_attributes(node: int) -> bytes:
    """A notification: the kernel asks for the attributes of *node* again; its cached pages stay."""
    body = _INVAL_INODE.pack(node, -1, 0)
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), NOTIFY_INVAL_INODE, 0) + body
