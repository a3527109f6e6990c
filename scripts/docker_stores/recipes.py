# SPDX-License-Identifier: Apache-2.0
"""The stores and their sizes, for both the host and the guest."""

from __future__ import annotations

MODES = ("loop-lvm", "direct-lvm")
FILE_SYSTEMS = ("ext4", "xfs")
STATES = ("clean", "full", "changed", "killed")
"""In the order in which a guest makes them, each from the one before.

clean
    two images, a container that has exited and one that never ran; dockerd was stopped
full
    containers have written until the pool had no chunk left; dockerd was stopped
changed
    those are deleted, a container is committed and its image removed; dockerd was stopped
killed
    dockerd, its containerd and a container that had just written were killed, and the disk copied
"""

DATA_SIZE = {"ext4": 128 << 20, "xfs": 192 << 20}
"""Bytes of a pool's data; small, as it is filled to the last chunk. XFS has a log of 64 MiB."""
METADATA_SIZE = {"loop-lvm": 32 << 20, "direct-lvm": 20 << 20}
BASE_SIZE = {"ext4": 192 << 20, "xfs": 320 << 20}
"""dm.basesize in bytes. mkfs.xfs makes nothing below 300 MiB."""


def disk_size(fs: str) -> int:
    """Bytes of a direct-lvm disk: the pool, the spare for its metadata, and room for LVM2's metadata."""
    return DATA_SIZE[fs] + 2 * METADATA_SIZE["direct-lvm"] + (16 << 20)
