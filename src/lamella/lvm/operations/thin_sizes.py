# SPDX-License-Identifier: Apache-2.0
"""LVM2's rules for a thin pool's chunk size and metadata size. Sizes in sectors unless named otherwise.

Authority: lib/metadata/thin_manip.c (update_thin_pool_params), libdm/libdevmapper.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import UsageError
from lamella.lvm.disks.notice import Notice
from lamella.lvm.report.units import human
from lamella.thin.format import limits

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1024 // SECTOR
MIB = 1024 * KIB
MIN_CHUNK = limits.MIN_CHUNK // SECTOR
MAX_CHUNK = limits.MAX_CHUNK // SECTOR
GENERIC_CHUNK = 64 * KIB
PERFORMANCE_CHUNK = 512 * KIB
MIN_METADATA = 2 * MIB
OPTIMAL_METADATA = 128 * MIB
ALIGNED_CHUNK = 1024 * KIB
MAX_METADATA = 255 * ((1 << 14) - 64) * 4 * KIB
"""The largest metadata that dm-thin uses."""
CROPPED_METADATA = 255 * (1 << 14) * 4 * KIB - 256 * 1024
"""What older LVM2 cut metadata to (``allocation/thin_pool_crop_metadata``)."""
MAX_SPARE = 16 * 1024 * MIB
BYTES_PER_CHUNK = 64
"""Metadata that LVM reckons with for every chunk of data."""


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """What a pool gets: chunk in sectors, metadata in extents, and the crop flag for the text."""

    chunk_sectors: int
    metadata_extents: int
    crop_metadata: bool | None


def estimate(data_extents: int, extent_sectors: int, size: int) -> int:
    """Metadata for chunks of *size*, or the chunk for metadata of *size*: the relation is symmetric."""
    return data_extents * extent_sectors // (size * (SECTOR // BYTES_PER_CHUNK))


def estimate_chunk(data_extents: int, extent_sectors: int, metadata: int) -> int:
    """The smallest chunk with which *metadata* sectors suffice, as LVM rounds it."""
    chunk = estimate(data_extents, extent_sectors, metadata)
    if chunk >= ALIGNED_CHUNK:
        chunk = _round(chunk, ALIGNED_CHUNK)
    else:
        chunk = 1 << max(chunk - 1, 0).bit_length()
    return min(max(chunk, MIN_CHUNK), MAX_CHUNK)


def check_chunk(chunk_sectors: int) -> None:
    """Raise :class:`UsageError` unless dm-thin can use the chunk size."""
    if not MIN_CHUNK <= chunk_sectors <= MAX_CHUNK:
        raise UsageError(
            f"Chunk size must be in the range {human(MIN_CHUNK * SECTOR)} to {human(MAX_CHUNK * SECTOR)}.",
            hint="give another --chunksize",
        )
    if chunk_sectors % MIN_CHUNK:
        raise UsageError(
            f"Chunk size must be a multiple of {human(MIN_CHUNK * SECTOR)}.", hint="give another --chunksize"
        )


def pool_sizes(
    data_extents: int,
    extent_sectors: int,
    say: Callable[[Notice], None],
    *,
    chunk_sectors: int = 0,
    metadata_extents: int = 0,
    existing_metadata: str = "",
    chunk_policy: str = "generic",
    crop: bool = False,
    zero: bool = True,
) -> PoolSizes:
    """Choose what was left open, check what was given, and say what LVM2 says.

    Parameters: *chunk_sectors* and *metadata_extents*, 0 to choose; *existing_metadata*, the name of
    a volume (``vg/lv``) that is to become the metadata, which is never resized; *chunk_policy*,
    "generic" or "performance"; *crop*, cut metadata to what the oldest kernels take.
    """
    maximum = CROPPED_METADATA if crop else MAX_METADATA
    chunk_sectors, metadata = _chosen(
        data_extents, extent_sectors, chunk_sectors, metadata_extents, chunk_policy, maximum, say
    )
    metadata = _bounded(
        _round(metadata, extent_sectors), maximum, extent_sectors, metadata_extents, existing_metadata, say
    )
    _check_chunk_for_data(data_extents * extent_sectors, extent_sectors, chunk_sectors, maximum, say)
    if zero and chunk_sectors >= PERFORMANCE_CHUNK:
        for text in (
            f"WARNING: Pool zeroing and {human(chunk_sectors * SECTOR)} large chunk size slows down "
            "thin provisioning.",
            "WARNING: Consider disabling zeroing (-Zn) or using smaller chunk size "
            f"(<{human(PERFORMANCE_CHUNK * SECTOR)}).",
        ):
            say(Notice("thin", text))
    cropped = crop if metadata > CROPPED_METADATA else None
    return PoolSizes(chunk_sectors, -(-metadata // extent_sectors), cropped)


def _chosen(
    data_extents: int,
    extent_sectors: int,
    chunk: int,
    metadata_extents: int,
    chunk_policy: str,
    maximum: int,
    say: Callable[[Notice], None],
) -> tuple[int, int]:
    """(chunk, metadata): what is given (not 0), and what follows from it by LVM2's rules."""
    if chunk:
        check_chunk(chunk)
    if metadata_extents:
        metadata = metadata_extents * extent_sectors
        suggested = estimate_chunk(data_extents, extent_sectors, metadata)
        if chunk and chunk < suggested:
            shown = human(suggested * SECTOR)
            say(Notice("thin", f"WARNING: Chunk size is smaller then suggested minimum size {shown}."))
        return chunk or suggested, metadata
    if chunk:
        metadata = estimate(data_extents, extent_sectors, chunk)
        if metadata > maximum:
            shown = human(estimate_chunk(data_extents, extent_sectors, maximum) * SECTOR)
            say(Notice("thin", f"WARNING: Chunk size is too small for pool, suggested minimum is {shown}."))
        return chunk, metadata
    chunk = PERFORMANCE_CHUNK if chunk_policy == "performance" else GENERIC_CHUNK
    metadata = estimate(data_extents, extent_sectors, chunk)
    while metadata > OPTIMAL_METADATA and chunk < MAX_CHUNK:
        chunk <<= 1
        metadata >>= 1
    return chunk, metadata


