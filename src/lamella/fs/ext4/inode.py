# SPDX-License-Identifier: Apache-2.0
"""ext4's inode as bytes: building a new one, and reading and changing the fields of one.

Offsets are those of ``struct ext2_inode_large`` (``ext2fs/ext2_fs.h``). Checksums are set by
:meth:`lamella.fs.ext4.filesystem.Ext4.write_inode`.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from lamella.fs.entry import Kind

S_IFMT: Final = 0o170000
S_IFDIR: Final = 0o040000
S_IFREG: Final = 0o100000
S_IFLNK: Final = 0o120000
TYPES: Final[dict[Kind, int]] = {
    Kind.FILE: 0o100000,
    Kind.DIRECTORY: 0o040000,
    Kind.SYMLINK: 0o120000,
    Kind.CHAR: 0o020000,
    Kind.BLOCK: 0o060000,
    Kind.FIFO: 0o010000,
    Kind.SOCKET: 0o140000,
}
"""File type bits of ``i_mode``."""
DIRENT_TYPES: Final[dict[Kind, int]] = {
    Kind.FILE: 1,
    Kind.DIRECTORY: 2,
    Kind.CHAR: 3,
    Kind.BLOCK: 4,
    Kind.FIFO: 5,
    Kind.SOCKET: 6,
    Kind.SYMLINK: 7,
}
"""File types as directory entries have them."""
IS_DIRECTORY: Final = 2
IS_SYMLINK: Final = 7

INDEX_FL: Final = 0x1000
HUGE_FILE_FL: Final = 0x40000
EXTENTS_FL: Final = 0x80000
EA_INODE_FL: Final = 0x200000
INLINE_DATA_FL: Final = 0x10000000

FAST_SYMLINK: Final = 60
"""A symlink's target shorter than this many bytes lies in the inode itself."""
LINK_MAX: Final = 65000

_NEW: Final = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHHHHIIIIIII")
_EXTRA_ISIZE: Final = 32
_MIN_SECONDS: Final = -(1 << 31)
_MAX_SECONDS: Final = (1 << 34) - (1 << 31) - 1
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")

NO_BLOCKS: Final = struct.pack("<HHHHI", 0xF30A, 0, 4, 0, 0).ljust(60, b"\0")
"""``i_block`` of an inode with extents, but none yet."""


