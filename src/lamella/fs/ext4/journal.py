# SPDX-License-Identifier: Apache-2.0
"""Replaying the journal of an ext4 file system whose mount was cut off.

The format is that of the kernel's documentation (``filesystems/ext4/journal.rst``): all numbers in it are
big-endian. libext2fs does not replay; e2fsck and the kernel do, and are the tests' oracles.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lamella.errors import CorruptError, ReadOnlyError, UnsupportedError
from lamella.fs.ext4 import superblock as sb
from lamella.fs.ext4.block_map import allocated_blocks
from lamella.fs.ext4.checksum import crc32c
from lamella.fs.ext4.descriptors import check_descriptors, descriptor_field
from lamella.fs.ext4.filesystem import Ext4
from lamella.fs.ext4.tree import Tree

if TYPE_CHECKING:
    from lamella.block import BlockDevice

MAGIC: Final = 0xC03B3998
_DESCRIPTOR, _COMMIT, _SUPERBLOCK_V2, _REVOKE = 1, 2, 4, 5
_REVOKES, _64BIT, _ASYNC, _CSUM_V2, _CSUM_V3 = 0x1, 0x2, 0x4, 0x8, 0x10
_KNOWN: Final = _REVOKES | _64BIT | _ASYNC | _CSUM_V2 | _CSUM_V3
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_CHECKSUM_AT: Final = 0xFC


@dataclass(slots=True)
class _Log:
    """A journal's shape, and what a walk through it has found."""

    blocks: list[int]
    """Where each of its blocks lies in the file system."""
    block_size: int
    first: int
    length: int
    start: int
    sequence: int
    features: int
    seed: int
    writes: list[tuple[int, int, int, bool]] = field(default_factory=list)
    """(sequence, block of the file system, journal block, whether its magic was escaped)"""
    revoked: dict[int, int] = field(default_factory=dict)
    """Block of the file system: the last sequence in which it was revoked."""

    def after(self, number: int) -> int:
        return self.first if number + 1 >= self.length else number + 1


def recover_journal(device: BlockDevice) -> int:
    """Replay the journal of the ext4 file system in *device* if it needs that; returns its transactions.

    Files that were deleted but still open are freed as well, as a mount does it. The device is flushed
    before the journal is marked as empty. Raises
    :class:`UnsupportedError` for a journal elsewhere or with fast commits, :class:`CorruptError` for one that
    makes no sense; nothing has been written then.
    """
    if device.read_only:
        raise ReadOnlyError(f"{device.name} is open for reading only", hint="open it for writing")
    block = sb.read_superblock(device)
    if not block.feature_incompat & sb.INCOMPAT_RECOVER:
        return 0
    if not block.feature_compat & sb.COMPAT_HAS_JOURNAL or not block.journal_inum:
        raise UnsupportedError(
            f"the journal of the ext4 file system in {device.name} is on another device",
            hint="mount it once with that device present",
        )
    with Ext4.open(device, read_only=True, bitmaps=False) as filesystem:
        log, head = _open(filesystem, int(block.journal_inum))
        count = _walk(filesystem, log) if log.start else 0
        pieces = _pieces(filesystem, log)
    device.write_many(pieces)
    device.flush()
    struct.pack_into(">II", head, 24, log.sequence + count + 1 & 0xFFFFFFFF, 0)
    if log.features & (_CSUM_V2 | _CSUM_V3):
        struct.pack_into(">I", head, _CHECKSUM_AT, 0)
        struct.pack_into(">I", head, _CHECKSUM_AT, crc32c(0xFFFFFFFF, head[:1024]))
    device.write(log.blocks[0] * log.block_size, head)
    _mark_recovered(device)
    device.flush()
    if sb.read_superblock(device).last_orphan:
        with Tree(Ext4.open(device, orphans=True), discard=False) as tree:
            tree.clear_orphans()
        device.flush()
    return count


def _open(filesystem: Ext4, number: int) -> tuple[_Log, bytearray]:
    """The journal in inode *number*, and its superblock's block."""
    raw = filesystem.read_inode(number)
    places: list[int] = []
    for logical, physical, length in allocated_blocks(filesystem, number, raw).runs:
        if logical != len(places):
            raise filesystem.corrupt("its journal has a hole")
        places.extend(range(physical, physical + length))
    if not places:
        raise filesystem.corrupt("its journal has no blocks")
    head = bytearray(filesystem.read_block(places[0]))
    magic, kind, _, size, length, first, sequence, start, _, _, features, _ = struct.unpack_from(">12I", head)
    if magic != MAGIC or kind not in (_SUPERBLOCK_V2, 3):
        raise filesystem.corrupt("its journal has no superblock")
    if kind == 3:
        features = 0
    if features & ~_KNOWN:
        raise UnsupportedError(
            f"the journal of the ext4 file system in {filesystem.name} uses the features "
            f"{features & ~_KNOWN:#x}, which cannot be replayed",
            hint="mount it once, or run `e2fsck -p` on it",
        )
    if size != filesystem.block_size or not 0 < first < length <= len(places) or start >= length:
        raise filesystem.corrupt("the superblock of its journal is invalid")
    if features & (_CSUM_V2 | _CSUM_V3):
        bare = bytes(head[:_CHECKSUM_AT]) + bytes(4) + bytes(head[_CHECKSUM_AT + 4 : 1024])
        if crc32c(0xFFFFFFFF, bare) != struct.unpack_from(">I", head, _CHECKSUM_AT)[0]:
            raise filesystem.corrupt("the superblock of its journal fails its checksum")
    seed = crc32c(0xFFFFFFFF, head[48:64])
    return _Log(places, size, first, length, start, sequence, features, seed), head


