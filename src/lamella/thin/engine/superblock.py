# SPDX-License-Identifier: Apache-2.0
"""The superblock of metadata that a pool is to run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import CorruptError, UsageError
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.superblock import unpack

if TYPE_CHECKING:
    from lamella.block import BlockDevice
    from lamella.thin.format.superblock import Superblock


def read_superblock(device: BlockDevice, read_only: bool) -> Superblock:
    """The superblock of *device*, which has to be large enough for the metadata that it describes.

    Raises :class:`CorruptError`, :class:`UsageError` for a device that is too small, and
    :class:`UnsupportedError` for feature flags that are not known.
    """
    if device.size < BLOCK_SIZE:
        raise CorruptError(
            f"cannot read the superblock of {device.name}: it has only {device.size} bytes",
            hint="give the pool's metadata device",
        )
    block = device.read(0, BLOCK_SIZE)
    fields = unpack(block, name=device.name, read_only=read_only)
    needed = fields.metadata_sm_root.nr_blocks
    if needed * BLOCK_SIZE > device.size:
        raise UsageError(
            f"the metadata device {device.name} is too small: it has {device.size // BLOCK_SIZE} blocks, "
            f"its metadata expects {needed}",
            hint="it was truncated or is another device; restore its size",
        )
    return fields
