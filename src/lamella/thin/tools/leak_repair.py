# SPDX-License-Identifier: Apache-2.0
"""The two repairs that lose nothing: clearing ``needs_check``, and giving leaked blocks back.

Both end with one write of the superblock's block. Everything else is written before it, flushed, and
only into blocks that nothing refers to, so that a crash leaves either the old state or the new one. What the
new superblock will lead to is checked whole before it is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lamella.block import BlockDevice
from lamella.errors import CorruptError, NoSpaceError, ReadOnlyError, Remedy
from lamella.thin.format import superblock as superblock_format
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.tools.check import check
from lamella.thin.tools.space_map_builder import SpaceMapWriter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from lamella.thin.format.arrays import Uint8s, Uint64s
    from lamella.thin.format.superblock import Superblock
    from lamella.thin.tools.check import CheckReport


def clear_needs_check(device: BlockDevice) -> bool:
    """Clear the flag in the superblock of *device*, durably; False if it was not set.

    For metadata that a check has found sound; raises :class:`CorruptError` for a bad superblock.
    """
    fields = superblock_format.unpack(device.read(0, BLOCK_SIZE), name=device.name)
    if not fields.needs_check:
        return False
    _write_superblock(device, replace(fields, flags=fields.flags & ~superblock_format.NEEDS_CHECK))
    return True


def repair_leaks(device: BlockDevice, report: CheckReport) -> CheckReport:
    """Rewrite both space maps on *device*, with the counts that a complete check has found.

    *report* must be of a check just made, of the same device held exclusively since. Returns the report of
    the check that what was written has passed. Raises :class:`CorruptError` if *report* has anything fatal,
    or if the device reads back other data than was written, and :class:`NoSpaceError` if the new maps do
    not fit beside the old ones; the pool is unchanged then.
    """
    fields = report.superblock
    if report.fatal or not report.complete or fields is None:
        raise CorruptError(
            f"cannot repair the leaks of {device.name}: it has other damage", steps=[Remedy.CHECK_METADATA]
        )
    assert report.tree_references is not None
    assert report.metadata_references is not None
    assert report.data_references is not None
    nr_blocks = fields.metadata_sm_root.nr_blocks
    in_use = report.metadata_references.counts(0, nr_blocks) > 0
    free = _FreeBlocks(device, np.flatnonzero(~in_use).astype(np.uint64))
    writer = SpaceMapWriter(free.take, free.write)
    data_root = writer.data_map(fields.data_sm_root.nr_blocks, report.data_references)
    metadata_root = writer.metadata_map(report.tree_references.counts(0, nr_blocks))
    device.flush()
    new = replace(fields, data_sm_root=data_root, metadata_sm_root=metadata_root)
    repaired = check(_WithSuperblock(device, new.pack()))
    if repaired.fatal or repaired.space_map_faults or not repaired.complete:
        raise CorruptError(
            f"{device.name} does not return what was written to it: {repaired.problems[0]}",
            hint="see dmesg for errors of the disk; the pool is unchanged",
        )
    _write_superblock(device, new)
    return repaired


def _write_superblock(device: BlockDevice, fields: Superblock) -> None:
    device.write(superblock_format.LOCATION, fields.pack())
    device.flush()


class _WithSuperblock(BlockDevice):
    """*device* to be read as it will be with the *superblock* given."""

    def __init__(self, device: BlockDevice, superblock: bytes) -> None:
        self.device = device
        self.superblock = superblock
        self.name = device.name
        self.size = device.size
        self.read_only = True

    def read(self, offset: int, length: int) -> bytes:
        content = self.device.read(offset, length)
        if offset >= BLOCK_SIZE:
            return content
        return self.superblock[offset : offset + length] + content[BLOCK_SIZE - offset :]

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        view[:] = self.read(offset, len(view))

    def read_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        asked = list(requests)
        self.device.read_many(asked)
        for offset, buffer in asked:
            if offset < BLOCK_SIZE:
                self.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        raise ReadOnlyError(f"{self.name} is open for reading only")

    def flush(self) -> None:
        """Nothing was written."""

    def discard(self, offset: int, length: int) -> None:
        raise ReadOnlyError(f"{self.name} is open for reading only")


class _FreeBlocks:
    """The *free* blocks of *device*, to be taken and written in order."""

    def __init__(self, device: BlockDevice, free: Uint64s) -> None:
        self.device = device
        self.free = free
        self.taken = 0

    def take(self, count: int) -> Uint64s:
        """The next *count* free blocks."""
        if self.taken + count > len(self.free):
            raise NoSpaceError(
                f"cannot repair {self.device.name}: its metadata has no room for new space maps",
                steps=[Remedy.GROW_METADATA_FIRST],
            )
        self.taken += count
        return self.free[self.taken - count : self.taken]

    def write(self, blocks: Uint64s, rows: Uint8s) -> None:
        places = (blocks * np.uint64(BLOCK_SIZE)).tolist()
        self.device.write_many((place, row.tobytes()) for place, row in zip(places, rows, strict=True))