@lru_cache(maxsize=4096)
def split_time(nanoseconds: int) -> tuple[int, int]:
    """(low 32 bits of the seconds, extra field) for a time in nanoseconds since 1970.

    The extra field has two more bits of seconds and 30 of nanoseconds. Times outside 1901 to 2446 are
    moved to the nearest that can be stored.
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
        seconds, rest = max(_MIN_SECONDS, min(seconds, _MAX_SECONDS)), 0
    low = seconds & 0xFFFFFFFF
    signed = low - (1 << 32) if low & 0x80000000 else low
    return low, (seconds - signed >> 32 & 3) | rest << 2


def new_inode(
    inode_size: int,
    mode: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    now_ns: int,
    *,
    size: int = 0,
    links: int = 1,
    sectors: int = 0,
    flags: int = 0,
    block: bytes = b"",
) -> bytearray:
    """A new inode's bytes, without a checksum.

    *mode* with the file type; *sectors* are the blocks it takes, in units of 512 bytes; *block* is
    ``i_block``'s 60 bytes. Access time is the modification time; change and creation time are *now_ns*.
    """
    low, extra = split_time(mtime_ns)
    now, now_extra = split_time(now_ns)
    if inode_size == 128:
        # No room for more bits: keep within what 32 signed bits hold.
        low = max(_MIN_SECONDS, min(mtime_ns // 1_000_000_000, (1 << 31) - 1)) & 0xFFFFFFFF
    raw = _NEW.pack(
        mode,
        uid & 0xFFFF,
        size & 0xFFFFFFFF,
        low,
        now,
        low,
        0,
        gid & 0xFFFF,
        links,
        sectors & 0xFFFFFFFF,
        flags,
        0,
        block,
        0,
        0,
        size >> 32,
        0,
        sectors >> 32,
        0,
        uid >> 16,
        gid >> 16,
        0,
        0,
        _EXTRA_ISIZE,
        0,
        now_extra,
        extra,
        extra,
        now,
        now_extra,
        0,
        0,
    )
    if inode_size == 128:
        return bytearray(raw[:128])
    return bytearray(raw).ljust(inode_size, b"\0")


def set_attributes(raw: bytearray, mode: int, uid: int, gid: int, mtime_ns: int, now_ns: int) -> None:
    """Change permission bits, owner and times; the type stays."""
    _U16.pack_into(raw, 0, get_mode(raw) & S_IFMT | mode & 0o7777)
    _U16.pack_into(raw, 2, uid & 0xFFFF)
    _U16.pack_into(raw, 24, gid & 0xFFFF)
    _U16.pack_into(raw, 120, uid >> 16)
    _U16.pack_into(raw, 122, gid >> 16)
    low, extra = split_time(mtime_ns)
    now, now_extra = split_time(now_ns)
    _U32.pack_into(raw, 8, low)
    _U32.pack_into(raw, 12, now)
    _U32.pack_into(raw, 16, low)
    if len(raw) > 128 and int.from_bytes(raw[128:130], "little") >= 16:
        _U32.pack_into(raw, 132, now_extra)
        _U32.pack_into(raw, 136, extra)
        _U32.pack_into(raw, 140, extra)


def device_numbers(major: int, minor: int) -> bytes:
    """``i_block`` of a device node: the old 16-bit form where it fits, else the new 32-bit form."""
    if major < 256 and minor < 256:
        return struct.pack("<II", major << 8 | minor, 0).ljust(60, b"\0")
    return struct.pack("<II", 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12).ljust(60, b"\0")


def get_mode(raw: bytes | bytearray) -> int:
    """Type and permission bits."""
    return raw[0] | raw[1] << 8


def get_size(raw: bytes | bytearray) -> int:
    """Size in bytes."""
    return int(_U32.unpack_from(raw, 4)[0] | _U32.unpack_from(raw, 108)[0] << 32)


def set_size(raw: bytearray, size: int) -> None:
    """Set the size in bytes."""
    _U32.pack_into(raw, 4, size & 0xFFFFFFFF)
    _U32.pack_into(raw, 108, size >> 32)


def get_links(raw: bytes | bytearray) -> int:
    """Number of names."""
    return raw[26] | raw[27] << 8


def set_links(raw: bytearray, links: int) -> None:
    """Set the number of names."""
    _U16.pack_into(raw, 26, links)


def get_flags(raw: bytes | bytearray) -> int:
    """``i_flags``."""
    return int(_U32.unpack_from(raw, 32)[0])


def set_flags(raw: bytearray, flags: int) -> None:
    """Set ``i_flags``."""
    _U32.pack_into(raw, 32, flags)


def get_sectors(raw: bytes | bytearray) -> int:
    """``i_blocks``: what it takes on disk, in units of 512 bytes (unless it is a huge file)."""
    return int(_U32.unpack_from(raw, 28)[0] | _U16.unpack_from(raw, 116)[0] << 32)


def set_sectors(raw: bytearray, sectors: int) -> None:
    """Set ``i_blocks``."""
    _U32.pack_into(raw, 28, sectors & 0xFFFFFFFF)
    _U16.pack_into(raw, 116, sectors >> 32)


def get_acl_block(raw: bytes | bytearray) -> int:
    """Block of the extended attributes outside the inode; 0 for none."""
    return int(_U32.unpack_from(raw, 104)[0] | _U16.unpack_from(raw, 118)[0] << 32)


def has_inode_xattrs(raw: bytes | bytearray) -> bool:
    """Whether extended attributes lie in the inode itself."""
    if len(raw) <= 128:
        return False
    start = 128 + int.from_bytes(raw[128:130], "little")
    return raw[start : start + 4] == b"\x00\x00\x02\xea"


def set_change_time(raw: bytearray, now_ns: int) -> None:
    """Set the change time."""
    now, extra = split_time(now_ns)
    _U32.pack_into(raw, 12, now)
    if len(raw) > 128 and int.from_bytes(raw[128:130], "little") >= 16:
        _U32.pack_into(raw, 132, extra)


def get_deletion_time(raw: bytes | bytearray) -> int:
    """When it was deleted; in the list of orphans, the next one's number."""
    return int(_U32.unpack_from(raw, 20)[0])


def set_deletion_time(raw: bytearray, value: int) -> None:
    """Set the deletion time."""
    _U32.pack_into(raw, 20, value)


def set_deleted(raw: bytearray, now_ns: int) -> None:
    """Turn it into a deleted inode: no names, no blocks, its time of death."""
    set_links(raw, 0)
    set_size(raw, 0)
    set_sectors(raw, 0)
    set_flags(raw, get_flags(raw) & ~(EXTENTS_FL | INDEX_FL | INLINE_DATA_FL))
    raw[40:100] = bytes(60)
    _U32.pack_into(raw, 20, now_ns // 1_000_000_000 & 0xFFFFFFFF)
