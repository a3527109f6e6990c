# SPDX-License-Identifier: Apache-2.0
"""The usage of a thin pool and its volumes, read from the pool's own metadata.

LVM2 asks the kernel, and so reports nothing for a pool that is not active. What the kernel would answer is
in the metadata: block counts in the superblock, mapped blocks in the details tree. Only these few blocks are
read, without the array code of :mod:`lamella.thin`, whose import takes longer than the whole report.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import LamellaError
from lamella.lvm.report.view import Usage

if TYPE_CHECKING:
    from lamella.block.device import BlockDevice
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.session.session import Session

BLOCK = 4096
MAGIC = 27022010
MAX_DEPTH = 16
RESERVE = 4096
"""Most metadata blocks that the kernel counts as used beyond those that are."""

PER_BITMAP = 16320
PER_INDEX_LEAF = 168
"""Entries in a bitmap block, and in a leaf of the data space map's index tree."""

_SUPER = struct.Struct("<IIQ16sQIIQQ32s96s32s96sQQII")
_ROOT = struct.Struct("<QQQQ")
_NODE = struct.Struct("<IIQIIII")
_DETAILS = struct.Struct("<QQII")
_LEAF = 2
_DETAILS_SIZE = 24


class ThinUsage:
    """The usage of the pools of a command; each pool is read once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pools: dict[tuple[str, str], PoolUsage | None] = {}

    def of(self, group: VolumeGroup, lv: LogicalVolume) -> Usage:
        """The usage of a thin pool or a thin volume; empty where its metadata cannot be read."""
        if lv.thin_pool is not None:
            own = self._pool(group, lv)
            return own.percent if own is not None else Usage()
        thin = lv.thin
        if thin is None or thin.pool not in group.lvs:
            return Usage()
        usage = self._pool(group, group.lvs[thin.pool])
        size = lv.extents * group.extent_size
        blocks = usage.mapped.get(thin.device_id) if usage is not None else None
        if usage is None or blocks is None or not size:
            return Usage()
        return Usage(min(100.0 * blocks * usage.chunk_size / size, 100.0))

    def _pool(self, group: VolumeGroup, lv: LogicalVolume) -> PoolUsage | None:
        key = (group.uuid, lv.name)
        if key not in self._pools:
            self._pools[key] = self._read(group, lv)
        return self._pools[key]

    def _read(self, group: VolumeGroup, lv: LogicalVolume) -> PoolUsage | None:
        pool = lv.thin_pool
        if pool is None or pool.metadata not in group.lvs:
            return None
        try:
            device = self._open(group, group.lvs[pool.metadata])
            chunks = lv.extents * group.extent_sectors // pool.chunk_sectors
            return fresh_usage(device, chunks, pool.chunk_size) or read_usage(device)
        except (LamellaError, struct.error, ValueError, StopIteration):
            return None  # a report goes on without these two columns

    def _open(self, group: VolumeGroup, lv: LogicalVolume) -> BlockDevice:
        from lamella.lvm.disks.volume_device import open_lv

        found = next(each for each in self._session.scan.groups if each.group is group)
        return open_lv(found, lv.name, read_only=True)


@dataclass(slots=True)
class PoolUsage:
    """Blocks of a pool; metadata in use counts the kernel's reserve, as the kernel does."""

    data_used: int
    data_total: int
    metadata_used: int
    metadata_total: int
    chunk_size: int
    """Bytes."""
    mapped: dict[int, int]
    """Mapped chunks by device id."""

    @property
    def percent(self) -> Usage:
        return Usage(
            100.0 * self.data_used / self.data_total if self.data_total else 0.0,
            100.0 * self.metadata_used / self.metadata_total if self.metadata_total else 0.0,
        )


def read_usage(device: BlockDevice) -> PoolUsage:
    """The usage that a pool's metadata records.

    Raises ``ValueError``, or the device's own error, for something that is not a pool's metadata.
    """
    fields = _SUPER.unpack_from(device.read(0, BLOCK))
    if fields[4] != MAGIC:
        raise ValueError("no thin pool metadata")
    data_blocks, data_used, _bitmap, _counts = _ROOT.unpack(fields[9])
    meta_blocks, meta_used, _bitmap, _counts = _ROOT.unpack(fields[11])
    details_root, chunk_sectors = fields[14], fields[15]
    reserve = min(RESERVE, meta_blocks // 10)
    mapped: dict[int, int] = {}
    _walk(device, details_root, mapped, 0)
    used = min(meta_used + reserve, meta_blocks)
    return PoolUsage(data_used, data_blocks, used, meta_blocks, chunk_sectors * 512, mapped)


def fresh_usage(device: BlockDevice, chunks: int, chunk_size: int) -> PoolUsage | None:
    """What the kernel reports of a new pool: it formats metadata that is all zero.

    The blocks that it then uses are the superblock, both space maps and the roots of both trees. None if the
    metadata has been formatted.
    """
    if any(device.read(0, BLOCK)):
        return None
    total = device.size // BLOCK
    bitmaps = -(-total // PER_BITMAP)
    data_bitmaps = -(-chunks // PER_BITMAP)
    leaves = -(-data_bitmaps // PER_INDEX_LEAF)
    used = 1 + bitmaps + 2 + data_bitmaps + leaves + (leaves > 1) + 1 + 2
    return PoolUsage(0, chunks, min(used + min(RESERVE, total // 10), total), total, chunk_size, {})


def _walk(device: BlockDevice, block: int, mapped: dict[int, int], depth: int) -> None:
    """Read the tree of device details under *block*."""
    if depth > MAX_DEPTH:
        raise ValueError("the details tree has a loop")
    content = device.read(block * BLOCK, BLOCK)
    _checksum, flags, _number, count, limit, size, _padding = _NODE.unpack_from(content)
    if count > limit or 32 + limit * (8 + size) > BLOCK:
        raise ValueError("a node of the details tree is damaged")
    keys = struct.unpack_from(f"<{count}Q", content, 32)
    values = 32 + 8 * limit
    if flags & _LEAF:
        if size != _DETAILS_SIZE:
            raise ValueError("a node of the details tree is damaged")
        for index, key in enumerate(keys):
            mapped[key] = _DETAILS.unpack_from(content, values + index * size)[0]
        return
    for child in struct.unpack_from(f"<{count}Q", content, values):
        _walk(device, child, mapped, depth + 1)
