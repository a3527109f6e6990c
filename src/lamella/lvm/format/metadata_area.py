# SPDX-License-Identifier: Apache-2.0
"""A metadata area: its header, and where in its circular buffer the next text goes. No input or output.

The area starts with a 512-byte header; the rest holds texts, one behind another, each on a
512-byte boundary, and runs on from its end to its start. The header's first slot points at the
committed text, the second at the precommitted one (lib/format_text/layout.h, format-text.c).

========  ==================================================================================
 0        u32: checksum of bytes 4 to 511
 4        16 bytes of magic; u32: version 1
 24       u64: the area's own first byte on the disk; u64: its size
 40       two slots: u64 offset in the area, u64 size (with the text's NUL), u32 checksum,
          u32 flags (1: the area is ignored)
========  ==================================================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from lamella.errors import CorruptError, NoSpaceError
from lamella.lvm.format.checksum import lvm_crc

HEADER_SIZE = 512
MAGIC = bytes.fromhex("204c564d3220785b35412572304e2a3e")
VERSION = 1
IGNORED = 1
ALIGNMENT = 512

HEADER = struct.Struct("<I16sIQQ")
SLOT = struct.Struct("<QQII")


@dataclass(slots=True)
class Slot:
    """Points at one text: offset from the area's start, size with its NUL, checksum."""

    offset: int = 0
    size: int = 0
    checksum: int = 0
    flags: int = 0

    @property
    def empty(self) -> bool:
        return not self.offset and not self.size

    @property
    def ignored(self) -> bool:
        return bool(self.flags & IGNORED)


@dataclass(slots=True)
class AreaHeader:
    """A metadata area's header; ``start`` is the area's own place on the disk, in bytes."""

    start: int
    size: int
    committed: Slot = field(default_factory=Slot)
    precommitted: Slot = field(default_factory=Slot)

    @property
    def ignored(self) -> bool:
        return self.committed.ignored

    @property
    def max_text(self) -> int:
        """Bytes in the longest text: two of them must fit, each on a boundary of its own."""
        return (self.size - HEADER_SIZE) // 2 - ALIGNMENT

    @property
    def free(self) -> int:
        """Bytes by which the present text may still grow."""
        taken = 0 if self.committed.empty or self.ignored else self.committed.size
        return max(self.max_text - taken, 0)


def unpack_header(block: bytes, start: int, name: str, warn: list[str]) -> AreaHeader:
    """Read an area's first 512 bytes. *start* is where on the disk *name* they were read.

    What is wrong is added to *warn* with LVM2's message; then :class:`CorruptError` is raised.
    """
    checksum, magic, version, own_start, size = HEADER.unpack_from(block)
    problems = []
    if checksum != lvm_crc(memoryview(block)[4:HEADER_SIZE]):
        problems.append(f"WARNING: wrong checksum {checksum:x} in mda header on {name} at {start}")
    if magic != MAGIC:
        problems.append(f"WARNING: wrong magic number in mda header on {name} at {start}")
    if version != VERSION:
        problems.append(f"WARNING: wrong version {version} in mda header on {name} at {start}")
    if own_start != start:
        problems.append(f"WARNING: wrong start sector {own_start} in mda header on {name} at {start}")
    if not problems and size < HEADER_SIZE + 2 * ALIGNMENT:
        problems.append(f"WARNING: wrong size {size} in mda header on {name} at {start}")
    if problems:
        warn += [*problems, f"WARNING: bad metadata header on {name} at {start}."]
        raise CorruptError(
            f"the metadata area of {name} at {start} has a bad header",
            hint="let vgck --updatemetadata rewrite it from another copy",
        )
    slots = [Slot(*SLOT.unpack_from(block, HEADER.size + number * SLOT.size)) for number in range(2)]
    if not slots[0].offset:
        slots[1] = Slot()
    return AreaHeader(start, size, slots[0], slots[1])


def pack_header(header: AreaHeader) -> bytes:
    """The area's 512 header bytes, with their checksum."""
    block = bytearray(HEADER_SIZE)
    HEADER.pack_into(block, 0, 0, MAGIC, VERSION, header.start, header.size)
    for number, slot in enumerate((header.committed, header.precommitted)):
        SLOT.pack_into(
            block, HEADER.size + number * SLOT.size, slot.offset, slot.size, slot.checksum, slot.flags
        )
    struct.pack_into("<I", block, 0, lvm_crc(memoryview(block)[4:]))
    return bytes(block)


def text_ranges(header: AreaHeader, slot: Slot, name: str) -> list[tuple[int, int]]:
    """(offset on the disk, length) of the one or two pieces in which *slot*'s text lies.

    Raises :class:`CorruptError` if it points outside the area.
    """
    room = header.size - HEADER_SIZE
    if not HEADER_SIZE <= slot.offset < header.size or not 0 < slot.size <= room:
        raise CorruptError(
            f"the metadata area of {name} at {header.start} points at text outside itself "
            f"(offset {slot.offset}, size {slot.size})",
            hint="let vgck --updatemetadata rewrite it from another copy",
        )
    wrapped = max(slot.offset + slot.size - header.size, 0)
    pieces = [(header.start + slot.offset, slot.size - wrapped)]
    if wrapped:
        pieces.append((header.start + HEADER_SIZE, wrapped))
    return pieces


def place_text(header: AreaHeader, text: bytes, name: str) -> tuple[Slot, list[tuple[int, bytes]]]:
    """Where a new text (with its NUL) goes: its slot, and (offset on the disk, bytes) to be written.

    The pieces are filled with zeros up to a sector's end and never touch the committed text. Raises
    :class:`NoSpaceError` if the area is too small for two texts of this length.
    """
    if len(text) > header.max_text:
        raise NoSpaceError(
            f"VG metadata on {name} ({len(text)} bytes) exceeds maximum metadata size "
            f"({header.max_text} bytes)",
            hint="remove volumes, or add a physical volume with a larger metadata area (--metadatasize)",
        )
    start = _next_offset(header)
    slot = Slot(start, len(text), lvm_crc(text))
    first = header.size - start
    head, tail = text[:first], text[first:]
    pieces = [(header.start + start, _padded(head, first))]
    if tail:
        pieces.append((header.start + HEADER_SIZE, _padded(tail, header.size - HEADER_SIZE)))
    old = header.committed
    if not (old.ignored or old.empty):
        kept = text_ranges(header, old, name)
        if any(at < end + size and end < at + len(piece) for at, piece in pieces for end, size in kept):
            # Only a text larger than LVM2 allows today leaves so little room.
            raise NoSpaceError(
                f"no room for new VG metadata beside the present one on {name}",
                hint="remove volumes with the program that wrote it, or add a physical volume",
            )
    return slot, pieces


def _next_offset(header: AreaHeader) -> int:
    """The first sector boundary behind the committed text, or the buffer's start near the area's end."""
    old = header.committed
    if old.ignored or old.empty:
        return HEADER_SIZE
    end = old.offset + old.size
    if end > header.size:
        end = end - header.size + HEADER_SIZE
    following = -(-end // ALIGNMENT) * ALIGNMENT
    return HEADER_SIZE if following > header.size - ALIGNMENT else following


def _padded(piece: bytes, room: int) -> bytes:
    """*piece* with zeros up to a sector boundary, but not past *room*."""
    whole = -(-len(piece) // ALIGNMENT) * ALIGNMENT
    return piece + bytes(min(whole, room) - len(piece))
