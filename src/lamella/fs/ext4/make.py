# SPDX-License-Identifier: Apache-2.0
"""Making an ext4 file system in a block device: what mke2fs makes, at next to no cost in a thin pool.

Only what means something is written: superblocks and descriptors with their copies, the bitmaps that
cannot be derived, the first inodes, the root directory and the head of the journal. Inode tables and
the journal's body stay unwritten. ``docs/decisions/010-libext2fs-by-ctypes.md`` says why that is right,
also in a pool that does not zero its chunks.
"""

from __future__ import annotations

import ctypes
import os
import struct
import uuid as uuids
from ctypes import byref
from typing import TYPE_CHECKING, Any, Final

from lamella import clock
from lamella.closing import on_error
from lamella.errors import ReadOnlyError, UsageError
from lamella.fs.ext4 import library as ext2
from lamella.fs.ext4 import superblock as sb
from lamella.fs.ext4.checksum import crc32c
from lamella.fs.ext4.filesystem import ROOT_INODE, Ext4
from lamella.fs.ext4.io_manager import Channel
from lamella.fs.ext4.mkfs_options import MkfsOptions, parse_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.block import BlockDevice

BAD_BLOCKS_INODE: Final = 1
JOURNAL_INODE: Final = 8
SMALL: Final = 512 << 20
"""Below this many bytes mke2fs gives an inode to every 4096 bytes instead of every 16384."""
BIG: Final = 4 << 40
HUGE: Final = 16 << 40
MIN_GROWTH: Final = 256 << 30
"""Descriptors are reserved for growing at least so far, and at least 16 times ..."""
GROWTH_FACTOR: Final = 16
LOST_AND_FOUND: Final = 16384
_HALF_MD4 = 1
_SIGNED_HASH = 1
_MOUNT_XATTR_ACL = 0x4 | 0x8


def make_ext4(
    device: BlockDevice,
    *,
    uuid: str | None = None,
    label: str = "",
    mkfs_args: Sequence[str] = (),
    prezeroed: bool = True,
) -> None:
    """Make an ext4 file system as large as *device*, over whatever is in it.

    *uuid* and *label* (at most 16 bytes) go before ``-U`` and ``-L`` of *mkfs_args*, which are mke2fs's
    options (``-b -i -I -N -m -O -E -L -U -J -G``). *prezeroed* promises that what has never been written
    reads as zeros; without it nothing is relied on. The device is not flushed.

    Raises :class:`UsageError` for invalid options or a device that is too small.
    """
    if device.read_only:
        raise ReadOnlyError(f"{device.name} is open for reading only", hint="open it for writing")
    options = parse_options(mkfs_args)
    if label:
        options.label = label.encode()
        if len(options.label) > 16:
            raise UsageError(f"label {label!r} is longer than 16 bytes", hint="choose a shorter label")
    if uuid is not None:
        try:
            options.uuid = uuids.UUID(uuid)
        except ValueError:
            raise UsageError(f"{uuid!r} is not a UUID", hint="leave it out to get a new one") from None
    parameters = _parameters(device, options)
    library = ext2.load()
    channel = Channel(device, fresh=True)
    handle = ctypes.POINTER(ext2.FileSystem)()
    flags = ext2.FLAG_RW | ext2.FLAG_64BITS
    code = library.initialize(b"lamella", flags, byref(parameters), channel.manager, byref(handle))
    channel.check()
    if code:
        if handle:
            library.free(handle)
        raise UsageError(
            f"cannot make an ext4 file system of {device.size} bytes in {device.name}: "
            f"{library.message(code)}",
            hint="choose a larger size or other mkfs options",
        )
    filesystem = _new_handle(device, channel, handle, options)
    with filesystem:
        _fill(filesystem, options, prezeroed)


