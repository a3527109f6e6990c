# SPDX-License-Identifier: Apache-2.0
"""ext4's superblock, read straight from the device: what is there, is it sane, was it left cleanly.

Fields and their offsets are those of ``ext2fs/ext2_fs.h`` (the kernel's ``fs/ext4/ext4.h`` has the same).
Nothing here needs libext2fs.
"""

from __future__ import annotations

import ctypes
import uuid
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lamella.errors import CorruptError, NotFoundError, UnsupportedError
from lamella.fs.ext4.checksum import crc32c

if TYPE_CHECKING:
    from lamella.block import BlockDevice

OFFSET: Final = 1024
SIZE: Final = 1024
MAGIC: Final = 0xEF53

COMPAT_HAS_JOURNAL: Final = 0x4
COMPAT_EXT_ATTR: Final = 0x8
COMPAT_RESIZE_INODE: Final = 0x10
COMPAT_DIR_INDEX: Final = 0x20
COMPAT_SPARSE_SUPER2: Final = 0x200
INCOMPAT_FILETYPE: Final = 0x2
INCOMPAT_RECOVER: Final = 0x4
INCOMPAT_JOURNAL_DEV: Final = 0x8
INCOMPAT_META_BG: Final = 0x10
INCOMPAT_EXTENTS: Final = 0x40
INCOMPAT_64BIT: Final = 0x80
INCOMPAT_MMP: Final = 0x100
INCOMPAT_FLEX_BG: Final = 0x200
INCOMPAT_EA_INODE: Final = 0x400
INCOMPAT_CSUM_SEED: Final = 0x2000
INCOMPAT_LARGEDIR: Final = 0x4000
INCOMPAT_INLINE_DATA: Final = 0x8000
INCOMPAT_ENCRYPT: Final = 0x10000
INCOMPAT_CASEFOLD: Final = 0x20000
RO_COMPAT_SPARSE_SUPER: Final = 0x1
RO_COMPAT_LARGE_FILE: Final = 0x2
RO_COMPAT_HUGE_FILE: Final = 0x8
RO_COMPAT_GDT_CSUM: Final = 0x10
RO_COMPAT_DIR_NLINK: Final = 0x20
RO_COMPAT_EXTRA_ISIZE: Final = 0x40
RO_COMPAT_QUOTA: Final = 0x100
RO_COMPAT_BIGALLOC: Final = 0x200
RO_COMPAT_METADATA_CSUM: Final = 0x400
RO_COMPAT_PROJECT: Final = 0x2000
RO_COMPAT_ORPHAN_PRESENT: Final = 0x10000

STATE_CLEAN: Final = 1
STATE_ERRORS: Final = 2

READABLE_INCOMPAT: Final = (
    INCOMPAT_FILETYPE
    | INCOMPAT_RECOVER
    | INCOMPAT_META_BG
    | INCOMPAT_EXTENTS
    | INCOMPAT_64BIT
    | INCOMPAT_FLEX_BG
    | INCOMPAT_EA_INODE
    | INCOMPAT_CSUM_SEED
    | INCOMPAT_LARGEDIR
    | INCOMPAT_INLINE_DATA
)
"""Incompatible features whose file systems can be read."""
WRITABLE_INCOMPAT: Final = READABLE_INCOMPAT & ~(INCOMPAT_INLINE_DATA | INCOMPAT_EA_INODE)
"""Those whose file systems can be changed as well."""
WRITABLE_RO_COMPAT: Final = (
    RO_COMPAT_SPARSE_SUPER
    | RO_COMPAT_LARGE_FILE
    | RO_COMPAT_HUGE_FILE
    | RO_COMPAT_GDT_CSUM
    | RO_COMPAT_DIR_NLINK
    | RO_COMPAT_EXTRA_ISIZE
    | RO_COMPAT_METADATA_CSUM
)
"""Read-only-compatible features that the writer keeps right (no quota, bigalloc or project ids)."""

