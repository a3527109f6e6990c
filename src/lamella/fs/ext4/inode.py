# SPDX-License-Identifier: Apache-2.0
"""ext4's inode: packed, unpacked, its checksum, and single fields of a raw one read and changed.

Offsets are those of ``struct ext2_inode_large`` (``ext2fs/ext2_fs.h``; ``struct ext4_inode`` in the
kernel's ``fs/ext4/ext4.h``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from lamella.fs.entry import KINDS, Kind
from lamella.fs.ext4.checksum import crc32c

if TYPE_CHECKING:
    from lamella.fs.ext4.geometry import Geometry

S_IFMT: Final = 0o170000
S_IFDIR: Final = 0o040000
S_IFREG: Final = 0o100000
S_IFLNK: Final = 0o120000
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

CORE: Final = (
    ("mode", "H"),
    ("uid", "H"),
    ("size", "I"),
    ("atime", "I"),
    ("ctime", "I"),
    ("mtime", "I"),
    ("dtime", "I"),
    ("gid", "H"),
    ("links", "H"),
    ("sectors", "I"),
    ("flags", "I"),
    ("version", "I"),
    ("block", "60s"),
    ("generation", "I"),
    ("acl", "I"),
    ("size_high", "I"),
    ("obsolete", "I"),
    ("sectors_high", "H"),
    ("acl_high", "H"),
    ("uid_high", "H"),
    ("gid_high", "H"),
    ("checksum", "H"),
    ("reserved", "H"),
)
"""The first 128 bytes, which every inode has: field and its code in :mod:`struct`."""
_CORE: Final = struct.Struct("<" + "".join(code for _, code in CORE))
_EXTRA: Final = struct.Struct("<HHIIIIIII")
"""From byte 128: extra size, checksum high, extra fields of ctime, mtime and atime, birth time and its extra
field, version high, project."""
_EXTRA_SIZE: Final = 32
CHECKSUM_LOW: Final = 124
CHECKSUM_HIGH: Final = 130
XATTR_MAGIC: Final = b"\x00\x00\x02\xea"
_NUMBERS: Final = struct.Struct("<II")
_SECOND: Final = 1_000_000_000
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
    seconds, rest = divmod(nanoseconds, _SECOND)
    if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
        seconds, rest = max(_MIN_SECONDS, min(seconds, _MAX_SECONDS)), 0
    low = seconds & 0xFFFFFFFF
    signed = low - (1 << 32) if low & 0x80000000 else low
    return low, (seconds - signed >> 32 & 3) | rest << 2


def join_time(low: int, extra: int) -> int:
    """Nanoseconds since 1970 from what :func:`split_time` gives."""
    seconds = low - (1 << 32) if low & 0x80000000 else low
    return (seconds + ((extra & 3) << 32)) * _SECOND + (extra >> 2)


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
        low = max(_MIN_SECONDS, min(mtime_ns // _SECOND, (1 << 31) - 1)) & 0xFFFFFFFF
    raw = _CORE.pack(
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
    )
    if inode_size == 128:
        return bytearray(raw)
    raw += _EXTRA.pack(_EXTRA_SIZE, 0, now_extra, extra, extra, now, now_extra, 0, 0)
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
    if extra_size(raw) >= 16:
        _U32.pack_into(raw, 132, now_extra)
        _U32.pack_into(raw, 136, extra)
        _U32.pack_into(raw, 140, extra)


def pack_device(major: int, minor: int) -> bytes:
    """``i_block`` of a device node: the old 16-bit form where it fits, else the new 32-bit form."""
    if major < 256 and minor < 256:
        return _NUMBERS.pack(major << 8 | minor, 0).ljust(60, b"\0")
    return _NUMBERS.pack(0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12).ljust(60, b"\0")


def unpack_device(block: bytes) -> tuple[int, int]:
    """(major, minor) of a device node, in the old 16-bit or the new 32-bit form."""
    old, new = _NUMBERS.unpack_from(block)
    if old:
        return (old >> 8) & 0xFF, old & 0xFF
    return (new >> 8) & 0xFFF, (new & 0xFF) | ((new >> 12) & 0xFFF00)


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


def extra_size(raw: bytes | bytearray) -> int:
    """``i_extra_isize``: bytes of fields past the first 128."""
    return raw[128] | raw[129] << 8 if len(raw) > 128 else 0


def xattr_area(raw: bytes | bytearray) -> bytes:
    """Where extended attributes lie in the inode itself, after their magic number; ``b""`` for none."""
    start = 128 + extra_size(raw)
    return bytes(raw[start + 4 :]) if raw[start : start + 4] == XATTR_MAGIC else b""


def set_change_time(raw: bytearray, now_ns: int) -> None:
    """Set the change time."""
    now, extra = split_time(now_ns)
    _U32.pack_into(raw, 12, now)
    if extra_size(raw) >= 16:
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
    _U32.pack_into(raw, 20, now_ns // _SECOND & 0xFFFFFFFF)


# -- checksum ------------------------------------------------------------------------------------


def inode_seed(seed: int, number: int, raw: bytes | bytearray) -> int:
    """Seed of the checksums of an inode and of what belongs to it: crc32c over its number and generation.

    *seed* is the file system's.
    """
    return crc32c(seed, number.to_bytes(4, "little") + raw[100:104])


def checksum_fits(raw: bytes | bytearray, seed: int) -> bool:
    """Whether an inode whose seed is *seed* has the checksum that it should have."""
    stored = raw[CHECKSUM_LOW] | raw[CHECKSUM_LOW + 1] << 8
    whole = extra_size(raw) >= 4
    if whole:
        stored |= raw[CHECKSUM_HIGH] << 16 | raw[CHECKSUM_HIGH + 1] << 24
    return _checksum(raw, seed, whole) == stored


def set_checksum(raw: bytearray, seed: int) -> None:
    """Set an inode's checksum."""
    whole = extra_size(raw) >= 4
    value = _checksum(raw, seed, whole)
    _U16.pack_into(raw, CHECKSUM_LOW, value & 0xFFFF)
    if whole:
        _U16.pack_into(raw, CHECKSUM_HIGH, value >> 16)


