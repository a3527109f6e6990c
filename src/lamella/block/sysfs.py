# SPDX-License-Identifier: Apache-2.0
"""What sysfs says of a block device by its number."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

SYS_DEV_BLOCK = Path("/sys/dev/block")


def block_name(major: int, minor: int) -> str | None:
    """The kernel's own name ("vdb", "dm-0"), or None if there is no such device."""
    with suppress(OSError):
        return (SYS_DEV_BLOCK / f"{major}:{minor}").readlink().name
    return None


def read_ahead(major: int, minor: int) -> int | None:
    """Sectors that are read ahead, or None if there is no such device."""
    with suppress(OSError, ValueError):
        kib = int((SYS_DEV_BLOCK / f"{major}:{minor}" / "queue" / "read_ahead_kb").read_text())
        return kib * 2
    return None
