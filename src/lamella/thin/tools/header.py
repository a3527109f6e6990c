# SPDX-License-Identifier: Apache-2.0
"""What a dump says of a pool as a whole, and the values that a user gives in place of the superblock's.

As in thin-provisioning-tools 1.x, a transaction id or a number of data blocks that is given only ever
enlarges what is known: a smaller one would make ids that the kernel gives again, or cut mappings off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block import SECTOR
from lamella.errors import UsageError
from lamella.thin.format.limits import MAX_CHUNK, MIN_CHUNK
from lamella.thin.format.superblock import NEEDS_CHECK

if TYPE_CHECKING:
    from lamella.thin.metadata.reader import Metadata


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values to write instead of the superblock's; None leaves them.

    Of ``transaction_id`` and ``nr_data_blocks`` the larger one is used, given or found.
    """

    transaction_id: int | None = None
    data_block_size: int | None = None
    """Sectors of 512 bytes."""
    nr_data_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What a dump says of the pool as a whole."""

    time: int
    transaction_id: int
    flags: int
    version: int
    data_block_size: int
    """Sectors of 512 bytes."""
    nr_data_blocks: int

    def override(self, overrides: Overrides) -> Header:
        """This header with *overrides*. Raises :class:`UsageError` for a data block size given wrong."""
        size = self.data_block_size
        if overrides.data_block_size is not None:
            size = overrides.data_block_size
            check_data_block_size(size)
        return Header(
            self.time,
            max(self.transaction_id, overrides.transaction_id or 0),
            self.flags,
            self.version,
            size,
            max(self.nr_data_blocks, overrides.nr_data_blocks or 0),
        )


def header_of(metadata: Metadata, overrides: Overrides) -> Header:
    """The header for *metadata*. A held snapshot knows no number of data blocks; it says 0."""
    fields = metadata.superblock
    found = Header(
        fields.time, fields.transaction_id, fields.flags & NEEDS_CHECK, fields.version,
        fields.data_block_size, fields.data_sm_root.nr_blocks,
    )  # fmt: skip
    return found.override(overrides)


def is_data_block_size(sectors: int) -> bool:
    """Whether the kernel takes data blocks of *sectors* (``pool_ctr``)."""
    return MIN_CHUNK <= sectors * SECTOR <= MAX_CHUNK and not sectors * SECTOR % MIN_CHUNK


def check_data_block_size(sectors: int) -> None:
    """Raise :class:`UsageError` unless :func:`is_data_block_size`."""
    if not is_data_block_size(sectors):
        raise UsageError(
            f"invalid data block size: {sectors} sectors",
            hint=f"the kernel takes multiples of {MIN_CHUNK // SECTOR} from {MIN_CHUNK // SECTOR} to "
            f"{MAX_CHUNK // SECTOR}; name the right one with --data-block-size",
        )