def _checksum(raw: bytes | bytearray, seed: int, whole: bool) -> int:
    """The crc32c of an inode with its checksum as 0; 16 bits unless the upper half has a place (*whole*)."""
    low, high = CHECKSUM_LOW, CHECKSUM_HIGH
    if whole:
        return crc32c(seed, b"".join((raw[:low], b"\0\0", raw[low + 2 : high], b"\0\0", raw[high + 2 :])))
    return crc32c(seed, b"".join((raw[:low], b"\0\0", raw[low + 2 :]))) & 0xFFFF


# -- unpacked ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Inode:
    """An inode in use, unpacked."""

    number: int
    kind: Kind
    mode: int
    """Permission bits (0o7777)."""
    uid: int
    gid: int
    size: int
    mtime_ns: int
    links: int
    sectors: int
    """What it takes on disk, its metadata included, in units of 512 bytes."""
    flags: int
    block: bytes
    """``i_block``: 60 bytes of extents, block numbers, a short target, a device number or data."""
    xattr_block: int
    raw: bytes
    seed: int
    """Seed of the checksums of what belongs to it (its directory and extent blocks)."""

    @property
    def inline(self) -> bool:
        """Whether its data lies in the inode."""
        return bool(self.flags & INLINE_DATA_FL)

    @property
    def birth(self) -> bytes:
        """What tells it from an earlier inode of the same number: its generation, and when it was made."""
        made = self.raw[144:152] if extra_size(self.raw) >= 24 else b""
        return self.raw[100:104] + made

    @property
    def has_extents(self) -> bool:
        """Whether ``block`` is the root of an extent tree rather than a block map."""
        return bool(self.flags & EXTENTS_FL)

    @property
    def short_target(self) -> bool:
        """Whether it is a symlink whose target is in ``block``."""
        return self.kind is Kind.SYMLINK and self.size < FAST_SYMLINK and not self.flags & EXTENTS_FL

    @property
    def device_numbers(self) -> tuple[int, int]:
        """(major, minor) of a device node."""
        return unpack_device(self.block)


def unpack_inode(geometry: Geometry, number: int, raw: bytes, *, hidden: bool = False) -> Inode:
    """Unpack and check inode *number*. *hidden*: one that no directory names (an attribute's)."""
    mode, uid, size, _, _, mtime, _, gid, links, sectors, flags, _, block, *rest = _CORE.unpack_from(raw)
    _, acl, size_high, _, sectors_high, acl_high, uid_high, gid_high, _, _ = rest
    kind = KINDS.get(mode & S_IFMT)
    if kind is None or (not links and not hidden):
        raise geometry.corrupt(f"inode {number} is in use by a name, but is itself marked as free")
    extra = extra_size(raw)
    if extra % 4 or 128 + extra > len(raw):
        raise geometry.corrupt(f"inode {number} claims {extra} further bytes")
    seed = 0
    if geometry.checksummed:
        seed = inode_seed(geometry.seed, number, raw)
        if not checksum_fits(raw, seed):
            raise geometry.corrupt(f"inode {number} fails its checksum")
    if kind is Kind.FILE or kind is Kind.DIRECTORY:
        size |= size_high << 32
    if size >> 63:
        raise geometry.corrupt(f"inode {number} claims {size} bytes")
    sectors |= sectors_high << 32
    if flags & HUGE_FILE_FL:
        sectors *= geometry.block_size // 512
    return Inode(
        number,
        kind,
        mode & 0o7777,
        uid | uid_high << 16,
        gid | gid_high << 16,
        size,
        join_time(mtime, _U32.unpack_from(raw, 136)[0] if extra >= 12 else 0),
        links,
        sectors,
        flags,
        block,
        acl | acl_high << 32,
        raw,
        seed,
    )
