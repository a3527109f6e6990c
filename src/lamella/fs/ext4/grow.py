# SPDX-License-Identifier: Apache-2.0
"""Growing an ext4 file system to the size of its device, while nothing has it mounted.

New groups need only their descriptors: with descriptor checksums their bitmaps and inode tables count
as not begun, so growing by a terabyte writes a few megabytes. Descriptors go into the blocks reserved for
them; when these run out, into the new groups themselves (meta_bg, as a kernel that grows a mounted file
system does it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lamella.errors import ReadOnlyError, UnsupportedError
from lamella.fs.ext4 import inode as ino
from lamella.fs.ext4 import library as ext2
from lamella.fs.ext4 import superblock as sb
from lamella.fs.ext4.checksum import crc32c
from lamella.fs.ext4.descriptors import check_descriptors, descriptor_blocks, descriptor_checksum, has_super
from lamella.fs.ext4.filesystem import Ext4

if TYPE_CHECKING:
    from lamella.block import BlockDevice

    Table = np.ndarray[Any, np.dtype[np.uint8]]

RESIZE_INODE: Final = 7
_DIND: Final = 40 + 13 * 4
_MIN_DATA: Final = 50
"""A last group with fewer blocks than this beside its own metadata is left out, as mke2fs does."""


def grow_ext4(device: BlockDevice) -> int:
    """Grow the ext4 file system in *device* to the device's size; returns its new size in bytes.

    Nothing happens if it is that large already. The device is not flushed. Raises
    :class:`UnsupportedError` when the file system's format does not allow that size, and what
    :meth:`Ext4.open` raises for one that is damaged or was not unmounted.
    """
    if device.read_only:
        raise ReadOnlyError(f"{device.name} is open for reading only", hint="open it for writing")
    old = sb.read_superblock(device)
    sb.check_writable(old, device.name)
    table = check_descriptors(device, old)
    plan = _plan(device, old)
    if plan.blocks <= old.blocks_count:
        return old.blocks_count * old.block_size
    Ext4.open(device).abandon()  # would the library take it? Better to hear before anything is written
    _Growth(device, old, table, plan).write()
    _finish(device)
    return plan.blocks * old.block_size


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a file system is to become: blocks and groups in all, and where descriptors go."""

    blocks: int
    groups: int
    reserved: int
    """Descriptor blocks still reserved afterwards."""
    first_meta_bg: int | None
    """First block of descriptors that lies in the groups it describes; None without meta_bg."""


