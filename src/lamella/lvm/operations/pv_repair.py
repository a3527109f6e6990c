# SPDX-License-Identifier: Apache-2.0
"""Write the label, the headers and the text of a damaged physical volume anew (``pvck --repair``).

What is written comes from a text of its group: one that ``pvck --dump metadata --file`` saved, or a backup.
Nothing is looked up in other places: the disk may be all that is left. Messages are LVM2's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import CorruptError, LamellaError, UsageError
from lamella.lvm.format import label, metadata_area
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.dump import DEFAULT_START, Dump
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.format.group_writer import write_compact
from lamella.lvm.format.ids import LENGTH, is_uuid, with_dashes, without_dashes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lamella.block.device import BlockDevice
    from lamella.lvm.format.group_writer import Header
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume

    Say = Callable[[str], None]

TEXT_END = b"\n\n\0"
SEARCHED_AT_END = 4 << 20
"""How much of a disk's end is searched for a second metadata area."""
NEEDS_FILE = (
    "Metadata input file is needed for pv_header info.\nSee pvck --dump to locate and create a metadata file."
)
HEADERS_FIRST = "See --repairtype pv_header to repair headers."


@dataclass(slots=True)
class GroupText:
    """A group, and the text of it that goes into a metadata area."""

    group: VolumeGroup
    text: bytes

    @classmethod
    def parse(cls, content: bytes, header: Header) -> GroupText:
        """A text saved by ``--dump``, which is written again byte by byte, or a backup, which is not in the
        form of an area; *header* is for that. Raises :class:`CorruptError`.
        """
        plain = content.rstrip(b"\n\0")
        try:
            group = read_group(plain.decode("utf-8", "surrogateescape"))
        except LamellaError as error:
            raise CorruptError(f"{error.message}\nInvalid metadata file.") from error
        if plain.startswith(group.name.encode() + b" {"):
            return cls(group, plain + TEXT_END)
        text = write_compact(group, header).encode("utf-8", "surrogateescape")
        return cls(group, text.rstrip(b"\n\0") + TEXT_END)


