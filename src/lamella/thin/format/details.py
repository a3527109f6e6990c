# SPDX-License-Identifier: Apache-2.0
"""What a pool records of one thin device: a value of the details tree.

Source: ``struct disk_device_details`` in the kernel's ``drivers/md/dm-thin-metadata.c``.
"""

from __future__ import annotations

from typing import NamedTuple


class DeviceDetails(NamedTuple):
    """The record of one thin device, in the order of :data:`lamella.thin.format.node.DEVICE_DETAILS`."""

    mapped_blocks: int
    """Chunks that are mapped."""
    transaction_id: int
    """The pool's transaction id when the device was created."""
    creation_time: int
    snapshotted_time: int
    """Mappings older than this may be shared."""
