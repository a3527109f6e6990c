# SPDX-License-Identifier: Apache-2.0
"""Reading ext4's fixed structures without libext2fs: superblock, descriptors, inodes by number."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lamella.fs.ext4.descriptors import check_descriptors, descriptor_field
from lamella.fs.ext4.geometry import Geometry
from lamella.fs.ext4.inode import Inode, unpack_inode
from lamella.fs.ext4.superblock import (
    INCOMPAT_FILETYPE,
    INCOMPAT_RECOVER,
    RO_COMPAT_BIGALLOC,
    read_superblock,
)

if TYPE_CHECKING:
    from lamella.block import BlockDevice

ROOT: Final = 2
_CHUNK: Final = 1 << 18
_CACHED_CHUNKS: Final = 96
_GROUP_INODES_UNUSED: Final = 0x1


class OnDisk(Geometry):
    """An ext4 file system's fixed places: superblock, descriptors, inode tables. Inode tables are
    read in batches, of which the latest are kept; nothing is written.

    Raises as :func:`lamella.fs.ext4.superblock.read_superblock`, and :class:`CorruptError` for damaged
    group descriptors.
    """

    def __init__(self, device: BlockDevice) -> None:
        super().__init__(device, read_superblock(device))
        table = check_descriptors(device, self.super)
        self.typed = bool(self.super.feature_incompat & INCOMPAT_FILETYPE)
        """Whether directory entries say of which type what they name is."""
        self.needs_recovery = bool(self.super.feature_incompat & INCOMPAT_RECOVER)
        self.tables: list[int] = descriptor_field(table, 8, 40, 4).tolist()
        """First block of each group's inode table."""
        used = self.inodes_per_group - descriptor_field(table, 28, 50, 2)
        if self.super.has_group_csum:
            used[(descriptor_field(table, 18, 1 << 16, 2) & _GROUP_INODES_UNUSED) != 0] = 0
        else:
            used[:] = self.inodes_per_group
        self.inodes_used: list[int] = used.tolist()
        """How many inodes from the start of each group's table may be in use; the rest is not even zeroed."""
        cluster = 0
        if self.super.feature_ro_compat & RO_COMPAT_BIGALLOC:
            cluster = int(self.super.log_cluster_size) - int(self.super.log_block_size)
        self.free_blocks = int(descriptor_field(table, 12, 44, 2).sum()) << cluster
        """Free blocks by the descriptors, which kernels keep better than the superblock's count."""
        self.free_inodes = int(descriptor_field(table, 14, 46, 2).sum())
        self._per_chunk = max(1, _CHUNK // self.inode_size)
        self._chunks: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def read_block(self, block: int, what: str) -> bytes:
        """One block that *what* refers to."""
        self.check_blocks(block, 1, what)
        return self.device.read(block * self.block_size, self.block_size)

    def _raw(self, number: int) -> bytes:
        group, index = self.inode_place(number)
        if index >= self.inodes_used[group]:
            raise self.corrupt(f"inode {number} lies in an unused part of group {group}")
        part, within = divmod(index, self._per_chunk)
        key = group, part
        chunk = self._chunks.get(key)
        if chunk is None:
            start = part * self._per_chunk
            count = min(self._per_chunk, self.inodes_used[group] - start)
            place = self.tables[group] * self.block_size + start * self.inode_size
            chunk = self.device.read(place, count * self.inode_size)
            self._chunks[key] = chunk
            if len(self._chunks) > _CACHED_CHUNKS:
                self._chunks.popitem(last=False)
        at = within * self.inode_size
        return chunk[at : at + self.inode_size]

    def inode(self, number: int, *, hidden: bool = False) -> Inode:
        """Read and check an inode that is in use. *hidden*: one that no directory names (an attribute's)."""
        return unpack_inode(self, number, self._raw(number), hidden=hidden)