def _check_chunk_for_data(
    data: int, extent_sectors: int, chunk: int, maximum: int, say: Callable[[Notice], None]
) -> None:
    """Raise unless *data* sectors have room in chunks of this size, as many as metadata can count."""
    largest = maximum * chunk * (SECTOR // BYTES_PER_CHUNK)
    shown = human(chunk * SECTOR)
    if largest // extent_sectors * extent_sectors < data:
        raise UsageError(
            f"Selected chunk size {shown} cannot address more then {human(largest * SECTOR)} of thin pool "
            "data space.",
            hint="give a larger --chunksize",
        )
    text = f"Thin pool volume with chunk size {shown} can address at most {human(largest * SECTOR)} of data."
    say(Notice("thin", text, level="print"))
    if chunk > data:
        raise UsageError(
            f"Size of thin-pool data volume cannot be smaller than chunk size {shown}.",
            hint="give a smaller --chunksize or a larger pool",
        )


def _bounded(
    metadata: int,
    maximum: int,
    extent_sectors: int,
    given_extents: int,
    existing: str,
    say: Callable[[Notice], None],
) -> int:
    """The size that metadata gets between the smallest and the largest that LVM2 creates."""
    largest, smallest = _round(maximum, extent_sectors), _round(MIN_METADATA, extent_sectors)
    bounded = min(max(metadata, smallest), largest)
    if metadata == bounded:
        return metadata
    shown, limit = human(metadata * SECTOR), human(bounded * SECTOR)
    if existing and metadata < smallest:
        raise UsageError(
            f"Can't use volume {existing} with size {shown} as pool metadata. "
            f"Minimal required size is {limit}.",
            hint="give a larger --poolmetadata volume",
        )
    text = ""
    if existing:
        text = f"Size {shown} of pool metadata volume {existing} is bigger then maximum usable size {limit}."
    elif given_extents and metadata > largest:
        text = f"Reducing pool metadata size {shown} to maximum usable size {limit}."
    elif given_extents:
        text = f"Extending pool metadata size {shown} to required minimal size {limit}."
    if text:
        say(Notice("thin", text, level="print"))
    return metadata if existing else bounded


def _round(size: int, step: int) -> int:
    return -(-size // step) * step
