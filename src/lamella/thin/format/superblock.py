# SPDX-License-Identifier: Apache-2.0
"""The superblock of dm-thin metadata: block 0, and the copy that a held metadata snapshot is.

Sources: ``struct thin_disk_superblock``, ``sb_check`` and ``__check_incompat_features`` in the kernel's
``drivers/md/dm-thin-metadata.c``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lamella.block import SECTOR
from lamella.errors import CorruptError, Remedy, UnsupportedError
from lamella.thin.format.checksum import BLOCK_SIZE, SUPERBLOCK_XOR, block_checksum, seal
from lamella.thin.format.space_map import SpaceMapRoot

LOCATION = 0
"""The block in which a pool's own superblock is."""
MAGIC = 27022010
VERSION = 2
NEEDS_CHECK = 1
"""Bit of ``flags``: the kernel refuses to write until a check has cleared it."""
METADATA_BLOCK_SECTORS = BLOCK_SIZE // SECTOR

_FIELDS = struct.Struct("<IIQ16sQIIQQ128s128sQQIIQIII")


@dataclass(slots=True)
class Superblock:
    """The fields of a superblock; block numbers count 4096-byte metadata blocks."""

    data_sm_root: SpaceMapRoot
    metadata_sm_root: SpaceMapRoot
    mapping_root: int
    details_root: int
    data_block_size: int
    """Sectors of 512 bytes in a data block (chunk)."""
    transaction_id: int = 0
    time: int = 0
    """Grows with every snapshot; says which mappings may be shared."""
    flags: int = 0
    held_root: int = 0
    """Block of the held metadata snapshot's superblock; 0: none."""
    uuid: bytes = bytes(16)
    version: int = VERSION
    metadata_block_size: int = METADATA_BLOCK_SECTORS
    metadata_nr_blocks: int = 0
    """Blocks of the metadata device when it was formatted; the space map's root has the true number."""
    compat_flags: int = 0
    compat_ro_flags: int = 0
    incompat_flags: int = 0
    blocknr: int = 0
    magic: int = MAGIC

    @property
    def needs_check(self) -> bool:
        return bool(self.flags & NEEDS_CHECK)

    def pack(self) -> bytes:
        """The sealed block (4096 bytes) to be written at block ``blocknr``."""
        block = bytearray(BLOCK_SIZE)
        _FIELDS.pack_into(
            block, 0, 0, self.flags, self.blocknr, self.uuid, self.magic, self.version, self.time,
            self.transaction_id, self.held_root, self.data_sm_root.pack(), self.metadata_sm_root.pack(),
            self.mapping_root, self.details_root, self.data_block_size, self.metadata_block_size,
            self.metadata_nr_blocks, self.compat_flags, self.compat_ro_flags, self.incompat_flags,
        )  # fmt: skip
        seal(block, SUPERBLOCK_XOR)
        return bytes(block)


def decode(block: bytes) -> Superblock:
    """The fields in *block* (4096 bytes) as they stand. Checks nothing."""
    (
        _, flags, blocknr, uuid, magic, version, time, transaction_id, held_root, data_root, metadata_root,
        mapping_root, details_root, data_block_size, metadata_block_size, metadata_nr_blocks,
        compat, compat_ro, incompat,
    ) = _FIELDS.unpack_from(block)  # fmt: skip
    return Superblock(
        SpaceMapRoot.unpack(data_root), SpaceMapRoot.unpack(metadata_root), mapping_root, details_root,
        data_block_size, transaction_id, time, flags, held_root, uuid, version, metadata_block_size,
        metadata_nr_blocks, compat, compat_ro, incompat, blocknr, magic,
    )  # fmt: skip


def is_sealed(block: bytes) -> bool:
    """Whether *block* (4096 bytes) carries the right checksum of a superblock."""
    return block_checksum(block, SUPERBLOCK_XOR) == int.from_bytes(block[:4], "little")


def faults(block: bytes, *, location: int = 0) -> list[str]:
    """What is wrong with the superblock in *block*, read from block *location*; empty when it is sound.

    A wrong checksum is reported alone, since nothing else in such a block can be relied on. The kernel never
    looks at version, flags and the size of metadata blocks (``sb_check``, ``__open_metadata``).
    """
    if not is_sealed(block):
        return ["bad checksum in superblock"]
    found = []
    fields = decode(block)
    if fields.magic != MAGIC:
        found.append(f"magic is {fields.magic}, wanted {MAGIC}")
    if fields.blocknr != location:
        found.append(f"it has the number of block {fields.blocknr}")
    if fields.data_block_size == 0:
        found.append("data blocks of 0 sectors")
    return found


def unknown_features(fields: Superblock, *, read_only: bool = True) -> str | None:
    """The reason why these feature flags forbid opening, or None. No flag is defined to this day."""
    if fields.incompat_flags:
        return f"unknown incompatible features {fields.incompat_flags:#x}"
    if fields.compat_ro_flags and not read_only:
        return f"unknown features {fields.compat_ro_flags:#x} that allow reading only"
    return None


def unpack(block: bytes, *, name: str, location: int = 0, read_only: bool = False) -> Superblock:
    """Check and read the superblock in *block* (4096 bytes), read from block *location* of device *name*.

    Raises :class:`CorruptError` for damage and :class:`UnsupportedError` for feature flags that this
    version does not know (``compat_ro`` ones only unless *read_only*).
    """
    what = f"the superblock of {name}" if location == 0 else f"the superblock in block {location} of {name}"
    if len(block) < BLOCK_SIZE:
        raise CorruptError(
            f"cannot read {what}: it has only {len(block)} bytes", steps=[Remedy.REBUILD_METADATA]
        )
    found = faults(block, location=location)
    if found:
        raise CorruptError(f"cannot use {what}: {'; '.join(found)}", steps=[Remedy.REBUILD_METADATA])
    fields = decode(block)
    reason = unknown_features(fields, read_only=read_only)
    if reason:
        raise UnsupportedError(f"cannot use {what}: {reason}", hint="a newer version made it; use that one")
    return fields
