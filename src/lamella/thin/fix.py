# SPDX-License-Identifier: Apache-2.0
"""The two repairs that lose nothing: clearing ``needs_check``, and giving leaked blocks back.

Both end with one write of the superblock's block. Everything else is written before it, flushed, and
only into blocks that nothing refers to, so that a crash leaves either the old state or the new one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import CorruptError, NoSpaceError
from lamella.thin import superblock as superblock_format
from lamella.thin.checksum import BLOCK_SIZE
from lamella.thin.problems import REPAIR_HINT
from lamella.thin.space_map_build import SpaceMapWriter

if TYPE_CHECKING:
    import numpy.typing as npt

    from lamella.block import BlockDevice
    from lamella.thin.check import CheckReport
    from lamella.thin.superblock import Superblock


def clear_needs_check(device: BlockDevice) -> bool:
    """Clear the flag in the superblock of *device*, durably; False if it was not set.

    For metadata that a check has found sound; raises :class:`CorruptError` for a bad superblock.
    """
    fields = superblock_format.unpack(device.read(0, BLOCK_SIZE), name=device.name)
    if not fields.needs_check:
        return False
    _write_superblock(device, replace(fields, flags=fields.flags & ~superblock_format.NEEDS_CHECK))
    return True


def repair_leaks(device: BlockDevice, report: CheckReport) -> None:
    """Write both space maps anew on *device*, with the counts that a complete check has found.

    *report* must be of a check just made, of the same device held exclusively since. Raises
    :class:`CorruptError` if that check found anything fatal, and :class:`NoSpaceError` if the new maps
    do not fit beside the old ones; the device is unchanged then.
    """
    fields = report.superblock
    if report.fatal or not report.complete or fields is None:
        raise CorruptError(f"cannot repair the leaks of {device.name}: it has other damage", hint=REPAIR_HINT)
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
    _write_superblock(device, replace(fields, data_sm_root=data_root, metadata_sm_root=metadata_root))


def _write_superblock(device: BlockDevice, fields: Superblock) -> None:
    device.write(superblock_format.LOCATION, fields.pack())
    device.flush()


class _FreeBlocks:
    """The *free* blocks of *device*, to be taken and written in order."""

    def __init__(self, device: BlockDevice, free: npt.NDArray[np.uint64]) -> None:
        self.device = device
        self.free = free
        self.taken = 0

    def take(self, count: int) -> npt.NDArray[np.uint64]:
        """The next *count* free blocks."""
        if self.taken + count > len(self.free):
            raise NoSpaceError(
                f"cannot repair {self.device.name}: its metadata has no room for new space maps",
                hint="grow the metadata device first",
            )
        self.taken += count
        return self.free[self.taken - count : self.taken]

    def write(self, blocks: npt.NDArray[np.uint64], rows: npt.NDArray[np.uint8]) -> None:
        places = (blocks * np.uint64(BLOCK_SIZE)).tolist()
        self.device.write_many((place, row.tobytes()) for place, row in zip(places, rows, strict=True))
