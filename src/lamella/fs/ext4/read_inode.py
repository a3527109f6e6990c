# SPDX-License-Identifier: Apache-2.0
"""Reading ext4's inodes by number, in batches, checked, without libext2fs.

Offsets are those of ``struct ext4_inode`` (``fs/ext4/ext4.h``; ``ext2_inode_large`` in
``ext2fs/ext2_fs.h``).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from lamella.errors import CorruptError
from lamella.fs.entry import Kind
from lamella.fs.ext4.descriptors import check_descriptors, descriptor_field
from lamella.fs.ext4.inode import EXTENTS_FL, FAST_SYMLINK, HUGE_FILE_FL, INLINE_DATA_FL, TYPES
from lamella.fs.ext4.superblock import (
    INCOMPAT_RECOVER,
    RO_COMPAT_BIGALLOC,
    SuperBlock,
    crc32c,
    read_superblock,
)

if TYPE_CHECKING:
    from lamella.block import BlockDevice

ROOT: Final = 2
KINDS: Final = {bits: kind for kind, bits in TYPES.items()}

_CORE: Final = Struct("<HHIIIIIHHIII60sIIIIHHHHHH")
"""The first 128 bytes: mode, uid, size, atime, ctime, mtime, dtime, gid, links, blocks, flags, version,
i_block, generation, file_acl, size high, (obsolete), blocks high, file_acl high, uid high, gid high,
checksum low, reserved."""
_EXTRA: Final = Struct("<HHII")
"""From byte 128: extra size, checksum high, ctime's extra field, mtime's extra field."""
_NUMBERS: Final = Struct("<II")
_CHUNK: Final = 1 << 18
_CACHED_CHUNKS: Final = 96
_SECOND: Final = 1_000_000_000
_GROUP_INODES_UNUSED: Final = 0x1


@dataclass(slots=True)
class Inode:
    """One inode in use, taken apart."""

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
        made = self.raw[144:152] if int.from_bytes(self.raw[128:130], "little") >= 24 else b""
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
        """(major, minor) of a device node, in the old 16-bit or the new 32-bit form."""
        old, new = _NUMBERS.unpack_from(self.block)
        if old:
            return (old >> 8) & 0xFF, old & 0xFF
        return (new >> 8) & 0xFFF, (new & 0xFF) | ((new >> 12) & 0xFFF00)


class OnDisk:
    """An ext4 file system's fixed places: superblock, descriptors, inode tables. Reads nothing twice
    that it holds, writes nothing.

    Raises as :func:`lamella.fs.ext4.superblock.read_superblock`, and :class:`CorruptError` for damaged
    group descriptors.
    """

    def __init__(self, device: BlockDevice) -> None:
        self.device = device
        self.name = device.name
        self.super: SuperBlock = read_superblock(device)
        table = check_descriptors(device, self.super)
        self.block_size = self.super.block_size
        self.blocks_count = self.super.blocks_count
        self.first_block = int(self.super.first_data_block)
        self.checksummed = self.super.has_metadata_csum
        self.seed = self.super.seed
        self.inode_size = int(self.super.inode_size) if self.super.rev_level else 128
        self.first_inode = int(self.super.first_ino) if self.super.rev_level else 11
        self.inodes_count = int(self.super.inodes_count)
        self.inodes_per_group = int(self.super.inodes_per_group)
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

    def corrupt(self, what: str) -> CorruptError:
        """The error for damage found: *what* names the place and the reason."""
        return CorruptError(
            f"the ext4 file system in {self.name} is damaged: {what}", hint="run `e2fsck -fn` on it"
        )

    def check_blocks(self, first: int, count: int, what: str) -> None:
        """Raise unless *count* blocks from *first* may hold something of *what*."""
        if first <= self.first_block or first + count > self.blocks_count:
            raise self.corrupt(f"{what} refers to {count} blocks at {first}, outside its {self.blocks_count}")

    def read_block(self, block: int, what: str) -> bytes:
        """One block that *what* refers to."""
        self.check_blocks(block, 1, what)
        return self.device.read(block * self.block_size, self.block_size)

    def inode_place(self, number: int) -> tuple[int, int]:
        """(group, index in its table) of an inode."""
        if not 0 < number <= self.inodes_count:
            raise self.corrupt(f"inode {number} is outside its {self.inodes_count} inodes")
        return divmod(number - 1, self.inodes_per_group)

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
        raw = self._raw(number)
        (
            mode,
            uid,
            size,
            _atime,
            _ctime,
            mtime,
            _dtime,
            gid,
            links,
            blocks,
            flags,
            _version,
            block,
            generation,
            acl,
            size_high,
            _obsolete,
            blocks_high,
            acl_high,
            uid_high,
            gid_high,
            checksum,
            _reserved,
        ) = _CORE.unpack_from(raw)
        kind = KINDS.get(mode & 0o170000)
        if kind is None or (not links and not hidden):
            raise self.corrupt(f"inode {number} is in use by a name, but is itself marked as free")
        numbers = _NUMBERS.pack(number, generation)
        extra_size = 0
        seconds = mtime - (1 << 32) if mtime & 0x80000000 else mtime
        mtime_ns = seconds * _SECOND
        checksum_high = 0
        if self.inode_size > 128:
            extra_size, checksum_high, _, mtime_extra = _EXTRA.unpack_from(raw, 128)
            if extra_size > self.inode_size - 128 or extra_size % 4:
                raise self.corrupt(f"inode {number} claims {extra_size} further bytes")
            if extra_size >= 12 and mtime_extra:
                mtime_ns = (seconds + ((mtime_extra & 3) << 32)) * _SECOND + (mtime_extra >> 2)
        seed = 0
        if self.checksummed:
            if extra_size >= 4:
                body = b"".join((numbers, raw[:124], b"\0\0", raw[126:130], b"\0\0", raw[132:]))
                fits = crc32c(self.seed, body) == checksum | checksum_high << 16
            else:
                body = b"".join((numbers, raw[:124], b"\0\0", raw[126:]))
                fits = crc32c(self.seed, body) & 0xFFFF == checksum
            if not fits:
                raise self.corrupt(f"inode {number} fails its checksum")
            if kind is Kind.DIRECTORY or flags & EXTENTS_FL:
                seed = crc32c(self.seed, numbers)
        if kind is Kind.FILE or kind is Kind.DIRECTORY:
            size |= size_high << 32
        if size >> 63:
            raise self.corrupt(f"inode {number} claims {size} bytes")
        sectors = blocks | blocks_high << 32
        if flags & HUGE_FILE_FL:
            sectors *= self.block_size // 512
        return Inode(
            number,
            kind,
            mode & 0o7777,
            uid | uid_high << 16,
            gid | gid_high << 16,
            size,
            mtime_ns,
            links,
            sectors,
            flags,
            block,
            acl | acl_high << 32,
            raw,
            seed,
        )
