# SPDX-License-Identifier: Apache-2.0
"""XFS's superblock: what it is, how large, whose snapshot.

Offsets and numbers are those of the XFS Algorithms & Data Structures document (``xfs_dsb``), big endian.
"""

from __future__ import annotations

import uuid as uuids
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

import google_crc32c

from lamella.errors import CorruptError, NotFoundError

if TYPE_CHECKING:
    from lamella.block import BlockDevice

MAGIC: Final = b"XFSB"
_HEAD: Final = Struct(">4sIQQQ16sQ")
"""Magic, block size, data blocks, realtime blocks and extents, UUID, first block of the log."""
_SHAPE: Final = Struct(">IIIIIHH")
"""From byte 80: realtime extent size, blocks in an allocation group, groups, (one more), log blocks,
version, sector size."""
_INODES: Final = Struct(">QQ")
"""From byte 128: allocated inodes, and how many of these are free."""
_AG_BLOCK_LOG: Final = 124
_CHECKSUM: Final = slice(224, 228)
_INCOMPAT: Final = 216
_NEEDS_REPAIR: Final = 0x10
_VERSION_5: Final = 5
_SMALLEST_SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class SuperBlock:
    """What is used of it. Sizes are in bytes."""

    uuid: str
    block_size: int
    blocks: int
    log_start: int
    """Offset of the log on the device; 0 if it is on another one."""
    log_size: int
    needs_repair: bool
    used_inodes: int
    """As counted when the log was last empty."""

    @property
    def size(self) -> int:
        """Bytes of the whole file system."""
        return self.blocks * self.block_size


def read_superblock(device: BlockDevice) -> SuperBlock:
    """Raises :class:`NotFoundError` where there is no XFS, and :class:`CorruptError` for a damaged one."""
    raw = device.read(0, min(4096, device.size))
    if raw[:4] != MAGIC or len(raw) < _SMALLEST_SECTOR:
        raise NotFoundError(f"there is no XFS file system in {device.name}", hint="check the device")
    _, block_size, blocks, _, _, uuid, log_start = _HEAD.unpack_from(raw)
    _, group_blocks, _, _, log_blocks, version, sector = _SHAPE.unpack_from(raw, 80)
    if not (
        _SMALLEST_SECTOR <= sector <= len(raw) and sector & (sector - 1) == 0 and 512 <= block_size <= 65536
    ):
        raise _damaged(device, f"sectors of {sector} and blocks of {block_size} bytes are impossible")
    repair = False
    if version & 15 == _VERSION_5:
        body = bytearray(raw[:sector])
        stored = int.from_bytes(body[_CHECKSUM], "little")
        body[_CHECKSUM] = bytes(4)
        wanted = google_crc32c.value(bytes(body))
        if stored != wanted:
            raise _damaged(device, f"its checksum is {stored:#010x}, not {wanted:#010x}")
        repair = bool(int.from_bytes(raw[_INCOMPAT : _INCOMPAT + 4], "big") & _NEEDS_REPAIR)
    allocated, free = _INODES.unpack_from(raw, 128)
    group, within = divmod(log_start, 1 << raw[_AG_BLOCK_LOG])
    return SuperBlock(
        str(uuids.UUID(bytes=uuid)),
        block_size,
        blocks,
        (group * group_blocks + within) * block_size,
        log_blocks * block_size,
        repair,
        max(0, allocated - free),
    )


def _damaged(device: BlockDevice, reason: str) -> CorruptError:
    return CorruptError(
        f"the XFS superblock in {device.name} is damaged: {reason}", hint="run `xfs_repair -n` on the device"
    )
