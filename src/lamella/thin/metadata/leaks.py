# SPDX-License-Identifier: Apache-2.0
"""Leaked space: blocks that a pool's space maps count more often than its trees refer to them.

The kernel allocates a data block, and maps it to a thin device only after the block's content is written. A
commit that another write triggers can fall between the two, and a power cut right after it. The block is then
allocated and not mapped: no data is lost or at risk, but the space is not usable until the space maps are
rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.units import human_size


@dataclass(frozen=True, slots=True)
class Leaks:
    """How much has leaked."""

    data_chunks: int
    """Data blocks that are counted, and that no device maps."""
    metadata_blocks: int
    """Metadata blocks that are counted, and that nothing refers to."""
    counted_too_high: int
    """Data and metadata blocks that are in use, but counted too often: lost once they are deleted."""
    chunk_size: int
    """Bytes of a data block."""

    @property
    def data_bytes(self) -> int:
        return self.data_chunks * self.chunk_size

    @property
    def metadata_bytes(self) -> int:
        return self.metadata_blocks * BLOCK_SIZE

    def __bool__(self) -> bool:
        return bool(self.data_chunks or self.metadata_blocks or self.counted_too_high)

    def __str__(self) -> str:
        """The amount in words: "196.6kB of data (3 chunks) and 4.096kB of metadata (1 block)"."""
        parts = []
        if self.data_chunks:
            parts.append(f"{human_size(self.data_bytes)} of data ({_count(self.data_chunks, 'chunk')})")
        if self.metadata_blocks:
            shown = _count(self.metadata_blocks, "block")
            parts.append(f"{human_size(self.metadata_bytes)} of metadata ({shown})")
        lost = " and ".join(parts) or "nothing yet"
        if not self.counted_too_high:
            return lost
        return f"{lost}; {_count(self.counted_too_high, 'block')} in use, but counted too often"

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "data_chunks": self.data_chunks,
            "data_bytes": self.data_bytes,
            "metadata_blocks": self.metadata_blocks,
            "metadata_bytes": self.metadata_bytes,
            "counted_too_high": self.counted_too_high,
        }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
