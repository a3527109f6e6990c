# SPDX-License-Identifier: Apache-2.0
"""A digest of a device's content, computed alike by the guest and by the tests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PIECE = 1 << 20
"""Bytes that are compared with zeros at a time."""
ZEROS = bytes(PIECE)


def digest(pieces: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of a device that is read in *pieces* of PIECE bytes from its start.

    Pieces of zeros, most of a device, are skipped for speed: hashed are the number (8 bytes, big-endian) and
    the bytes of each other piece, and at the end the device's size in bytes (8 bytes, big-endian).
    """
    found, size = hashlib.sha256(), 0
    for number, piece in enumerate(pieces):
        size += len(piece)
        if bytes(piece) != ZEROS[: len(piece)]:  # views are compared item by item
            found.update(number.to_bytes(8, "big"))
            found.update(piece)
    found.update(size.to_bytes(8, "big"))
    return found.hexdigest()