def _parameters(device: BlockDevice, options: MkfsOptions) -> sb.SuperBlock:
    """The partly filled superblock from which ``ext2fs_initialize`` takes its parameters."""
    size = options.block_size
    blocks = device.size // size
    if blocks < 64:
        raise UsageError(
            f"{device.name} has {device.size} bytes: too small for an ext4 file system",
            hint=f"it needs at least {64 * size} bytes",
        )
    if blocks > 0xFFFFFFFF and "64bit" not in options.features:
        raise UsageError(
            f"{device.name} has {blocks} blocks: more than 2^32 need the 64bit feature",
            hint="leave -O ^64bit out",
        )
    ratio = options.inode_ratio
    if ratio is None:
        steps = ((SMALL, 4096), (BIG, 16384), (HUGE, 32768))
        ratio = next((ratio for limit, ratio in steps if device.size < limit), 65536)
    inodes = options.inode_count or min(max(device.size // max(ratio, size), 16), 0xFFFFFFFF)
    block = sb.SuperBlock()
    block.rev_level = 1
    block.log_block_size = block.log_cluster_size = size.bit_length() - 11
    block.blocks_count_lo = blocks & 0xFFFFFFFF
    block.blocks_count_hi = blocks >> 32
    block.feature_compat = options.mask("compat")
    block.feature_incompat = options.mask("incompat")
    block.feature_ro_compat = options.mask("ro_compat")
    reserved = int(blocks * options.reserved_percent / 100)
    block.r_blocks_count_lo, block.r_blocks_count_hi = reserved & 0xFFFFFFFF, reserved >> 32
    block.inodes_count = inodes
    block.inode_size = options.inode_size
    if options.inode_size > 128:
        block.min_extra_isize = block.want_extra_isize = 32
    if "64bit" in options.features:
        block.desc_size = 64
    if "flex_bg" in options.features:
        block.log_groups_per_flex = options.groups_per_flex.bit_length() - 1
    block.raid_stride = options.stride
    block.raid_stripe_width = options.stripe_width
    if "resize_inode" in options.features:
        block.reserved_gdt_blocks = _reserved_descriptor_blocks(blocks, options)
        if not block.reserved_gdt_blocks:
            block.feature_compat &= ~sb.COMPAT_RESIZE_INODE
    return block


def _reserved_descriptor_blocks(blocks: int, options: MkfsOptions) -> int:
    """Blocks to keep free after the group descriptors, for those of groups that growing will add.

    mke2fs reserves for growing 1024 times. Each reserved block is written (it lists its copies), which
    costs 4 MiB in a pool, so by default we reserve less: growing on from there takes meta_bg.
    """
    size = options.block_size
    target = max(MIN_GROWTH // size, blocks * GROWTH_FACTOR)
    if options.resize_blocks is not None:
        target = options.resize_blocks
        if target <= blocks:
            raise UsageError(
                f"-E resize={target}: not larger than the file system's {blocks} blocks",
                hint="leave it out, or give a larger number of blocks",
            )
    per_group = 8 * size
    per_block = size // (64 if "64bit" in options.features else 32)
    per_descriptor_block = per_group * per_block
    have = -(-blocks // per_descriptor_block)
    if "64bit" not in options.features:
        target = min(target, 0xFFFFFFFF)
    want = -(-target // per_descriptor_block)
    return max(0, min(want - have, size // 4))


def _new_handle(device: BlockDevice, channel: Channel, handle: Any, options: MkfsOptions) -> Ext4:
    """Fill in what identifies the file system, before anything is checksummed with it."""
    library = ext2.load()
    block = handle.contents.super.contents
    identity = uuids.uuid4() if options.uuid is None else options.uuid
    seed = uuids.uuid4() if options.hash_seed is None else options.hash_seed
    block.uuid[:] = identity.bytes
    block.hash_seed[:] = struct.unpack("<4I", seed.bytes)
    block.volume_name[:] = options.label.ljust(16, b"\0")
    block.checksum_type = 1 if block.has_metadata_csum else 0
    if block.feature_incompat & sb.INCOMPAT_CSUM_SEED:
        block.checksum_seed = crc32c(0xFFFFFFFF, identity.bytes)
    library.init_csum_seed(handle)
    now = int(clock.now())
    block.mkfs_time = block.lastcheck = block.wtime = now & 0xFFFFFFFF
    block.max_mnt_count = 0xFFFF  # never force a check at mount
    block.checkinterval = 0
    block.errors = 1
    block.def_hash_version = _HALF_MD4
    block.flags = _SIGNED_HASH
    block.default_mount_opts = _MOUNT_XATTR_ACL
    filesystem = Ext4(device, channel, handle, read_only=False)
    with on_error(filesystem.abandon):
        filesystem.check(library.allocate_tables(handle), "lay out")
    return Ext4(device, channel, handle, read_only=False)


def _fill(filesystem: Ext4, options: MkfsOptions, prezeroed: bool) -> None:
    library, handle = filesystem.library, filesystem.handle
    check = filesystem.check
    _inode_tables(filesystem, prezeroed)
    check(library.mkdir(handle, ROOT_INODE, ROOT_INODE, None), "make the root directory of")
    check(library.mkdir(handle, ROOT_INODE, 0, b"lost+found"), "make lost+found in")
    lost = ctypes.c_uint32()
    check(library.lookup(handle, ROOT_INODE, b"lost+found", 10, None, byref(lost)), "find lost+found in")
    for _ in range(min(LOST_AND_FOUND // filesystem.block_size, 12) - 1):
        check(library.expand_dir(handle, lost.value), "make lost+found in")
    for number in (BAD_BLOCKS_INODE, *range(ROOT_INODE + 1, filesystem.first_inode)):
        library.inode_alloc_stats2(handle, number, 1, 0)
    check(library.update_bb_inode(handle, None), "make the list of bad blocks of")
    if filesystem.super.feature_compat & sb.COMPAT_RESIZE_INODE:
        check(library.create_resize_inode(handle), "reserve group descriptors in")
    if filesystem.super.feature_compat & sb.COMPAT_HAS_JOURNAL:
        _journal(filesystem, options)
    check(library.flush_icache(handle), "write the inodes of")
    _own_modes(filesystem, lost.value, options)
    filesystem.mark_changed()


def _inode_tables(filesystem: Ext4, prezeroed: bool) -> None:
    """Mark the inode tables as needing no zeroing, and zero those that would be read unwritten.

    With descriptor checksums no inode block is read past a group's ``itable_unused``. Without them
    whole tables are read, so they must be zeros.
    """
    library, handle = filesystem.library, filesystem.handle
    if filesystem.super.has_group_csum:
        for group in range(len(filesystem.inode_tables)):
            library.bg_flags_set(handle, group, ext2.BG_INODE_ZEROED)
            library.group_desc_csum_set(handle, group)
    elif not prezeroed:
        for place in filesystem.inode_tables:
            filesystem.device.write_zeros(
                place * filesystem.block_size, filesystem.itable_blocks * filesystem.block_size
            )


def _journal(filesystem: Ext4, options: MkfsOptions) -> None:
    """Make the journal next to the root directory; only its superblock is written.

    Its first sequence number is random: should unwritten journal blocks show an old journal's remains
    (in a pool that does not zero), none will be taken for the continuation of this one.
    """
    library, handle = filesystem.library, filesystem.handle
    if options.journal_size is not None:
        blocks = (options.journal_size << 20) // filesystem.block_size
        if not 1024 <= blocks <= filesystem.blocks_count // 2:
            raise UsageError(
                f"a journal of {options.journal_size} MiB is {blocks} blocks; it must have 1024 at least "
                f"and {filesystem.blocks_count // 2} at most in {filesystem.name}",
                hint="choose another -J size=",
            )
    else:
        blocks = library.default_journal_size(filesystem.blocks_count)
        if blocks < 0 or blocks > filesystem.blocks_count // 2:
            filesystem.super.feature_compat &= ~sb.COMPAT_HAS_JOURNAL
            return
    goal = filesystem.inode_tables[0] + filesystem.itable_blocks
    flags = ext2.MKJOURNAL_LAZYINIT | ext2.MKJOURNAL_NO_MNT_CHECK
    filesystem.check(library.add_journal_inode2(handle, blocks, goal, flags), "make the journal of")
    filesystem.check(library.flush_icache(handle), "make the journal of")
    place = ctypes.c_uint64()
    code = library.bmap2(handle, JOURNAL_INODE, None, None, 0, 0, None, byref(place))
    filesystem.check(code, "find the journal of")
    head = bytearray(filesystem.read_block(place.value))
    head[24:28] = (int.from_bytes(os.urandom(4), "big") | 1).to_bytes(4, "big")
    filesystem.write_block(place.value, head)


def _own_modes(filesystem: Ext4, lost: int, options: MkfsOptions) -> None:
    """The root directory's owner; lost+found is for root alone."""
    user, group = options.root_owner
    for number, mode in ((ROOT_INODE, 0o755), (lost, 0o700)):
        raw = filesystem.read_inode(number)
        raw[0:2] = (0o040000 | mode).to_bytes(2, "little")
        if number == ROOT_INODE:
            raw[2:4], raw[120:122] = (user & 0xFFFF).to_bytes(2, "little"), (user >> 16).to_bytes(2, "little")
            raw[24:26], raw[122:124] = (
                (group & 0xFFFF).to_bytes(2, "little"),
                (group >> 16).to_bytes(2, "little"),
            )
        filesystem.write_inode(number, raw)
    filesystem.check(filesystem.library.flush_icache(filesystem.handle), "write the inodes of")
