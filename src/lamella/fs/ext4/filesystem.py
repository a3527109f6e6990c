# SPDX-License-Identifier: Apache-2.0
"""An ext4 file system in a block device, opened through libext2fs: what readers and writers share."""

from __future__ import annotations

import ctypes
from ctypes import byref
from typing import TYPE_CHECKING, Any, Final

import google_crc32c

from lamella.closing import on_error
from lamella.errors import ReadOnlyError
from lamella.fs.ext4 import library as ext2
from lamella.fs.ext4 import superblock
from lamella.fs.ext4.descriptors import check_descriptors
from lamella.fs.ext4.geometry import Geometry
from lamella.fs.ext4.inode import CHECKSUM_HIGH, CHECKSUM_LOW, checksum_fits, inode_seed, set_checksum
from lamella.fs.ext4.io_manager import PAGE, Channel

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from lamella.block import BlockDevice

ROOT_INODE: Final = 2
_UNSIGNED_HASH = 2
"""In the superblock's flags: names are hashed as unsigned bytes."""


class Ext4(Geometry):
    """An open file system. Use :meth:`open`; close it, or use it as a context manager.

    Leaving the context by an exception abandons what was not yet written back; closing it otherwise
    writes everything to the device but does not flush the device: that is its owner's decision.
    """

    def __init__(self, device: BlockDevice, channel: Channel, handle: Any, *, read_only: bool) -> None:
        self.fields: ext2.FileSystem = handle.contents
        super().__init__(device, self.fields.super.contents)
        self.channel = channel
        self.handle = handle
        """``ext2_filsys``: give it to the functions of :attr:`library`."""
        self.library = ext2.load()
        self.read_only = read_only
        self._started_checksum = self.seed ^ 0xFFFFFFFF
        self.inode_tables: list[int] = [
            int(self.library.inode_table_loc(handle, group)) for group in range(self.super.group_count)
        ]
        """First block of each group's inode table."""
        self.itable_blocks = self.inodes_per_group * self.inode_size // self.block_size
        self._hash_version = int(self.super.def_hash_version)
        if self.super.flags & _UNSIGNED_HASH and self._hash_version <= 2:
            self._hash_version += 3
        self._hash, self._minor_hash = ctypes.c_uint32(), ctypes.c_uint32()
        self._open = True

    @classmethod
    def open(
        cls,
        device: BlockDevice,
        *,
        read_only: bool = False,
        bitmaps: bool | None = None,
        orphans: bool = False,
    ) -> Ext4:
        """Open the ext4 file system in *device*.

        *bitmaps*: load the allocation bitmaps (by default only for writing). *orphans*: also for writing
        when it holds deleted files that were still open. Raises
        :class:`NotFoundError` without a file system, :class:`CorruptError` for a damaged one or one that
        must be recovered first, :class:`UnsupportedError` for features beyond us, and
        :class:`MissingError` without libext2fs.
        """
        if device.read_only and not read_only:
            raise ReadOnlyError(f"{device.name} is open for reading only", hint="open it for writing")
        block = superblock.read_superblock(device)
        if not read_only:
            superblock.check_writable(block, device.name, orphans=orphans)
        check_descriptors(device, block)
        library = ext2.load()
        channel = Channel(device)
        handle = ctypes.POINTER(ext2.FileSystem)()
        flags = ext2.FLAG_64BITS | (0 if read_only else ext2.FLAG_RW)
        code = library.open2(b"lamella", None, flags, 0, 0, channel.manager, byref(handle))
        channel.check()
        if code:
            raise library.error(code, "open", device.name)
        # Copies of the superblock are for geometry, which stays; a kernel does not rewrite them either.
        handle.contents.flags |= ext2.FLAG_MASTER_SB_ONLY
        filesystem = cls(device, channel, handle, read_only=read_only)
        with on_error(filesystem.abandon):
            if bitmaps or (bitmaps is None and not read_only):
                filesystem.check(library.read_bitmaps(handle), "read the bitmaps of")
        return filesystem

    def check(self, code: int, doing: str) -> None:
        """Raise what a library call that returned *code* stands for; *doing* as in "read an inode of"."""
        self.channel.check()
        if code:
            raise self.library.error(code, doing, self.name)

    # -- blocks ----------------------------------------------------------------------------------

    def read_block(self, block: int, what: str = "something") -> bytes:
        """The content of one metadata block that *what* refers to (through the cache)."""
        if not 0 < block < self.blocks_count:
            raise self.corrupt(f"{what} refers to block {block}, outside its {self.blocks_count} blocks")
        return self.channel.read(block * self.block_size, self.block_size)

    def write_block(self, block: int, data: bytes | bytearray | memoryview) -> None:
        """Replace one metadata block (in the cache)."""
        if not 0 < block < self.blocks_count or len(data) != self.block_size:
            raise self.corrupt(f"block {block} is outside its {self.blocks_count} blocks")
        self.channel.write(block * self.block_size, data)

    # -- inodes ----------------------------------------------------------------------------------

    def inode_offset(self, number: int) -> int:
        """Byte offset on the device of inode *number*."""
        group, index = self.inode_place(number)
        return self.inode_tables[group] * self.block_size + index * self.inode_size

    def read_inode(self, number: int) -> bytearray:
        """The raw inode, its checksum verified."""
        raw = bytearray(self.channel.read(self.inode_offset(number), self.inode_size))
        # One that was never used has no checksum; libext2fs accepts that as well.
        if self.checksummed and any(raw) and not checksum_fits(raw, self.inode_seed(number, raw)):
            raise self.corrupt(f"inode {number} fails its checksum")
        return raw

    def write_inode(self, number: int, raw: bytearray) -> None:
        """Store a raw inode; its checksum is set here."""
        if self.checksummed:
            set_checksum(raw, self.inode_seed(number, raw))
        self.channel.write(self.inode_offset(number), raw)

    def write_new_inode(self, number: int, raw: bytearray) -> None:
        """As :meth:`write_inode`, faster, for an inode whose generation and checksum fields are 0."""
        if self.checksummed:
            extend = google_crc32c.extend
            started = extend(self._started_checksum, number.to_bytes(8, "little"))
            value = extend(started, bytes(raw)) ^ 0xFFFFFFFF
            raw[CHECKSUM_LOW] = value & 0xFF
            raw[CHECKSUM_LOW + 1] = value >> 8 & 0xFF
            if len(raw) > 128:
                raw[CHECKSUM_HIGH] = value >> 16 & 0xFF
                raw[CHECKSUM_HIGH + 1] = value >> 24
        page, within = divmod(self.inode_offset(number), PAGE)
        self.channel.edit(page)[within : within + len(raw)] = raw

    def inode_seed(self, number: int, raw: bytes | bytearray) -> int:
        """Seed for the checksums of what belongs to an inode."""
        return inode_seed(self.seed, number, raw)

    def name_hash(self, name: bytes) -> int:
        """The hash by which the hash tree of a directory orders names; its lowest bit is always clear."""
        code = self.library.dirhash(
            self._hash_version, name, len(name), self.super.hash_seed, self._hash, self._minor_hash
        )
        if code:
            self.check(code, "hash a name for")
        return self._hash.value & ~1

    # -- the end ---------------------------------------------------------------------------------

    def mark_changed(self) -> None:
        """Mark the superblock for writing by the library."""
        self.fields.flags |= ext2.FLAG_DIRTY | ext2.FLAG_CHANGED

    def write_back(self) -> None:
        """Bring everything changed to the device: bitmaps, descriptors, superblocks, cached pages."""
        if not self.read_only:
            self.check(self.library.flush2(self.handle, ext2.FLUSH_NO_SYNC), "write back")
        self.channel.write_back()

    def abandon(self) -> None:
        """Discard what has not been written back, and close."""
        if self._open:
            self._open = False
            self.channel.abandon()
            self.library.free(self.handle)

    def close(self) -> None:
        """Write back and close; closing twice is harmless."""
        if not self._open:
            return
        try:
            self.write_back()
        finally:
            self.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()
