# SPDX-License-Identifier: Apache-2.0
"""A FUSE file system whose files are block devices, by the kernel's own protocol (``linux/fuse.h``)."""

from lamella.services.fuse.server import FuseServer

__all__ = ["FuseServer"]