def _plan(device: BlockDevice, old: sb.SuperBlock) -> _Plan:
    blocks = device.size // old.block_size
    if not old.is_64bit and blocks > 0xFFFFFFFF:
        raise UnsupportedError(
            f"the ext4 file system in {device.name} cannot grow to {blocks} blocks: without the 64bit "
            "feature it takes 2^32 - 1",
            hint="make a new one with -O 64bit",
        )
    first, per_group = int(old.first_data_block), int(old.blocks_per_group)
    while True:
        groups = -(-(blocks - first) // per_group)
        plan = _descriptors(blocks, groups, old)
        if groups <= old.group_count:
            break
        last = groups - 1
        rest = blocks - first - last * per_group
        if rest >= _overhead(old, plan, last) + _MIN_DATA:
            break
        blocks = first + last * per_group
    if groups * int(old.inodes_per_group) > 0xFFFFFFFF:
        raise UnsupportedError(
            f"the ext4 file system in {device.name} cannot grow to {blocks} blocks: it would have "
            f"{groups * int(old.inodes_per_group)} inodes, ext4 takes 2^32 - 1",
            hint="make a new one with fewer inodes (-i)",
        )
    return plan


def _descriptors(blocks: int, groups: int, old: sb.SuperBlock) -> _Plan:
    """Decide where the descriptors of *groups* groups go."""
    per_block = old.block_size // old.descriptor_size
    have, need = -(-old.group_count // per_block), -(-groups // per_block)
    reserved = int(old.reserved_gdt_blocks) if old.feature_compat & sb.COMPAT_RESIZE_INODE else 0
    if old.feature_incompat & sb.INCOMPAT_META_BG:
        return _Plan(blocks, groups, 0, int(old.first_meta_bg))
    if need - have <= reserved:
        return _Plan(blocks, groups, reserved - (need - have), None)
    return _Plan(blocks, groups, 0, have + reserved)


def _overhead(old: sb.SuperBlock, plan: _Plan, group: int) -> int:
    """Blocks of a new group taken by its own metadata."""
    return _head(old, plan, group) + 2 + _table_blocks(old)


def _head(old: sb.SuperBlock, plan: _Plan, group: int) -> int:
    """Blocks at the start of a new group for copies of the superblock and for descriptors."""
    per_block = old.block_size // old.descriptor_size
    copy = has_super(old, group)
    if plan.first_meta_bg is not None and group // per_block >= plan.first_meta_bg:
        return copy + (group % per_block in (0, 1, per_block - 1))
    if not copy:
        return 0
    if plan.first_meta_bg is not None:
        return 1 + plan.first_meta_bg
    return 1 + -(-plan.groups // per_block) + plan.reserved


def _table_blocks(old: sb.SuperBlock) -> int:
    inode_size = int(old.inode_size) if old.rev_level else 128
    return int(old.inodes_per_group) * inode_size // old.block_size


class _Growth:
    """The new superblock, descriptors and bitmaps, and writing them: the superblock last."""

    def __init__(self, device: BlockDevice, old: sb.SuperBlock, table: Table, plan: _Plan) -> None:
        self._device = device
        self._old = old
        self._plan = plan
        self._first = int(old.first_data_block)
        self._per_group = int(old.blocks_per_group)
        self._new = sb.SuperBlock.from_buffer_copy(bytes(old))
        self._table: Table = np.zeros((plan.groups, table.shape[1]), dtype=np.uint8)
        self._table[: len(table)] = table
        self._pieces: list[tuple[int, bytes]] = []

    def write(self) -> None:
        old, plan = self._old, self._plan
        free = self._extend_last_group()
        free += self._add_groups()
        new = self._new
        blocks = plan.blocks
        new.blocks_count_lo, new.blocks_count_hi = blocks & 0xFFFFFFFF, blocks >> 32
        free += old.free_blocks_count
        new.free_blocks_lo, new.free_blocks_hi = free & 0xFFFFFFFF, free >> 32
        reserved = int(old.r_blocks_count_lo) | (int(old.r_blocks_count_hi) << 32 if old.is_64bit else 0)
        reserved = reserved * blocks // old.blocks_count
        new.r_blocks_count_lo, new.r_blocks_count_hi = reserved & 0xFFFFFFFF, reserved >> 32
        added = (plan.groups - old.group_count) * int(old.inodes_per_group)
        new.inodes_count = old.inodes_count + added
        new.free_inodes_count = old.free_inodes_count + added
        new.overhead_clusters = 0  # a kernel counts again
        if plan.first_meta_bg is not None:
            new.feature_compat &= ~sb.COMPAT_RESIZE_INODE
            new.feature_incompat |= sb.INCOMPAT_META_BG
            new.first_meta_bg = plan.first_meta_bg
        new.reserved_gdt_blocks = plan.reserved
        self._seal_descriptors()
        self._place_descriptors()
        self._device.write_many(self._pieces)
        sb.seal(new)
        self._device.write(sb.OFFSET, bytes(new))

    def _group_blocks(self, group: int, blocks: int) -> int:
        return min(self._per_group, blocks - self._first - group * self._per_group)

    def _extend_last_group(self) -> int:
        """Give the old last group the blocks that it lacked; returns how many."""
        old = self._old
        group = old.group_count - 1
        before = self._group_blocks(group, old.blocks_count)
        after = self._group_blocks(group, self._plan.blocks)
        if after == before:
            return 0
        self._set(group, 12, 44, 2, self._get(group, 12, 44, 2) + after - before)
        if not (self._get(group, 18, 1 << 16, 2) & ext2.BG_BLOCK_UNINIT and old.has_group_csum):
            place = self._get(group, 0, 32, 4)
            size = old.block_size
            bits = np.unpackbits(
                np.frombuffer(self._device.read(place * size, size), dtype=np.uint8), bitorder="little"
            )
            bits[before:after] = 0
            self._put_bitmap(group, np.packbits(bits, bitorder="little").tobytes())
        return after - before

    def _add_groups(self) -> int:
        """Fill in the descriptors of the new groups; returns their free blocks."""
        old, plan = self._old, self._plan
        per_group = int(old.inodes_per_group)
        total = 0
        checked = old.has_group_csum
        for group in range(old.group_count, plan.groups):
            start = self._first + group * self._per_group
            length = self._group_blocks(group, plan.blocks)
            head = _head(old, plan, group)
            used = head + 2 + _table_blocks(old)
            total += length - used
            self._set(group, 0, 32, 4, start + head)
            self._set(group, 4, 36, 4, start + head + 1)
            self._set(group, 8, 40, 4, start + head + 2)
            self._set(group, 12, 44, 2, length - used)
            self._set(group, 14, 46, 2, per_group)
            self._set(group, 28, 50, 2, per_group if checked else 0)
            last = group == plan.groups - 1
            flags = ext2.BG_INODE_UNINIT | ext2.BG_INODE_ZEROED
            if not last:
                flags |= ext2.BG_BLOCK_UNINIT
            self._set(group, 18, 1 << 16, 2, flags if checked else 0)
            if last or not checked:
                bits = np.ones(8 * old.block_size, dtype=np.uint8)
                bits[used:length] = 0
                self._put_bitmap(group, np.packbits(bits, bitorder="little").tobytes())
            if not checked:
                inode_bits = np.ones(8 * old.block_size, dtype=np.uint8)
                inode_bits[:per_group] = 0
                place = (start + head + 1) * old.block_size
                self._pieces.append((place, np.packbits(inode_bits, bitorder="little").tobytes()))
                self._device.write_zeros(
                    (start + head + 2) * old.block_size, _table_blocks(old) * old.block_size
                )
        return total

    def _put_bitmap(self, group: int, bitmap: bytes) -> None:
        """Have a block bitmap written, and its checksum put into its descriptor."""
        self._pieces.append((self._get(group, 0, 32, 4) * self._old.block_size, bitmap))
        if self._old.has_metadata_csum:
            value = crc32c(self._old.seed, bitmap[: int(self._old.clusters_per_group) // 8])
            self._set(group, 24, 56, 2, value)

    def _get(self, group: int, low: int, high: int, width: int) -> int:
        row = self._table[group]
        value = int.from_bytes(row[low : low + width].tobytes(), "little")
        if len(row) >= high + width:
            value |= int.from_bytes(row[high : high + width].tobytes(), "little") << (8 * width)
        return value

    def _set(self, group: int, low: int, high: int, width: int, value: int) -> None:
        row = self._table[group]
        raw = value.to_bytes(2 * width, "little")
        row[low : low + width] = np.frombuffer(raw[:width], dtype=np.uint8)
        if len(row) >= high + width:
            row[high : high + width] = np.frombuffer(raw[width:], dtype=np.uint8)

    def _seal_descriptors(self) -> None:
        old = self._old
        if not old.has_group_csum:
            return
        for group in range(old.group_count - 1, self._plan.groups):
            value = descriptor_checksum(old, group, self._table[group].tobytes())
            self._set(group, 30, 1 << 16, 2, value)

    def _place_descriptors(self) -> None:
        """Have the primary descriptor blocks written; the library writes the copies afterwards."""
        size = self._old.block_size
        raw = self._table.tobytes()
        for number, place in enumerate(descriptor_blocks(self._new)):
            self._pieces.append((place * size, raw[number * size : (number + 1) * size].ljust(size, b"\0")))


def _finish(device: BlockDevice) -> None:
    """Bring the resize inode into line, and write all copies of superblock and descriptors."""
    with Ext4.open(device) as filesystem:
        library, handle = filesystem.library, filesystem.handle
        raw = bytearray(filesystem.channel.read(filesystem.inode_offset(RESIZE_INODE), filesystem.inode_size))
        indirect = int.from_bytes(raw[_DIND : _DIND + 4], "little")
        if indirect >= filesystem.blocks_count:
            raise filesystem.corrupt(f"its resize inode points to block {indirect}")
        if filesystem.super.feature_compat & sb.COMPAT_RESIZE_INODE:
            if indirect:
                filesystem.write_block(indirect, bytes(filesystem.block_size))
                ino.set_sectors(raw, filesystem.block_size // 512)
                filesystem.write_inode(RESIZE_INODE, raw)
            filesystem.check(library.flush_icache(handle), "grow")
            filesystem.check(library.create_resize_inode(handle), "reserve group descriptors in")
        elif indirect:
            library.block_alloc_stats_range(handle, indirect, 1, -1)
            filesystem.channel.write(filesystem.inode_offset(RESIZE_INODE), bytes(filesystem.inode_size))
            filesystem.check(library.flush_icache(handle), "grow")
        handle.contents.flags &= ~ext2.FLAG_MASTER_SB_ONLY
        filesystem.mark_changed()