_INCOMPAT_NAMES = {
    0x1: "compression",
    INCOMPAT_JOURNAL_DEV: "journal_dev",
    INCOMPAT_MMP: "mmp",
    0x1000: "dirdata",
    INCOMPAT_INLINE_DATA: "inline_data",
    INCOMPAT_EA_INODE: "ea_inode",
    INCOMPAT_ENCRYPT: "encrypt",
    INCOMPAT_CASEFOLD: "casefold",
}
_RO_COMPAT_NAMES = {
    0x80: "has_snapshot",
    RO_COMPAT_QUOTA: "quota",
    RO_COMPAT_BIGALLOC: "bigalloc",
    0x800: "replica",
    0x1000: "read-only",
    RO_COMPAT_PROJECT: "project",
    0x4000: "shared_blocks",
    0x8000: "verity",
    RO_COMPAT_ORPHAN_PRESENT: "orphan_present",
}


class SuperBlock(ctypes.LittleEndianStructure):
    """``struct ext2_super_block``: 1024 bytes at byte 1024 of the device; names without their ``s_``."""

    _layout_ = "ms"  # which _pack_ implies; Python 3.14 and later want it said
    _pack_ = 1
    _fields_ = (
        ("inodes_count", c_uint32),
        ("blocks_count_lo", c_uint32),
        ("r_blocks_count_lo", c_uint32),
        ("free_blocks_lo", c_uint32),
        ("free_inodes_count", c_uint32),
        ("first_data_block", c_uint32),
        ("log_block_size", c_uint32),
        ("log_cluster_size", c_uint32),
        ("blocks_per_group", c_uint32),
        ("clusters_per_group", c_uint32),
        ("inodes_per_group", c_uint32),
        ("mtime", c_uint32),
        ("wtime", c_uint32),
        ("mnt_count", c_uint16),
        ("max_mnt_count", c_uint16),
        ("magic", c_uint16),
        ("state", c_uint16),
        ("errors", c_uint16),
        ("minor_rev_level", c_uint16),
        ("lastcheck", c_uint32),
        ("checkinterval", c_uint32),
        ("creator_os", c_uint32),
        ("rev_level", c_uint32),
        ("def_resuid", c_uint16),
        ("def_resgid", c_uint16),
        ("first_ino", c_uint32),
        ("inode_size", c_uint16),
        ("block_group_nr", c_uint16),
        ("feature_compat", c_uint32),
        ("feature_incompat", c_uint32),
        ("feature_ro_compat", c_uint32),
        ("uuid", c_uint8 * 16),
        ("volume_name", c_uint8 * 16),
        ("last_mounted", c_uint8 * 64),
        ("algorithm_usage_bitmap", c_uint32),
        ("prealloc_blocks", c_uint8),
        ("prealloc_dir_blocks", c_uint8),
        ("reserved_gdt_blocks", c_uint16),
        ("journal_uuid", c_uint8 * 16),
        ("journal_inum", c_uint32),
        ("journal_dev", c_uint32),
        ("last_orphan", c_uint32),
        ("hash_seed", c_uint32 * 4),
        ("def_hash_version", c_uint8),
        ("jnl_backup_type", c_uint8),
        ("desc_size", c_uint16),
        ("default_mount_opts", c_uint32),
        ("first_meta_bg", c_uint32),
        ("mkfs_time", c_uint32),
        ("jnl_blocks", c_uint32 * 17),
        ("blocks_count_hi", c_uint32),
        ("r_blocks_count_hi", c_uint32),
        ("free_blocks_hi", c_uint32),
        ("min_extra_isize", c_uint16),
        ("want_extra_isize", c_uint16),
        ("flags", c_uint32),
        ("raid_stride", c_uint16),
        ("mmp_update_interval", c_uint16),
        ("mmp_block", c_uint64),
        ("raid_stripe_width", c_uint32),
        ("log_groups_per_flex", c_uint8),
        ("checksum_type", c_uint8),
        ("encryption_level", c_uint8),
        ("reserved_pad", c_uint8),
        ("kbytes_written", c_uint64),
        ("snapshot_inum", c_uint32),
        ("snapshot_id", c_uint32),
        ("snapshot_r_blocks_count", c_uint64),
        ("snapshot_list", c_uint32),
        ("error_count", c_uint32),
        ("first_error_time", c_uint32),
        ("first_error_ino", c_uint32),
        ("first_error_block", c_uint64),
        ("first_error_func", c_uint8 * 32),
        ("first_error_line", c_uint32),
        ("last_error_time", c_uint32),
        ("last_error_ino", c_uint32),
        ("last_error_line", c_uint32),
        ("last_error_block", c_uint64),
        ("last_error_func", c_uint8 * 32),
        ("mount_opts", c_uint8 * 64),
        ("usr_quota_inum", c_uint32),
        ("grp_quota_inum", c_uint32),
        ("overhead_clusters", c_uint32),
        ("backup_bgs", c_uint32 * 2),
        ("encrypt_algos", c_uint8 * 4),
        ("encrypt_pw_salt", c_uint8 * 16),
        ("lpf_ino", c_uint32),
        ("prj_quota_inum", c_uint32),
        ("checksum_seed", c_uint32),
        ("time_his", c_uint8 * 8),
        ("encoding", c_uint16),
        ("encoding_flags", c_uint16),
        ("orphan_file_inum", c_uint32),
        ("reserved", c_uint32 * 94),
        ("checksum", c_uint32),
    )

    @property
    def block_size(self) -> int:
        """Bytes in a block."""
        return 1024 << int(self.log_block_size)

    @property
    def blocks_count(self) -> int:
        """Blocks in the file system."""
        return int(self.blocks_count_lo) | int(self.blocks_count_hi if self.is_64bit else 0) << 32

    @property
    def free_blocks_count(self) -> int:
        """Free blocks, as the superblock counts them."""
        return int(self.free_blocks_lo) | int(self.free_blocks_hi if self.is_64bit else 0) << 32

    @property
    def is_64bit(self) -> bool:
        """Whether block numbers may exceed 32 bits."""
        return bool(self.feature_incompat & INCOMPAT_64BIT)

    @property
    def descriptor_size(self) -> int:
        """Bytes in a group descriptor."""
        return int(self.desc_size) if self.is_64bit else 32

    @property
    def has_metadata_csum(self) -> bool:
        """Whether every metadata block has its crc32c."""
        return bool(self.feature_ro_compat & RO_COMPAT_METADATA_CSUM)

    @property
    def has_group_csum(self) -> bool:
        """Whether group descriptors have checksums, so that groups may be left uninitialised."""
        return bool(self.feature_ro_compat & (RO_COMPAT_METADATA_CSUM | RO_COMPAT_GDT_CSUM))

    @property
    def group_count(self) -> int:
        """Block groups in the file system."""
        return -(-(self.blocks_count - int(self.first_data_block)) // int(self.blocks_per_group))

    @property
    def seed(self) -> int:
        """Seed of all metadata checksums: crc32c of the UUID at the time of making."""
        if self.feature_incompat & INCOMPAT_CSUM_SEED:
            return int(self.checksum_seed)
        return crc32c(0xFFFFFFFF, bytes(self.uuid))


def seal(block: SuperBlock) -> None:
    """Set the superblock's own checksum (under metadata_csum; its field holds the last four bytes)."""
    if block.has_metadata_csum:
        block.checksum = crc32c(0xFFFFFFFF, bytes(block)[:-4])


@dataclass(frozen=True, slots=True)
class SuperblockState:
    """What a superblock says about how its file system was left."""

    uuid: str
    label: str
    clean: bool
    """Unmounted cleanly, no errors recorded, no journal to replay."""
    errors: bool
    """A kernel or a checker has found errors in it that were not repaired."""
    needs_recovery: bool
    """Its journal holds changes that must be replayed first: a mount was cut off."""
    size: int
    """Bytes that the file system takes of its device."""
    used_inodes: int
    """As counted when the superblock was last written; the reserved ones are among them."""


def probe(device: BlockDevice) -> str:
    """The file system in *device*: ``"ext4"`` (also for ext2 and ext3), ``"xfs"``, or ``""`` for none known.

    By magic number only: ext's 0xEF53 at byte 1080, XFS's ``XFSB`` at byte 0.
    """
    if device.size < OFFSET + SIZE:
        return ""
    head = device.read(0, OFFSET + SIZE)
    if head[:4] == b"XFSB":
        return "xfs"
    if int.from_bytes(head[OFFSET + 56 : OFFSET + 58], "little") == MAGIC:
        return "ext4"
    return ""


def read_superblock(device: BlockDevice) -> SuperBlock:
    """The checked superblock of *device*.

    Raises :class:`NotFoundError` when there is no ext file system, :class:`CorruptError` when its
    superblock is damaged, :class:`UnsupportedError` when it uses features that cannot be read.
    """
    if device.size < OFFSET + SIZE:
        raise NotFoundError(
            f"{device.name} holds no ext4 file system: it is only {device.size} bytes",
            hint="make a file system in it first",
        )
    block = SuperBlock.from_buffer_copy(device.read(OFFSET, SIZE))
    if block.magic != MAGIC:
        raise NotFoundError(
            f"{device.name} holds no ext4 file system: byte 1080 has {int(block.magic):#06x}, not 0xef53",
            hint="make a file system in it first",
        )
    problem = _problem(block, device.size)
    if problem:
        raise CorruptError(
            f"the superblock of the ext4 file system in {device.name} is damaged: {problem}",
            hint="run `e2fsck -fn` on it; `e2fsck -b 32768` uses a backup superblock",
        )
    unknown = int(block.feature_incompat) & ~READABLE_INCOMPAT
    if unknown:
        raise UnsupportedError(
            f"the ext4 file system in {device.name} uses {_names(unknown, _INCOMPAT_NAMES)}, "
            "which is not understood",
            hint="mount it with a kernel that knows the feature",
        )
    return block


def check_writable(block: SuperBlock, name: str, *, orphans: bool = False) -> None:
    """Raise unless the writer may change the file system with this superblock, which lies in *name*.

    *orphans*: deleted files that were still open do not matter, for they are about to be cleared.
    """
    beyond = _names(int(block.feature_ro_compat) & ~WRITABLE_RO_COMPAT, _RO_COMPAT_NAMES)
    beyond = beyond or _names(int(block.feature_incompat) & ~WRITABLE_INCOMPAT, _INCOMPAT_NAMES)
    if beyond:
        raise UnsupportedError(
            f"the ext4 file system in {name} uses {beyond}: it can only be read",
            hint="write to it through a kernel mount",
        )
    if not block.feature_incompat & INCOMPAT_EXTENTS or not block.feature_incompat & INCOMPAT_FILETYPE:
        raise UnsupportedError(
            f"the file system in {name} is older than ext4 (no extents): it can only be read",
            hint="write to it through a kernel mount",
        )
    if block.feature_incompat & INCOMPAT_RECOVER:
        raise CorruptError(
            f"the ext4 file system in {name} was not unmounted: its journal must be replayed first",
            hint="replay it by mounting it once, or by `e2fsck -p`",
        )
    if block.state & STATE_ERRORS or block.error_count:
        raise CorruptError(
            f"the ext4 file system in {name} has recorded errors, so it is not written to",
            hint="repair it with `e2fsck -f` first",
        )
    if block.last_orphan and not orphans:
        raise CorruptError(
            f"the ext4 file system in {name} holds deleted files that were still open (orphan inodes)",
            hint="mount it once, or run `e2fsck -p`, to clear them",
        )


def check_superblock(device: BlockDevice) -> SuperblockState:
    """How the file system in *device* was left; raises as :func:`read_superblock` for a damaged one."""
    block = read_superblock(device)
    errors = bool(block.state & STATE_ERRORS or block.error_count)
    recovery = bool(block.feature_incompat & INCOMPAT_RECOVER)
    return SuperblockState(
        uuid=str(uuid.UUID(bytes=bytes(block.uuid))),
        label=bytes(block.volume_name).rstrip(b"\0").decode("utf-8", "replace"),
        clean=bool(block.state & STATE_CLEAN) and not errors and not recovery,
        errors=errors,
        needs_recovery=recovery,
        size=block.blocks_count * block.block_size,
        used_inodes=max(0, int(block.inodes_count) - int(block.free_inodes_count)),
    )


def filesystem_uuid(device: BlockDevice) -> str:
    """UUID of the ext4 file system in *device*, in lower case with dashes."""
    return check_superblock(device).uuid


def _names(bits: int, names: dict[int, str]) -> str:
    each = [1 << number for number in range(32) if bits >> number & 1]
    if not each:
        return ""
    return "the feature " + ", ".join(names.get(bit, f"{bit:#x}") for bit in each)


def _problem(block: SuperBlock, device_size: int) -> str:
    """What is impossible about a superblock; empty if nothing is."""
    if block.has_metadata_csum:
        if block.checksum_type != 1:
            return f"checksum type {int(block.checksum_type)} is unknown"
        wanted = crc32c(0xFFFFFFFF, bytes(block)[:-4])
        if block.checksum != wanted:
            return f"its checksum is {int(block.checksum):#010x}, not {wanted:#010x}"
    if block.log_block_size > 6:
        return f"block size 2^{10 + int(block.log_block_size)} is impossible"
    size = block.block_size
    clusters = block.log_cluster_size != block.log_block_size
    if clusters and not block.feature_ro_compat & RO_COMPAT_BIGALLOC:
        return "its cluster size is not its block size"
    if block.first_data_block != (1 if size == 1024 and not clusters else 0):
        return f"first data block {int(block.first_data_block)} does not fit its block size"
    if clusters and not block.log_block_size < block.log_cluster_size <= 16:
        return f"cluster size 2^{10 + int(block.log_cluster_size)} is impossible"
    bits = 8 * size << (int(block.log_cluster_size) - int(block.log_block_size) if clusters else 0)
    if not 0 < block.blocks_per_group <= bits:
        return f"{int(block.blocks_per_group)} blocks in a group"
    if block.blocks_count <= block.first_data_block + 1:
        return f"{block.blocks_count} blocks in all"
    if block.blocks_count * size > device_size:
        return f"it counts {block.blocks_count * size} bytes, its device has {device_size}"
    inode_size = int(block.inode_size) if block.rev_level else 128
    if inode_size < 128 or inode_size > size or inode_size & (inode_size - 1):
        return f"inode size {inode_size}"
    per_group = int(block.inodes_per_group)
    if not 0 < per_group <= 8 * size or per_group % (size // inode_size):
        return f"{per_group} inodes in a group"
    if per_group // (size // inode_size) > block.blocks_per_group:
        return f"{per_group} inodes in a group of {int(block.blocks_per_group)} blocks"
    if block.inodes_count != per_group * block.group_count:
        return f"{int(block.inodes_count)} inodes in {block.group_count} groups of {per_group}"
    if block.rev_level and not 11 <= block.first_ino <= block.inodes_count:
        return f"first inode {int(block.first_ino)}"
    if block.is_64bit and not (
        64 <= block.desc_size <= 1024 and block.desc_size & (block.desc_size - 1) == 0
    ):
        return f"descriptor size {int(block.desc_size)}"
    if block.reserved_gdt_blocks > size // 4:
        return f"{int(block.reserved_gdt_blocks)} reserved descriptor blocks"
    if block.free_blocks_count > block.blocks_count or block.free_inodes_count > block.inodes_count:
        return "more is free than there is"
    if block.log_groups_per_flex > 31:
        return f"2^{int(block.log_groups_per_flex)} groups in a flexible group"
    return ""


assert ctypes.sizeof(SuperBlock) == SIZE
