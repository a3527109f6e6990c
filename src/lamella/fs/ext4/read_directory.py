# SPDX-License-Identifier: Apache-2.0
"""The names in an ext4 directory: linear blocks, hashed ones (htree), and directories inside an inode.

The formats are those of ``struct ext4_dir_entry_2``, ``dx_root`` and ``dx_node`` (``fs/ext4/namei.c``).
An htree's inner blocks look like blocks without names, so reading all blocks in order finds every name.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from lamella.fs.ext4.inode import INDEX_FL
from lamella.fs.ext4.superblock import INCOMPAT_FILETYPE, crc32c

if TYPE_CHECKING:
    from lamella.fs.ext4.read_inode import Inode, OnDisk

_ENTRY: Final = Struct("<IHBB")
_COUNTS: Final = Struct("<HH")
_TAIL_TYPE: Final = 0xDE
_ANY_TYPE: Final = 0

Name = tuple[bytes, int, int]
"""(name, inode number, type as directory entries have it, or 0 if they do not)."""


def block_names(disk: OnDisk, inode: Inode, block: bytes, number: int) -> list[Name]:
    """The names in block *number* of a directory, ``.`` and ``..`` left out; checks its checksum."""
    if disk.checksummed and not _checksum_fits(disk, inode, block, number):
        raise disk.corrupt(f"block {number} of directory inode {inode.number} fails its checksum")
    return list_names(disk, inode, block, f"block {number}")


def list_names(disk: OnDisk, inode: Inode, data: bytes, place: str) -> list[Name]:
    """The names in a list of directory entries. *place* says which for errors."""
    names: list[Name] = []
    at, end = 0, len(data)
    typed = disk.super.feature_incompat & INCOMPAT_FILETYPE
    most = disk.inodes_count
    unpack = _ENTRY.unpack_from
    while at < end:
        if at + 8 > end:
            raise _bad(disk, inode, place, at, "an entry is cut off")
        number, length, name_length, kind = unpack(data, at)
        if length in (0, 65535):
            length = 65536  # which does not fit its field
        if not typed:
            name_length |= kind << 8
            kind = _ANY_TYPE
        if not number:
            name_length = 0  # free, or the tail with the checksum, whose last byte is a type in any case
        if length < 8 + name_length or length & 3 or length < 12 or at + length > end:
            raise _bad(disk, inode, place, at, f"an entry of {length} bytes")
        if number:
            name = data[at + 8 : at + 8 + name_length]
            if name != b"." and name != b"..":
                if number > most:
                    raise _bad(disk, inode, place, at, f"a name for inode {number} of {most}")
                if not name or b"/" in name or b"\0" in name or name_length > 255:
                    raise _bad(disk, inode, place, at, f"the name {name!r}")
                names.append((name, number, kind))
        at += length
    return names


def _bad(disk: OnDisk, inode: Inode, place: str, at: int, why: str) -> Exception:
    return disk.corrupt(f"{place} of directory inode {inode.number} has {why} at byte {at}")


def _checksum_fits(disk: OnDisk, inode: Inode, block: bytes, number: int) -> bool:
    size = len(block)
    tail = _ENTRY.unpack_from(block, size - 12)
    if tail == (0, 12, 0, _TAIL_TYPE):
        stored = int.from_bytes(block[-4:], "little")
        if crc32c(inode.seed, block[:-12]) == stored:
            return True
    if not inode.flags & INDEX_FL:
        return False
    # An inner block of an htree: the root's entries start at byte 32, behind "." and ".."; a node's at 8.
    first_length = int.from_bytes(block[4:6], "little")
    start = 32 if number == 0 else 8
    if number == 0 and (first_length != 12 or block[29] != 8):
        return False
    limit, count = _COUNTS.unpack_from(block, start)
    end = start + 8 * limit
    if count > limit or end + 8 > size:
        return False
    seed = crc32c(inode.seed, block[: start + 8 * count])
    return crc32c(seed, block[end : end + 4] + b"\0\0\0\0") == int.from_bytes(
        block[end + 4 : end + 8], "little"
    )
