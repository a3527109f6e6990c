# SPDX-License-Identifier: Apache-2.0
"""Directory blocks as bytes: entries, checksum tails, and the hash tree's index blocks.

The format is that of ``ext2fs/ext2_fs.h`` (``ext2_dir_entry_2``, ``ext2_dx_*``); where the index's
checksum lies is said in the kernel's documentation (``filesystems/ext4/directory.rst``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from lamella.fs.ext4.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD: Final = struct.Struct("<IHBB")
TAIL_SIZE: Final = 12
_TAIL_TYPE = 0xDE
_COUNT_LIMIT = struct.Struct("<HHI")
_DX_ENTRY = struct.Struct("<II")
_ROOT_ENTRIES = 32
"""Byte of the root block where index entries begin: after ".", ".." and 8 bytes of description."""
_NODE_ENTRIES = 8

Name = tuple[bytes, int, int]
"""A directory entry: (name, inode, file type as directory entries have it)."""


class BlockError(ValueError):
    """A damaged directory block; the text says what it has, such as "an entry of 3 bytes at byte 12"."""


def record_length(name: bytes) -> int:
    """Bytes that an entry takes: 8, its name, rounded up to 4."""
    return (11 + len(name)) & ~3


def capacity(block_size: int, checksummed: bool) -> int:
    """Bytes in a block for entries."""
    return block_size - TAIL_SIZE if checksummed else block_size


def pack_leaf(items: Sequence[Name], block_size: int, seed: int | None) -> bytearray:
    """A block of entries, which may be none; *seed* is the inode's checksum seed, None without."""
    room = capacity(block_size, seed is not None)
    block = bytearray(block_size)
    pack = HEAD.pack_into
    at = last = 0
    for name, number, kind in items:
        size = len(name)
        length = (11 + size) & ~3
        pack(block, at, number, length, size, kind)
        block[at + 8 : at + 8 + size] = name
        last = at
        at += length
    if at > room:
        raise BlockError(f"{at} bytes of entries in a block of {room}")
    block[last + 4 : last + 6] = (room - last).to_bytes(2, "little")
    if seed is not None:
        HEAD.pack_into(block, room, 0, TAIL_SIZE, 0, _TAIL_TYPE)
        block[room + 8 : room + 12] = crc32c(seed, block[:room]).to_bytes(4, "little")
    return block


def unpack_names(data: bytes, inodes: int, *, typed: bool = True) -> list[Name]:
    """The names in a list of directory entries, ``.`` and ``..`` left out. Raises :class:`BlockError`.

    *inodes* is the greatest inode number. *typed*: entries have a file type (``filetype``); else it is 0.
    """
    names: list[Name] = []
    at, end = 0, len(data)
    unpack = HEAD.unpack_from
    while at < end:
        if at + 8 > end:
            raise BlockError(f"an entry is cut off at byte {at}")
        number, length, name_length, kind = unpack(data, at)
        if length in (0, 65535):
            length = 65536  # which does not fit its field
        if not typed:
            name_length |= kind << 8
            kind = 0
        if not number:
            name_length = 0  # free, or the tail with the checksum, whose last byte is a type in any case
        if length < 8 + name_length or length & 3 or length < 12 or at + length > end:
            raise BlockError(f"an entry of {length} bytes at byte {at}")
        if number:
            name = data[at + 8 : at + 8 + name_length]
            if name != b"." and name != b"..":
                if number > inodes:
                    raise BlockError(f"a name for inode {number} of {inodes} at byte {at}")
                if not name or b"/" in name or b"\0" in name or name_length > 255:
                    raise BlockError(f"the name {name!r} at byte {at}")
                names.append((name, number, kind))
        at += length
    return names


def unpack_parent(block: bytes, inodes: int) -> int:
    """The inode that ``..``, the second entry of a directory's first block, leads to."""
    number, _, length, _ = HEAD.unpack_from(block, 12)
    if not 0 < number <= inodes or length != 2 or block[20:22] != b"..":
        raise BlockError("no entry for its parent at byte 12")
    return int(number)


def checksum_fits(block: bytes, number: int, seed: int, *, indexed: bool) -> bool:
    """Whether block *number* of a directory has the checksum of a leaf or, if it is *indexed*, of an index.

    *seed* is the inode's checksum seed.
    """
    tail = HEAD.unpack_from(block, len(block) - TAIL_SIZE)
    stored = int.from_bytes(block[-4:], "little")
    if tail == (0, TAIL_SIZE, 0, _TAIL_TYPE) and crc32c(seed, block[:-TAIL_SIZE]) == stored:
        return True
    if not indexed or (number == 0 and (int.from_bytes(block[4:6], "little") != 12 or block[29] != 8)):
        return False
    return _index_checksum_fits(block, _NODE_ENTRIES if number else _ROOT_ENTRIES, seed)


