# SPDX-License-Identifier: Apache-2.0
"""Device-mapper names as Docker's driver makes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def device_prefix(root: Path) -> str:
    """``docker-MAJOR:MINOR-INODE`` of the driver's folder, which begins the name of every device.

    Moving or restoring the folder changes the names; nothing on disk depends on them.
    """
    found = os.stat(root)
    return f"docker-{os.major(found.st_dev)}:{os.minor(found.st_dev)}-{found.st_ino}"


def device_name(root: Path, name: str) -> str:
    """The device-mapper name of the device *name* ("base", or 64 hexadecimal digits)."""
    return f"{device_prefix(root)}-{name}"


def pool_name(root: Path) -> str:
    """The device-mapper name of the pool."""
    return f"{device_prefix(root)}-pool"
