# SPDX-License-Identifier: Apache-2.0
"""Headers and metadata texts of one disk or plain file as ``pvck --dump`` shows them, sound or not.

The formats are those of :mod:`lamella.lvm.format.label` and :mod:`lamella.lvm.format.metadata_area`; here
every value is shown as it is, with a line ``CHECK:`` for each that is wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import CorruptError, UsageError
from lamella.lvm.format import label, metadata_area
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.ids import LENGTH, is_uuid
from lamella.units import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lamella.block.device import BlockDevice

    Say = Callable[[str], None]

DEFAULT_START, DEFAULT_SIZE = 4096, 1044480
_NAME = re.compile(rb"([A-Za-z0-9+_.-]+) \{\nid = \"([^\"\n]+)\"\nseqno = (\d+)\n")
SETTINGS = ("metadata_offset", "seqno", "mda_num", "mda_offset", "mda_size")
SEARCH_LIMIT = 64 << 20
"""Bytes of an area that are searched at most."""


class Dump:
    """One disk, read as it is. *say* is given each line; *settings* are the numbers of ``--settings``.
    *sector* is where the label is to be; None: looked for.

    A method raises :class:`CorruptError` where a header cannot be shown.
    """

    def __init__(
        self, device: BlockDevice, say: Say, settings: Mapping[str, int], sector: int | None = None
    ) -> None:
        self.device = device
        self.say = say
        self.settings = settings
        self.sector = sector
        self.areas: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        """Up to *length* bytes; fewer at the disk's end."""
        if offset >= self.device.size or offset < 0:
            return b""
        return self.device.read(offset, min(length, self.device.size - offset))

    def check(self, text: str) -> None:
        """Report something wrong; what can be shown is shown all the same."""
        self.say(f"CHECK: {text}")

    def _compare(self, name: str, actual: object, expected: object, shown: object = None) -> None:
        if actual != expected:
            self.check(f"{name} expected {expected if shown is None else shown}")

    # -- the label ---------------------------------------------------------------------------------

    def label(self, *, show: bool) -> None:
        """The label's header and the physical volume's, and where its metadata areas are."""
        say = self.say if show else _silent
        sector = self._label_sector()
        at = sector * SECTOR
        block = self.read(at, SECTOR)
        if len(block) < SECTOR:
            self.check(f"failed to read label_header at {at}")
            raise _bad()
        name, number, crc, offset, kind = label.LABEL.unpack_from(block)
        say(f"label_header at {at}")
        say(f"label_header.id {_shown(name)}")
        say(f"label_header.sector {number}")
        say(f"label_header.crc {crc:#x}")
        say(f"label_header.offset {offset}")
        say(f"label_header.type {_shown(kind)}")
        actual = lvm_crc(block[20:])
        self._compare("label_header.id", name, label.MAGIC, label.MAGIC.decode())
        self._compare("label_header.sector", number, sector)
        self._compare("label_header.crc", crc, actual, f"{actual:#x}")
        self._compare("label_header.offset", offset, label.HEADER_OFFSET)
        self._compare("label_header.type", kind, label.TYPE, label.TYPE.decode())
        self._pv_header(block, at, say)

    def _label_sector(self) -> int:
        if self.sector is not None:
            return self.sector
        for sector in range(label.SCAN_SECTORS):
            if self.read(sector * SECTOR, len(label.MAGIC)) == label.MAGIC:
                return sector
        return 1

    def _pv_header(self, block: bytes, start: int, say: Say) -> None:
        """The header in *block*, which lies at byte *start* of the disk, and the lists behind it."""
        at = label.HEADER_OFFSET
        uuid = _shown(block[at : at + LENGTH])
        say(f"pv_header at {start + at}")
        say(f"pv_header.pv_uuid {uuid}")
        say(f"pv_header.device_size {int.from_bytes(block[at + LENGTH : at + LENGTH + 8], 'little')}")
        if not is_uuid(uuid):
            self.check("pv_header.pv_uuid invalid format")
        data = _Locations("pv_header", "location of data area")
        metadata = _Locations("pv_header", "location of metadata area")
        place = data.show(block, at + LENGTH + 8, start, say)
        if place is not None:
            metadata.number = data.number
            place = metadata.show(block, place, start, say)
        self.areas += metadata.found
        if place is None or place > len(block) - label.EXTENSION.size:
            return
        version, flags = label.EXTENSION.unpack_from(block, place)
        say(f"pv_header_extension at {start + place}")
        say(f"pv_header_extension.version {version}")
        say(f"pv_header_extension.flags {flags}")
        boot = _Locations("pv_header_extension", "bootloader area")
        boot.show(block, place + label.EXTENSION.size, start, say)

    # -- metadata areas --------------------------------------------------------------------------------

    def area_header(self, number: int, start: int, *, show: bool) -> list[metadata_area.Slot]:
        """The slots of an area's header."""
        say = self.say if show else _silent
        block = self.read(start, SECTOR)
        title = f"mda_header_{number}"
        if len(block) < SECTOR:
            self.check(f"failed to read {title} at {start}")
            raise _bad()
        crc, magic, version, own, size = metadata_area.HEADER.unpack_from(block)
        say(f"{title} at {start} # metadata area")
        say(f"{title}.checksum {crc:#x}")
        say(f"{title}.magic 0x{magic.hex()}")
        say(f"{title}.version {version}")
        say(f"{title}.start {own}")
        say(f"{title}.size {size}")
        actual = lvm_crc(block[4:])
        self._compare(f"{title}.checksum", crc, actual, f"{actual:#x}")
        self._compare(f"{title}.magic", magic, metadata_area.MAGIC, f"0x{metadata_area.MAGIC.hex()}")
        self._compare(f"{title}.version", version, metadata_area.VERSION)
        if own != start:
            self.check(f"{title}.start does not match pv_header.disk_locn.offset {start}")
        slots = []
        for index, word in enumerate(("commit", "precommit")):
            place = metadata_area.HEADER.size + index * metadata_area.SLOT.size
            slot = metadata_area.Slot(*metadata_area.SLOT.unpack_from(block, place))
            say(f"{title}.raw_locn[{index}] at {start + place} # {word}")
            say(f"{title}.raw_locn[{index}].offset {slot.offset}")
            say(f"{title}.raw_locn[{index}].size {slot.size}")
            say(f"{title}.raw_locn[{index}].checksum {slot.checksum:#x}")
            say(f"{title}.raw_locn[{index}].flags {slot.flags:#x}")
            slots.append(slot)
        return slots

    def text(self, number: int, start: int, size: int, slot: metadata_area.Slot) -> bytes | None:
        """The committed text, with a line about it; None if there is none."""
        offset, length = slot.offset, slot.size
        if not offset or not length:
            return None
        if length > size or offset >= size:
            self.check(f"mda_header_{number}.raw_locn[0] lies outside the area")
            return None
        first = self.read(start + offset, min(length, size - offset))
        text = first + self.read(start + SECTOR, length - len(first)) if len(first) < length else first
        actual = lvm_crc(text)
        found = _NAME.match(text)
        if actual != slot.checksum:
            self.check(f"metadata text at {start + offset} crc {actual:#x} does not match {slot.checksum:#x}")
        if not found:
            self.check(f"failed to find vgname and seqno in metadata text at {start + offset}")
            return text
        name, seqno = found[1].decode(), found[3].decode()
        self.say(f"metadata text at {start + offset} crc {actual:#x} # vgname {name} seqno {seqno}")
        return text

    def search(self, start: int, size: int) -> Iterator[tuple[int, bytes]]:
        """(place, text) of every text that begins on a sector of the area and is whole."""
        area = self.read(start, min(size, SEARCH_LIMIT))
        for at in range(SECTOR, len(area), SECTOR):
            if not _NAME.match(area, at):
                continue
            end = area.find(b"\0", at)
            text = area[at : end + 1] if end >= 0 else area[at:] + area[SECTOR : area.find(b"\0", SECTOR) + 1]
            yield start + at, text

    def chosen_area(self) -> tuple[int, int, int]:
        """(number, start, size) of the area that ``--settings`` choose, or the first."""
        wanted = self.settings.get("mda_num", 1)
        if "mda_offset" in self.settings:
            return wanted, self.settings["mda_offset"], self.settings.get("mda_size", DEFAULT_SIZE)
        if wanted > len(self.areas):
            self.check("second mda not found" if wanted == 2 else "no metadata area found")
            raise _bad()
        return wanted, *self.areas[wanted - 1]

    def texts(self, start: int, size: int) -> bytes:
        """A line for every text that :meth:`search` finds; returns those texts."""
        wanted = self.settings.get("metadata_offset")
        pieces = []
        for at, text in self.search(start, size):
            found = _NAME.match(text)
            if found is None or (wanted is not None and at != wanted):
                continue
            name, uuid, seqno = (part.decode("ascii", "replace") for part in found.groups())
            if self.settings.get("seqno", int(seqno)) != int(seqno):
                continue
            facts = f"crc {lvm_crc(text):08x} vg {name} seqno {seqno} id {uuid}"
            self.say(f"metadata at {at} length {len(text)} {facts}")
            pieces.append(text.rstrip(b"\0") + b"\n")
        return b"\n".join(pieces)