def _index_checksum_fits(block: bytes, start: int, seed: int) -> bool:
    limit, count, _ = _COUNT_LIMIT.unpack_from(block, start)
    end = start + 8 * limit
    if count > limit or end + 8 > len(block):
        return False
    stored = int.from_bytes(block[end + 4 : end + 8], "little")
    return _index_checksum(block, start, limit, count, seed) == stored


def root_limit(block_size: int, checksummed: bool) -> int:
    """Most index entries in the root block of a hash tree."""
    return (block_size - _ROOT_ENTRIES - (8 if checksummed else 0)) // 8


def node_limit(block_size: int, checksummed: bool) -> int:
    """Most index entries in an inner block of a hash tree."""
    return (block_size - _NODE_ENTRIES - (8 if checksummed else 0)) // 8


def pack_root(
    number: int,
    parent: int,
    version: int,
    levels: int,
    entries: Sequence[tuple[int, int]],
    block_size: int,
    seed: int | None,
) -> bytearray:
    """The root block of a hash tree: (hash, logical block) *entries*, the first hash counting as 0.

    *version* is the superblock's hash version, *levels* how many levels of inner blocks follow.
    """
    block = bytearray(block_size)
    HEAD.pack_into(block, 0, number, 12, 1, 2)
    block[8:9] = b"."
    HEAD.pack_into(block, 12, parent, block_size - 12, 2, 2)
    block[20:22] = b".."
    block[24:32] = bytes((0, 0, 0, 0, version, 8, levels, 0))
    _index(block, _ROOT_ENTRIES, root_limit(block_size, seed is not None), entries, seed)
    return block


def pack_node(entries: Sequence[tuple[int, int]], block_size: int, seed: int | None) -> bytearray:
    """An inner block of a hash tree; as a plain block it looks like one unused entry."""
    block = bytearray(block_size)
    HEAD.pack_into(block, 0, 0, block_size, 0, 0)
    _index(block, _NODE_ENTRIES, node_limit(block_size, seed is not None), entries, seed)
    return block


def unpack_index(block: bytes, *, root: bool, seed: int | None) -> tuple[int, int, list[tuple[int, int]]]:
    """(hash version, levels below, index entries) of a root or inner block; 0, 0 for an inner one."""
    start = _ROOT_ENTRIES if root else _NODE_ENTRIES
    version = levels = 0
    if root:
        reserved, version, length, levels, _ = struct.unpack_from("<IBBBB", block, 24)
        if reserved or length != 8 or levels > 2:
            raise BlockError("a bad head of its hash tree")
    limit, count, first = _COUNT_LIMIT.unpack_from(block, start)
    most = (root_limit if root else node_limit)(len(block), seed is not None)
    if limit != most or not 0 < count <= limit:
        raise BlockError(f"a hash tree of {count} entries in {limit}, where {most} fit")
    if seed is not None and not _index_checksum_fits(block, start, seed):
        raise BlockError("a hash tree that fails its checksum")
    entries = [(0, first & 0x0FFFFFFF)]
    for step in range(1, count):
        value, place = _DX_ENTRY.unpack_from(block, start + 8 * step)
        entries.append((value, place & 0x0FFFFFFF))
    return version, levels, entries


def _index(
    block: bytearray, start: int, limit: int, entries: Sequence[tuple[int, int]], seed: int | None
) -> None:
    if not 0 < len(entries) <= limit:
        raise BlockError(f"{len(entries)} index entries in a block for {limit}")
    _COUNT_LIMIT.pack_into(block, start, limit, len(entries), entries[0][1])
    for step, (value, place) in enumerate(entries[1:], 1):
        _DX_ENTRY.pack_into(block, start + 8 * step, value, place)
    if seed is not None:
        tail = start + limit * 8
        block[tail + 4 : tail + 8] = _index_checksum(block, start, limit, len(entries), seed).to_bytes(
            4, "little"
        )


def _index_checksum(block: bytes | bytearray, start: int, limit: int, count: int, seed: int) -> int:
    tail = start + limit * 8
    value = crc32c(seed, block[: start + count * 8])
    return crc32c(value, block[tail : tail + 4] + b"\0\0\0\0")
