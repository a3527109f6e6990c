# SPDX-License-Identifier: Apache-2.0
"""Where a new physical volume's metadata areas, boot loader area and extents go, as LVM2 places them.

Metadata from byte 4096 up to the first extent, which by default lies at 1 MiB; a second area, if
wanted, at the disk's end. (lib/format_text/format-text.c: _text_pv_initialise and
_text_pv_add_metadata_area.) All numbers in bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from lamella.block.device import SECTOR
from lamella.block.sysfs import device_folder, number_attribute
from lamella.errors import NoSpaceError, UsageError
from lamella.lvm.format.label import SCAN_BYTES

PAGE = 4096
DEFAULT_ALIGNMENT = 1 << 20
DEFAULT_AREA = DEFAULT_ALIGNMENT - PAGE
MIN_AREA = 4096
MAX_COPIES = 2


@dataclass(frozen=True, slots=True)
class LayoutRequest:
    """What was asked for; 0 leaves a size to LVM's rules.

    ``pe_start`` is fixed when a physical volume is restored from a backup; else it follows from the rest.
    """

    size: int
    """How much of the disk may be used."""
    copies: int = 1
    metadata_size: int = 0
    alignment: int = 0
    alignment_offset: int = 0
    boot_size: int = 0
    pe_start: int | None = None
    boot_start: int = 0
    data_end: int = 0
    """End of the extents in a backup, which a second area must not overlap."""


@dataclass(slots=True)
class Layout:
    """The result; ``areas`` are (start, size) of the metadata areas."""

    pe_start: int
    boot_start: int = 0
    boot_size: int = 0
    areas: list[tuple[int, int]] = field(default_factory=list)


def topology(path: str) -> tuple[int, int]:
    """(alignment, offset) from a block device's limits; (1 MiB, 0) where there are none."""
    alignment, offset = DEFAULT_ALIGNMENT, 0
    try:
        number = os.stat(path).st_rdev
    except OSError:
        return alignment, offset
    base = device_folder(number)
    disk = base if (base / "queue").is_dir() else base / ".."  # a partition's queue is that of its disk
    for name in ("minimum_io_size", "optimal_io_size"):
        value = number_attribute(disk, f"queue/{name}") or 0
        if value > 0 and value % SECTOR == 0 and alignment % value:
            alignment = value
    return alignment, max(number_attribute(base, "alignment_offset") or 0, 0)


def lay_out(request: LayoutRequest, name: str, *, default_alignment: tuple[int, int]) -> Layout:
    """Place everything on the disk *name*; raises LVM2's error if it does not fit."""
    alignment = request.alignment or default_alignment[0]
    offset = request.alignment_offset or default_alignment[1]
    final = alignment + offset
    if request.size < final:
        raise UsageError(f"{name}: Data alignment must not exceed device size.", hint="use a larger disk")
    if alignment < offset:
        raise UsageError(
            f"{name}: pe_align ({alignment // SECTOR} sectors) must not be less than pe_align_offset "
            f"({offset // SECTOR} sectors)",
            hint="give a smaller --dataalignmentoffset",
        )
    if request.size < final + request.boot_size:
        raise UsageError(
            f"{name}: Bootloader area with data-aligned start must not exceed device size.",
            hint="give a smaller --bootloaderareasize",
        )
    layout = Layout(final)
    if request.pe_start is None:
        if request.boot_size:
            layout.boot_start = final
            layout.boot_size = min(-(-request.boot_size // alignment) * alignment, request.size - final)
            layout.pe_start = final + layout.boot_size
    else:
        layout.pe_start = request.pe_start
        if request.boot_size:
            end = request.boot_start + request.boot_size
            if (
                (request.boot_start and end > layout.pe_start)
                or layout.pe_start <= final
                or layout.pe_start - final < request.boot_size
            ):
                raise UsageError(
                    f"{name}: Bootloader area would overlap data area.",
                    hint="give a smaller --bootloaderareasize",
                )
            layout.boot_start = request.boot_start or final
            layout.boot_size = request.boot_size
    if request.copies >= 1:
        _first_area(request, layout, alignment, offset, name)
    if request.copies >= 2:
        _second_area(request, layout, alignment, name)
    return layout


def _first_area(request: LayoutRequest, layout: Layout, alignment: int, offset: int, name: str) -> None:
    locked = request.pe_start is not None
    limit = (layout.pe_start if locked else request.size) - layout.boot_size
    size = request.metadata_size or DEFAULT_AREA
    start = SCAN_BYTES
    if limit - start >= MIN_AREA:
        start = -(-start // PAGE) * PAGE
    if adjustment := (start + size) % alignment:
        larger = size + alignment - adjustment
        if start + larger <= limit:
            size = larger
    if offset and (start + size) % alignment == 0 and start + size + offset <= limit:
        size += offset
    if start + size > limit:
        if not locked and limit - start > alignment * 2:
            size = limit - start - alignment * 2
            if adjustment := (start + size) % alignment:
                size += alignment - adjustment
            if start + size > limit:
                raise _no_room(name, 0)
        else:
            size = limit - start
    if size < MIN_AREA:
        raise _no_room(name, 0, size)
    if not locked:
        layout.pe_start = start + size
        if layout.boot_size:
            layout.boot_start = start + size
            layout.pe_start += layout.boot_size
    layout.areas.append((start, size))


def _second_area(request: LayoutRequest, layout: Layout, alignment: int, name: str) -> None:
    limit = request.data_end or layout.pe_start
    size = request.metadata_size or DEFAULT_AREA
    if limit >= request.size:
        raise _no_room(name, 1)
    if request.size - size < limit:
        size = request.size - limit
    elif adjustment := (request.size - size) % alignment:
        larger = size + adjustment
        if larger < request.size and request.size - larger >= limit:
            size = larger
    if size < MIN_AREA:
        raise _no_room(name, 1, size)
    layout.areas.append((request.size - size, size))


def _no_room(name: str, index: int, size: int | None = None) -> NoSpaceError:
    small = ""
    if size is not None:
        small = f"Metadata area size too small: {max(size, 0)} bytes. It must be at least {MIN_AREA} bytes. "
    return NoSpaceError(
        f"{small}Not enough space available for metadata area with index {index} on PV {name}.",
        hint="give a smaller --metadatasize or --bootloaderareasize, or use a larger disk",
    )
