# SPDX-License-Identifier: Apache-2.0
"""What the superblock says about an ext4 file system's size and layout, and the checks against it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lamella.errors import CorruptError

if TYPE_CHECKING:
    from lamella.block import BlockDevice
    from lamella.fs.ext4.superblock import SuperBlock


class Geometry(ABC):
    """An ext4 file system in *device* whose checked superblock is *block*.

    Block numbers are in file system blocks (:attr:`block_size` bytes), inodes count from 1.
    """

    def __init__(self, device: BlockDevice, block: SuperBlock) -> None:
        self.device = device
        self.name = device.name
        self.super = block
        self.block_size: int = block.block_size
        self.blocks_count: int = block.blocks_count
        self.first_block = int(block.first_data_block)
        self.inode_size = int(block.inode_size) if block.rev_level else 128
        self.first_inode = int(block.first_ino) if block.rev_level else 11
        self.inodes_count = int(block.inodes_count)
        self.inodes_per_group = int(block.inodes_per_group)
        self.checksummed: bool = block.has_metadata_csum
        """Whether metadata blocks carry crc32c checksums (metadata_csum)."""
        self.seed: int = block.seed
        """Seed of the metadata checksums."""

    @abstractmethod
    def read_block(self, block: int, what: str) -> bytes:
        """One metadata block that *what* refers to. Raises :class:`CorruptError` outside the file system."""

    def corrupt(self, what: str) -> CorruptError:
        """The error for damage found: *what* names the place and the reason."""
        return CorruptError(
            f"the ext4 file system in {self.name} is damaged: {what}", hint="run `e2fsck -fn` on it"
        )

    def check_blocks(self, first: int, count: int, what: str) -> None:
        """Raise unless *count* blocks from *first* may hold something of *what*."""
        if first <= self.first_block or first + count > self.blocks_count:
            raise self.corrupt(f"{what} refers to {count} blocks at {first}, outside its {self.blocks_count}")

    def inode_place(self, number: int) -> tuple[int, int]:
        """(group, index in its table) of an inode."""
        if not 0 < number <= self.inodes_count:
            raise self.corrupt(f"inode {number} is outside its {self.inodes_count} inodes")
        return divmod(number - 1, self.inodes_per_group)
