# SPDX-License-Identifier: Apache-2.0
"""The label and header by which a disk is known as a physical volume. Bytes in, values out.

One 512-byte sector, among the first four of the disk (normally the second). All numbers little
endian; offsets and sizes in bytes. Authority: lib/label/label.h, lib/format_text/layout.h.

========  =====================================================================================
 0        "LABELONE", then u64: the sector that it lies in
 16       u32: checksum of bytes 20 to 511
 20       u32: where the header starts (32), then "LVM2 001"
 32       the disk's identifier, 32 characters; u64: its size
 72       pairs (offset, size) of data areas, ended by a zero pair; then those of metadata areas
 after    u32 version, u32 flags (1: belongs to a group), then pairs of boot loader areas
========  =====================================================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from lamella.block.device import SECTOR
from lamella.errors import CorruptError
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.ids import LENGTH, is_uuid, with_dashes, without_dashes

MAGIC = b"LABELONE"
TYPE = b"LVM2 001"
SCAN_SECTORS = 4
SCAN_BYTES = SCAN_SECTORS * SECTOR
HEADER_OFFSET = 32
EXTENSION_VERSION = 2
USED = 1
"""Extension flag: the disk belongs to a volume group."""

LABEL = struct.Struct("<8sQII8s")
PAIR = struct.Struct("<QQ")
EXTENSION = struct.Struct("<II")


@dataclass(slots=True)
class Label:
    """A physical volume's header; areas are (offset, size) pairs in bytes (size 0: to the end)."""

    uuid: str
    device_size: int
    data_areas: list[tuple[int, int]] = field(default_factory=list)
    metadata_areas: list[tuple[int, int]] = field(default_factory=list)
    boot_areas: list[tuple[int, int]] = field(default_factory=list)
    extension_version: int = EXTENSION_VERSION
    flags: int = 0
    sector: int = 1

    @property
    def used(self) -> bool:
        """Marked as belonging to a volume group."""
        return bool(self.flags & USED)


def find_label(start: bytes, name: str, warn: list[str]) -> Label | None:
    """The label in the first sectors of a disk, or None if there is none.

    *start* holds at least the first 2048 bytes; *name* is the disk's, for messages. What LVM2 says
    about labels that it passes over is added to *warn*. Raises :class:`CorruptError` for a label
    whose checksum is right but whose header is invalid.
    """
    found: Label | None = None
    for sector in range(SCAN_SECTORS):
        block = start[sector * SECTOR : (sector + 1) * SECTOR]
        if block[:8] != MAGIC or len(block) < SECTOR:
            continue
        _magic, own_sector, checksum, offset, kind = LABEL.unpack_from(block)
        if own_sector != sector:
            warn.append(f"{name}: Label for sector {own_sector} found at sector {sector} - ignoring.")
            continue
        if lvm_crc(block[20:]) != checksum:
            warn.append(f"Label checksum incorrect on {name} - ignoring")
            continue
        if kind != TYPE:
            continue
        if found is not None:
            warn.append(f"Ignoring additional label on {name} at sector {sector}")
            continue
        found = _header(block, offset, sector, name)
    return found


def _header(block: bytes, offset: int, sector: int, name: str) -> Label:
    def broken(what: str) -> CorruptError:
        return CorruptError(
            f"{name}: the physical volume header in sector {sector} is damaged: {what}",
            hint="write it again: pvcreate --uuid UUID --restorefile FILE, or pvck --repair",
        )

    if offset < LABEL.size or offset + LENGTH + 8 > SECTOR:
        raise broken(f"it starts at byte {offset}")
    plain = block[offset : offset + LENGTH].decode("latin-1")
    if not is_uuid(plain):
        raise broken("its identifier has illegal characters")
    (size,) = struct.unpack_from("<Q", block, offset + LENGTH)
    at = offset + LENGTH + 8
    lists: list[list[tuple[int, int]]] = []
    version = flags = 0
    for number in range(3):
        if number == 2:
            if at + EXTENSION.size > SECTOR:
                lists.append([])
                break
            version, flags = EXTENSION.unpack_from(block, at)
            at += EXTENSION.size
            if not version:
                lists.append([])
                break
        pairs: list[tuple[int, int]] = []
        while True:
            if at + PAIR.size > SECTOR:
                raise broken("a list of areas has no end")
            pair = PAIR.unpack_from(block, at)
            at += PAIR.size
            if not pair[0]:
                break
            pairs.append((pair[0], pair[1]))
        lists.append(pairs)
    return Label(with_dashes(plain), size, lists[0], lists[1], lists[2], version, flags, sector)


def pack_label(label: Label) -> bytes:
    """The 512 bytes of the label's sector."""
    body = bytearray(SECTOR)
    at = HEADER_OFFSET
    body[at : at + LENGTH] = without_dashes(label.uuid).encode("ascii")
    struct.pack_into("<Q", body, at + LENGTH, label.device_size)
    at += LENGTH + 8
    for number, pairs in enumerate((label.data_areas, label.metadata_areas, label.boot_areas)):
        if number == 2:
            EXTENSION.pack_into(body, at, EXTENSION_VERSION, label.flags)
            at += EXTENSION.size
        for pair in pairs:
            PAIR.pack_into(body, at, *pair)
            at += PAIR.size
        at += PAIR.size
    LABEL.pack_into(body, 0, MAGIC, label.sector, 0, HEADER_OFFSET, TYPE)
    struct.pack_into("<I", body, 16, lvm_crc(memoryview(body)[20:]))
    return bytes(body)