@dataclass(slots=True)
class Repair:
    """One disk. *say* is given each line, *confirm* a question before each write; a false answer raises
    :class:`UsageError`. With *test* nothing is written.

    *settings* are the numbers of ``--settings``, *uuid* its ``pv_uuid`` without dashes. *paths* are the names
    of the disk.
    """

    device: BlockDevice
    paths: tuple[str, ...]
    settings: Mapping[str, int]
    say: Say
    confirm: Callable[[str], bool]
    uuid: str = ""
    test: bool = False
    sector: int = 1
    areas: list[tuple[int, int]] = field(default_factory=list)
    """(start, size) of the metadata areas that the present header has."""

    # -- the label's header ---------------------------------------------------------------------------

    def check_label(self) -> bytes:
        """Say what is wrong with the label and the header; returns the sector."""
        if not self._check_label():
            self.say(f"WARNING: No LVM label found on {self.paths[0]}.  It may not be an LVM device.")
        return self.device.read(self.sector * SECTOR, SECTOR)

    def _check_label(self) -> bool:
        """The same; returns whether there is a label of LVM2 at all."""
        work = Dump(self.device, self.say, {}, self.sector)
        work.label(show=False)
        self.areas = work.areas
        block = self.device.read(self.sector * SECTOR, SECTOR)
        magic, _sector, _crc, _offset, kind = label.LABEL.unpack_from(block)
        return bool(magic == label.MAGIC and kind == label.TYPE)

    def label_header(self) -> None:
        """Write the label's own fields; the header in the same sector stays."""
        block = bytearray(self.check_label())
        label.LABEL.pack_into(block, 0, label.MAGIC, self.sector, 0, label.HEADER_OFFSET, label.TYPE)
        crc = lvm_crc(bytes(block[20:]))
        block[16:20] = crc.to_bytes(4, "little")
        self.say(f"Writing label_header.crc 0x{crc:08x}")
        self._agree("header")
        self._write(self.sector * SECTOR, bytes(block))

    # -- the physical volume's header -------------------------------------------------------------------

    def pv_header(self, source: GroupText | None) -> None:
        """Write label and header, for the physical volume that *source* or ``--settings`` describe."""
        block = self.check_label()
        known = self.areas if _header_is_sound(block) else []
        second = self._second_area(known)
        if source is None and not {"device_size", "data_offset"} <= set(self.settings):
            raise UsageError(NEEDS_FILE)
        pv = self._described(source, block)
        data = self.settings.get("data_offset", pv.pe_start * SECTOR if pv is not None else 0)
        size = self.settings.get("device_size", pv.dev_sectors * SECTOR if pv is not None else 0)
        header = label.Label(self.uuid, size, [(data, 0)], flags=label.USED, sector=self.sector)
        header.metadata_areas = self._areas(known, second, data)
        if pv is not None and pv.ba_start:
            header.boot_areas = [(pv.ba_start * SECTOR, pv.ba_size * SECTOR)]
        written = label.pack_label(header)
        crc = int.from_bytes(written[16:20], "little")
        self.say(
            f"Writing label_header.crc 0x{crc:08x} pv_header uuid {without_dashes(self.uuid)} "
            f"device_size {size}"
        )
        pairs = dict(enumerate(header.metadata_areas, 1))
        if header.metadata_areas and header.metadata_areas[0][0] != DEFAULT_START:
            pairs = {2: header.metadata_areas[0]}
        shown = []
        for number in (1, 2):
            start, length = pairs.get(number, (0, 0))
            shown.append(f"mda{number}_offset {start} mda{number}_size {length}")
        self.say(f"Writing data_offset {data} {' '.join(shown)}")
        self._agree("header")
        self._write(self.sector * SECTOR, written)
        self.areas = header.metadata_areas

    def _second_area(self, known: list[tuple[int, int]]) -> tuple[int, int] | None:
        """The metadata area at the disk's end, if there is one that the header has not."""
        if any(start != DEFAULT_START for start, _size in known):
            return None
        first = max(self.device.size - SEARCHED_AT_END, DEFAULT_START + SECTOR) // SECTOR * SECTOR
        tail = self.device.read(first, self.device.size - first)
        at = tail.find(metadata_area.MAGIC)
        while at >= 0:
            start, block = first + at - 4, tail[at - 4 : at - 4 + SECTOR]
            if start % SECTOR == 0 and len(block) == SECTOR:
                crc, _magic, _version, own, size = metadata_area.HEADER.unpack_from(block)
                if own == start and crc == lvm_crc(block[4:]) and start + size <= self.device.size:
                    self.say(f"Found mda2 header at offset {start} size {size}")
                    return start, size
            at = tail.find(metadata_area.MAGIC, at + 1)
        return None

    def _areas(
        self, known: list[tuple[int, int]], second: tuple[int, int] | None, data: int
    ) -> list[tuple[int, int]]:
        """The metadata areas: as ``--settings`` say, else as they are, else one before the data."""
        areas = dict(enumerate(known, 1)) if known else {1: (DEFAULT_START, max(data - DEFAULT_START, 0))}
        if second is not None:
            areas[2] = second
        for number, word in ((1, "mda"), (2, "mda2")):
            if f"{word}_offset" in self.settings:
                given = (self.settings[f"{word}_offset"], self.settings.get(f"{word}_size", 0))
                if any(given):
                    areas[number] = given
                else:
                    areas.pop(number, None)
        return [areas[number] for number in sorted(areas)]

    def _described(self, source: GroupText | None, block: bytes) -> PhysicalVolume | None:
        """The physical volume that this disk is; sets its UUID. Raises :class:`UsageError` if that is not
        known.
        """
        by_uuid = {without_dashes(pv.uuid): pv for pv in source.group.pvs} if source is not None else {}
        present = block[label.HEADER_OFFSET : label.HEADER_OFFSET + LENGTH].decode("latin-1")
        if not self.uuid and is_uuid(present) and (present in by_uuid or source is None):
            self.uuid = present
        if not self.uuid and source is not None:
            named = [uuid for uuid, pv in by_uuid.items() if pv.device in self.paths]
            if not named:
                self.say(f"PV name {self.paths[0]} not found in metadata file.")
            self.uuid = named[0] if len(named) == 1 else ""
        if not self.uuid:
            raise UsageError("No valid PV UUID, specify a PV UUID from metadata in --settings.")
        found = by_uuid.get(self.uuid)
        if found is None and source is not None:
            raise UsageError(f"PV UUID {with_dashes(self.uuid)} not found in metadata file.")
        self.uuid = with_dashes(self.uuid)
        return found

    # -- the metadata areas -----------------------------------------------------------------------------

    def metadata(self, source: GroupText, *, only: int = 0) -> None:
        """Write headers and text of the metadata areas, or of the one with the number *only*."""
        if not self._check_label():
            raise UsageError(f"No lvm label found on device.\n{HEADERS_FIRST}")
        if not self.areas:
            raise UsageError(f"No metadata areas found on device.\n{HEADERS_FIRST}")
        text, agreed = source.text, False
        for number, (start, size) in enumerate(self.areas, 1):
            if only and number != only:
                continue
            fresh = metadata_area.AreaHeader(start, size)
            slot, pieces = metadata_area.place_text(fresh, text, self.paths[0])
            fresh.committed = slot
            place = start + slot.offset
            self.say(f"Writing metadata at {place} length {len(text)} crc 0x{slot.checksum:08x} mda{number}")
            self.say(f"Writing mda_header at {start} mda{number}")
            if not agreed:
                self._agree("metadata")
                agreed = True
            for at, piece in pieces:
                # As by LVM2, what is behind the text in its last sector stays.
                behind = self.device.read(at + len(text), len(piece) - len(text))
                self._write(at, text + behind, quiet=True)
            self.device.flush()
            self._write(start, metadata_area.pack_header(fresh))
            self.device.flush()

    def _agree(self, what: str) -> None:
        if not self.test and not self.confirm(f"Write new LVM {what} to {self.paths[0]}? "):
            raise UsageError("Command failed with status code 5.")

    def _write(self, at: int, content: bytes, *, quiet: bool = False) -> None:
        if not self.test:
            self.device.write(at, content)
        elif not quiet:
            self.say("Skip writing in test mode.")


def _header_is_sound(block: bytes) -> bool:
    """Whether the disk's own list of areas can be believed."""
    return is_uuid(block[label.HEADER_OFFSET : label.HEADER_OFFSET + LENGTH].decode("latin-1"))
