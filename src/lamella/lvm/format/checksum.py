# SPDX-License-Identifier: Apache-2.0
"""LVM2's checksum: the common CRC-32 without its final inversion, started from LVM's own value.

Authority: lib/misc/crc.c. zlib inverts the running value on the way in and out, so undoing both
inversions gives the same number at zlib's speed.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

INITIAL = 0xF597A6CF


def lvm_crc(data: Buffer, start: int = INITIAL) -> int:
    """The checksum of *data*; give an earlier result as *start* to go on from there."""
    return zlib.crc32(data, start ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
