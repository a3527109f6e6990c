# SPDX-License-Identifier: Apache-2.0
"""One digest of all bytes of a device, as the guest makes it and as the tests do."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PIECE = 1 << 20
"""Bytes that are looked at at once."""
ZEROS = bytes(PIECE)


def digest(pieces: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of a device that is read in *pieces* of PIECE bytes from its start.

    Of a piece of zeros only the place counts, for a device is mostly that and hashing them takes long: what
    is hashed is for each other piece its number, in 8 bytes, and then its bytes; and last the device's size.
    """
    found, size = hashlib.sha256(), 0
    for number, piece in enumerate(pieces):
        size += len(piece)
        if bytes(piece) != ZEROS[: len(piece)]:  # views are compared item by item
            found.update(number.to_bytes(8, "big"))
            found.update(piece)
    found.update(size.to_bytes(8, "big"))
    return found.hexdigest()
