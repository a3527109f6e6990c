# SPDX-License-Identifier: Apache-2.0
"""ext4's group descriptors, read straight from the device: where they lie, what they say, are they sane.

Fields and their offsets are those of ``struct ext2_group_desc`` and ``struct ext4_group_desc`` in
``ext2fs/ext2_fs.h``. Nothing here needs libext2fs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lamella.errors import CorruptError, LamellaError
from lamella.fs.ext4 import superblock
from lamella.fs.ext4.checksum import crc32c

if TYPE_CHECKING:
    from lamella.block import BlockDevice
    from lamella.fs.ext4.superblock import SuperBlock


def descriptor_blocks(block: SuperBlock) -> list[int]:
    """Block number of each block of group descriptors, in order, with and without meta_bg."""
    per_block = block.block_size // block.descriptor_size
    count = -(-block.group_count // per_block)
    first = int(block.first_data_block)
    # Behind the superblock, which clusters of 1 KiB blocks have in block 1 although block 0 counts as data.
    start = superblock.OFFSET // block.block_size + 1
    if not block.feature_incompat & superblock.INCOMPAT_META_BG:
        return [start + number for number in range(count)]
    old = min(int(block.first_meta_bg), count)
    places = [start + number for number in range(old)]
    if old == 0:
        places, old = [start], 1
    for number in range(old, count):
        group = number * per_block
        places.append(first + group * int(block.blocks_per_group) + has_super(block, group))
    return places


def has_super(block: SuperBlock, group: int) -> bool:
    """Whether a group starts with a copy of the superblock (sparse_super, sparse_super2, or all)."""
    if group == 0:
        return True
    if block.feature_compat & superblock.COMPAT_SPARSE_SUPER2:
        return group in tuple(block.backup_bgs)
    if group == 1 or not block.feature_ro_compat & superblock.RO_COMPAT_SPARSE_SUPER:
        return True
    if group % 2 == 0:
        return False
    return any(_is_power(group, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1


def read_descriptors(device: BlockDevice, block: SuperBlock) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """All group descriptors as one array of shape (groups, descriptor size), unchecked."""
    size = block.block_size
    places = descriptor_blocks(block)
    if any((place + 1) * size > device.size for place in places):
        raise CorruptError(
            f"the ext4 file system in {device.name} keeps group descriptors past the end of its device",
            hint="run `e2fsck -fn` on it",
        )
    table = bytearray(len(places) * size)
    view = memoryview(table)
    requests: list[tuple[int, memoryview]] = []
    start = 0
    for number in range(1, len(places) + 1):
        if number == len(places) or places[number] != places[number - 1] + 1:
            requests.append((places[start] * size, view[start * size : number * size]))
            start = number
    device.read_many(requests)
    each = block.descriptor_size
    return np.frombuffer(table, dtype=np.uint8)[: block.group_count * each].reshape(-1, each)


def descriptor_field(
    table: np.ndarray[Any, np.dtype[np.uint8]], low: int, high: int, width: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """One field of all descriptors: *width* bytes at *low*, and above them those at *high* if there."""

    def part(offset: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        raw = np.ascontiguousarray(table[:, offset : offset + width])
        return raw.view(f"<u{width}").reshape(-1).astype(np.int64)

    value = part(low)
    if table.shape[1] >= high + width:
        value |= part(high) << (8 * width)
    return value


def descriptor_checksum(block: SuperBlock, group: int, raw: bytes) -> int:
    """The 16-bit checksum of one descriptor: crc32c under metadata_csum, else crc16 (gdt_csum)."""
    number = group.to_bytes(4, "little")
    if block.has_metadata_csum:
        return crc32c(block.seed, number + raw[:30] + b"\0\0" + raw[32:]) & 0xFFFF
    return crc16(crc16(crc16(0xFFFF, bytes(block.uuid)), number), raw[:30] + raw[32:])


def crc16(value: int, data: bytes) -> int:
    """CRC-16 with the reflected polynomial 0xA001, as gdt_csum uses it."""
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


def check_descriptors(device: BlockDevice, block: SuperBlock) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read all descriptors; refuse those that point outside the file system or fail their checksum.

    libext2fs trusts them, and a wrong one would send its reads and writes anywhere. Returns an array of
    shape (groups, descriptor size).
    """
    table = read_descriptors(device, block)

    def refuse(group: int, why: str) -> LamellaError:
        return CorruptError(
            f"group descriptor {group} of the ext4 file system in {device.name} is damaged: {why}",
            hint="run `e2fsck -fn` on it",
        )

    if block.has_group_csum:
        stored = descriptor_field(table, 30, 1 << 16, 2)
        raw = table.tobytes()
        each = table.shape[1]
        for group in range(len(table)):
            if descriptor_checksum(block, group, raw[group * each : (group + 1) * each]) != stored[group]:
                raise refuse(group, "it fails its checksum")
    inode_size = int(block.inode_size) if block.rev_level else 128
    table_blocks = int(block.inodes_per_group) * inode_size // block.block_size
    first = int(block.first_data_block)
    for name, low, high, length in (
        ("block bitmap", 0, 32, 1),
        ("inode bitmap", 4, 36, 1),
        ("inode table", 8, 40, table_blocks),
    ):
        places = descriptor_field(table, low, high, 4)
        wrong = np.flatnonzero((places <= first) | (places + length > block.blocks_count))
        if wrong.size:
            group = int(wrong[0])
            raise refuse(group, f"its {name} is said to be at block {int(places[group])}")
    for name, low, high, most in (
        ("free blocks", 12, 44, int(block.blocks_per_group)),
        ("free inodes", 14, 46, int(block.inodes_per_group)),
        ("unused inodes", 28, 50, int(block.inodes_per_group)),
    ):
        counts = descriptor_field(table, low, high, 2)
        wrong = np.flatnonzero(counts > most)
        if wrong.size:
            group = int(wrong[0])
            raise refuse(group, f"{int(counts[group])} {name}, there can be {most}")
    return table