class _Locations:
    """A list of (offset, size) pairs that a zero pair ends; *number* counts them, over both lists of the PV
    header.
    """

    def __init__(self, owner: str, what: str) -> None:
        self.owner = owner
        self.what = what
        self.number = 0
        self.found: list[tuple[int, int]] = []

    def show(self, block: bytes, place: int, start: int, say: Say) -> int | None:
        """Show the pairs from byte *place* of *block* on; returns the place after them, None: beyond the
        block.
        """
        while 0 <= place <= len(block) - label.PAIR.size:
            offset, size = label.PAIR.unpack_from(block, place)
            end = not offset and not size
            title = f"{self.owner}.disk_locn[{self.number}]"
            say(f"{title} at {start + place} # {'location list end' if end else self.what}")
            say(f"{title}.offset {offset}")
            say(f"{title}.size {size}")
            self.number += 1
            place += label.PAIR.size
            if end:
                return place
            self.found.append((offset, size))
        return None


def show_label_problems(device: BlockDevice, say: Say, sector: int | None = None) -> None:
    """Say what is wrong with the label of a disk that has none, or another in its place."""
    try:
        Dump(device, say, {}, sector).label(show=False)
    except CorruptError:
        return  # told by then


def dump(
    device: BlockDevice, what: str, settings: Mapping[str, int], say: Say, sector: int | None = None
) -> bytes | None:
    """Show what ``--dump`` *what* asks for, line by line, and return the content to be written, if any.

    Raises :class:`CorruptError` for a disk whose headers cannot be read.
    """
    work = Dump(device, say, settings, sector)
    work.label(show=what == "headers")
    searching = what in ("metadata_search", "metadata_all")
    if what == "metadata_search" and not work.areas and "mda_offset" not in settings:
        say(f"Using common defaults for first mda: offset {DEFAULT_START} size {DEFAULT_SIZE}.")
        say('Override defaults with --settings "mda_offset=<bytes> mda_size=<bytes>"')
        work.areas = [(DEFAULT_START, DEFAULT_SIZE)]
    if not work.areas and ("mda_offset" not in settings or what == "headers"):
        say("zero metadata copies")
        return None
    if what == "headers":
        for number, (start, size) in enumerate(work.areas, 1):
            work.text(number, start, size, work.area_header(number, start, show=True)[0])
        return None
    number, start, size = work.chosen_area()
    if searching:
        if what == "metadata_search":
            say(f"Searching for metadata at offset {start} size {size}")
        found = work.texts(start, size)
        return found if what == "metadata_all" or "metadata_offset" in settings else None
    if what == "metadata_area":
        return work.read(start, min(size, SEARCH_LIMIT))
    text = work.text(number, start, size, work.area_header(number, start, show=False)[0])
    if text is None:
        work.check(f"no metadata text in mda_header_{number}")
        return None
    return text.rstrip(b"\0") + b"\n"


def parse_settings(text: str, allowed: Sequence[str] = SETTINGS) -> dict[str, int]:
    """``name=number`` pairs of ``--settings``, with these names. Raises :class:`UsageError`."""
    found = {}
    for word in text.replace(",", " ").split():
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"Invalid setting at: {word}")
        if name not in allowed:
            raise UsageError(f"Invalid setting: {name}")
        number = whole_number(value)
        if number is None:
            raise UsageError(f"Failed to parse settings: {word}")
        found[name] = number
    return found


def _bad() -> CorruptError:
    return CorruptError("Found bad header or metadata values.")


def _shown(raw: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in raw)


def _silent(text: str) -> None:
    """Print nothing."""
