# SPDX-License-Identifier: Apache-2.0
"""The checksum of ext4's metadata."""

from __future__ import annotations

import google_crc32c


def crc32c(seed: int, data: bytes | bytearray | memoryview) -> int:
    """ext4's crc32c: started from *seed*, with no final inversion."""
    value: int = google_crc32c.extend(seed ^ 0xFFFFFFFF, bytes(data))
    return value ^ 0xFFFFFFFF