def _walk(filesystem: Ext4, log: _Log) -> int:
    """Collect what the complete transactions of the log wrote and revoked; returns how many there are."""
    at, sequence, count, seen = log.start, log.sequence, 0, 0
    writes: list[tuple[int, int, int, bool]] = []
    revoked: list[int] = []
    while seen < log.length:
        data = filesystem.read_block(log.blocks[at])
        magic, kind, found = struct.unpack_from(">3I", data)
        if magic != MAGIC or found != sequence:
            break
        seen += 1
        at = log.after(at)
        if kind == _DESCRIPTOR and _intact(log, data):
            for target, escaped in _tags(filesystem, log, data):
                writes.append((sequence, target, at, escaped))
                at = log.after(at)
                seen += 1
        elif kind == _REVOKE and _intact(log, data):
            revoked += _revoked(filesystem, log, data)
        elif kind == _COMMIT and _commit_intact(log, data):
            log.writes += writes
            log.revoked.update(dict.fromkeys(revoked, count))
            writes, revoked = [], []
            sequence = sequence + 1 & 0xFFFFFFFF
            count += 1
        else:
            break
    return count


def _intact(log: _Log, data: bytes) -> bool:
    """Whether a descriptor or revoke block has its checksum right (in its last four bytes)."""
    if not log.features & (_CSUM_V2 | _CSUM_V3):
        return True
    stored: int = struct.unpack_from(">I", data, len(data) - 4)[0]
    return crc32c(log.seed, data[:-4] + bytes(4)) == stored


def _commit_intact(log: _Log, data: bytes) -> bool:
    if not log.features & (_CSUM_V2 | _CSUM_V3):
        return True
    stored: int = struct.unpack_from(">I", data, 16)[0]
    return crc32c(log.seed, data[:16] + bytes(4) + data[20:]) == stored


def _tags(filesystem: Ext4, log: _Log, data: bytes) -> list[tuple[int, bool]]:
    """The blocks that a descriptor block announces: (block of the file system, escaped)."""
    wide = bool(log.features & _64BIT)
    if log.features & _CSUM_V3:
        size = 16
    else:
        size = (12 if wide else 8) + (2 if log.features & _CSUM_V2 else 0)
    end = len(data) - (4 if log.features & (_CSUM_V2 | _CSUM_V3) else 0)
    found: list[tuple[int, bool]] = []
    at = 12
    while at + size <= end:
        if log.features & _CSUM_V3:
            low, flags, high, _ = struct.unpack_from(">4I", data, at)
        else:
            low, _, flags = struct.unpack_from(">IHH", data, at)
            high = struct.unpack_from(">I", data, at + 8)[0] if wide else 0
        target = low | (high << 32 if wide else 0)
        if target >= filesystem.blocks_count:
            raise filesystem.corrupt(f"its journal writes to block {target}")
        found.append((target, bool(flags & _ESCAPED)))
        at += size + (0 if flags & _SAME_UUID else 16)
        if flags & _LAST:
            break
    return found


def _revoked(filesystem: Ext4, log: _Log, data: bytes) -> list[int]:
    used: int = struct.unpack_from(">I", data, 12)[0]
    width = 8 if log.features & _64BIT else 4
    if not 16 <= used <= len(data):
        raise filesystem.corrupt(f"a revoke block of its journal counts {used} bytes")
    return [int.from_bytes(data[at : at + width], "big") for at in range(16, used - width + 1, width)]


def _pieces(filesystem: Ext4, log: _Log) -> list[tuple[int, bytes]]:
    """The last content of each block that the log wrote and did not revoke later, with its offset."""
    newest: dict[int, tuple[int, bool]] = {}
    for sequence, target, place, escaped in log.writes:
        index = sequence - log.sequence & 0xFFFFFFFF
        if log.revoked.get(target, -1) < index:
            newest[target] = place, escaped
    pieces: list[tuple[int, bytes]] = []
    for target, (place, escaped) in sorted(newest.items()):
        data = filesystem.read_block(log.blocks[place])
        if escaped:
            data = MAGIC.to_bytes(4, "big") + data[4:]
        pieces.append((target * log.block_size, data))
    return pieces


def _mark_recovered(device: BlockDevice) -> None:
    """Clear the superblock's flag; count what is free from the descriptors, as a mount does."""
    block = sb.SuperBlock.from_buffer_copy(device.read(sb.OFFSET, sb.SIZE))
    if block.magic != sb.MAGIC:
        raise CorruptError(
            f"the journal of the ext4 file system in {device.name} has overwritten its superblock",
            hint="go back to an older snapshot",
        )
    block.feature_incompat &= ~sb.INCOMPAT_RECOVER
    sb.seal(block)
    table = check_descriptors(device, block)
    free = int(descriptor_field(table, 12, 44, 2).sum())
    block.free_blocks_lo, block.free_blocks_hi = free & 0xFFFFFFFF, free >> 32
    block.free_inodes_count = int(descriptor_field(table, 14, 46, 2).sum())
    sb.seal(block)
    device.write(sb.OFFSET, bytes(block))
