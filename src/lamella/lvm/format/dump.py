# SPDX-License-Identifier: Apache-2.0
"""``pvck --dump``: headers and metadata texts of one disk or plain file, whether they are sound or not."""

from __future__ import annotations

import re
import struct
import sys
from typing import TYPE_CHECKING

from lamella.cli.lvm.context import Failed, open_disk
from lamella.errors import LamellaError
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.ids import is_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.block.device import BlockDevice
    from lamella.cli.lvm.context import Context

    Say = Callable[[str], None]

SECTOR = 512
DEFAULT_START, DEFAULT_SIZE = 4096, 1044480
_MAGIC = bytes.fromhex("204c564d3220785b35412572304e2a3e")
_NAME = re.compile(rb"([A-Za-z0-9+_.-]+) \{\nid = \"([^\"\n]+)\"\nseqno = (\d+)\n")
LONGEST = 64 << 20
"""Bytes of an area that are searched at most."""


class _Bad(Exception):
    """Something on the disk is not as it should be; said already."""


class Dump:
    """One disk, read as it is; ``bad`` once something could not be shown."""

    def __init__(self, context: Context, device: BlockDevice) -> None:
        self.context = context
        self.device = device
        self.bad = False
        self.areas: list[tuple[int, int]] = []
        self.settings = _settings(context.args.text("settings"))

    def read(self, offset: int, length: int) -> bytes:
        """Up to *length* bytes; fewer at the disk's end."""
        if offset >= self.device.size or offset < 0:
            return b""
        return self.device.read(offset, min(length, self.device.size - offset))

    def check(self, text: str) -> None:
        """A line about something wrong; what can be shown is shown all the same."""
        self.context.print(f"CHECK: {text}")

    # -- the label ---------------------------------------------------------------------------------

    def label(self, *, show: bool) -> None:
        """The label's header and the physical volume's, and where its metadata areas are."""
        say = self.context.print if show else _silent
        sector = self._label_sector()
        at = sector * SECTOR
        block = self.read(at, SECTOR)
        if len(block) < SECTOR:
            self.check(f"failed to read label_header at {at}")
            raise _Bad
        name, number, crc, offset, kind = struct.unpack_from("<8sQII8s", block)
        say(f"label_header at {at}")
        say(f"label_header.id {_shown(name)}")
        say(f"label_header.sector {number}")
        say(f"label_header.crc {crc:#x}")
        say(f"label_header.offset {offset}")
        say(f"label_header.type {_shown(kind)}")
        actual = lvm_crc(block[20:])
        if name != b"LABELONE":
            self.check("label_header.id expected LABELONE")
        if number != sector:
            self.check(f"label_header.sector expected {sector}")
        if crc != actual:
            self.check(f"label_header.crc expected {actual:#x}")
        if offset != 32:
            self.check("label_header.offset expected 32")
        if kind != b"LVM2 001":
            self.check("label_header.type expected LVM2 001")
        self._pv_header(block, at + 32, at, say)

    def _label_sector(self) -> int:
        for sector in range(4):
            if self.read(sector * SECTOR, 8) == b"LABELONE":
                return sector
        return 1

    def _pv_header(self, block: bytes, at: int, start: int, say: Say) -> None:
        uuid = block[at - start : at - start + 32]
        size = struct.unpack_from("<Q", block, at - start + 32)[0]
        say(f"pv_header at {at}")
        say(f"pv_header.pv_uuid {_shown(uuid)}")
        say(f"pv_header.device_size {size}")
        if not is_uuid(_shown(uuid)):
            self.check("pv_header.pv_uuid invalid format")
        place = at + 40
        number = 0
        for what in ("location of data area", "location of metadata area"):
            while True:
                pair = _pair(block, place - start)
                if pair is None:
                    return
                end = not any(pair)
                say(f"pv_header.disk_locn[{number}] at {place} # {'location list end' if end else what}")
                say(f"pv_header.disk_locn[{number}].offset {pair[0]}")
                say(f"pv_header.disk_locn[{number}].size {pair[1]}")
                if not end and what.endswith("metadata area"):
                    self.areas.append(pair)
                number += 1
                place += 16
                if end:
                    break
        self._extension(block, place, start, say)

    def _extension(self, block: bytes, place: int, start: int, say: Say) -> None:
        found = _words(block, place - start)
        if found is None:
            return
        say(f"pv_header_extension at {place}")
        say(f"pv_header_extension.version {found[0]}")
        say(f"pv_header_extension.flags {found[1]}")
        place += 8
        number = 0
        while True:
            pair = _pair(block, place - start)
            if pair is None:
                return
            end = not any(pair)
            note = "location list end" if end else "location of bootloader area"
            say(f"pv_header_extension.disk_locn[{number}] at {place} # {note}")
            say(f"pv_header_extension.disk_locn[{number}].offset {pair[0]}")
            say(f"pv_header_extension.disk_locn[{number}].size {pair[1]}")
            if end:
                return
            number += 1
            place += 16

    # -- metadata areas --------------------------------------------------------------------------------

    def area_header(self, number: int, start: int, *, show: bool) -> list[tuple[int, int, int, int]]:
        """The slots (offset, size, checksum, flags) of an area's header."""
        say = self.context.print if show else _silent
        block = self.read(start, SECTOR)
        title = f"mda_header_{number}"
        if len(block) < SECTOR:
            self.check(f"failed to read {title} at {start}")
            raise _Bad
        crc, magic, version, own, size = struct.unpack_from("<I16sIQQ", block)
        say(f"{title} at {start} # metadata area")
        say(f"{title}.checksum {crc:#x}")
        say(f"{title}.magic 0x{magic.hex()}")
        say(f"{title}.version {version}")
        say(f"{title}.start {own}")
        say(f"{title}.size {size}")
        actual = lvm_crc(block[4:])
        if crc != actual:
            self.check(f"{title}.checksum expected {actual:#x}")
        if magic != _MAGIC:
            self.check(f"{title}.magic expected 0x{_MAGIC.hex()}")
        if version != 1:
            self.check(f"{title}.version expected 1")
        if own != start:
            self.check(f"{title}.start does not match pv_header.disk_locn.offset {start}")
        slots = []
        for slot, word in enumerate(("commit", "precommit")):
            place = 40 + slot * 24
            values = struct.unpack_from("<QQII", block, place)
            say(f"{title}.raw_locn[{slot}] at {start + place} # {word}")
            say(f"{title}.raw_locn[{slot}].offset {values[0]}")
            say(f"{title}.raw_locn[{slot}].size {values[1]}")
            say(f"{title}.raw_locn[{slot}].checksum {values[2]:#x}")
            say(f"{title}.raw_locn[{slot}].flags {values[3]:#x}")
            slots.append(values)
        return slots

    def text(self, number: int, start: int, size: int, slot: tuple[int, int, int, int]) -> bytes | None:
        """The committed text, with a line about it; None if there is none."""
        offset, length, crc, _flags = slot
        if not offset or not length:
            return None
        if length > size or offset >= size:
            self.check(f"mda_header_{number}.raw_locn[0] lies outside the area")
            return None
        first = self.read(start + offset, min(length, size - offset))
        text = first + self.read(start + SECTOR, length - len(first)) if len(first) < length else first
        actual = lvm_crc(text)
        found = _NAME.match(text)
        if actual != crc:
            self.check(f"metadata text at {start + offset} crc {actual:#x} does not match {crc:#x}")
        if not found:
            self.check(f"failed to find vgname and seqno in metadata text at {start + offset}")
            return text
        name, seqno = found[1].decode(), found[3].decode()
        self.context.print(f"metadata text at {start + offset} crc {actual:#x} # vgname {name} seqno {seqno}")
        return text

    def search(self, start: int, size: int) -> Iterator[tuple[int, bytes]]:
        """(place, text) of every text that begins on a sector of the area and is whole."""
        area = self.read(start, min(size, LONGEST))
        for at in range(SECTOR, len(area), SECTOR):
            found = _NAME.match(area, at)
            if not found:
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
            raise _Bad
        return wanted, *self.areas[wanted - 1]


def dump(context: Context, path: str) -> None:
    """Print what ``--dump`` asks for; exits with 5 where something is wrong."""
    try:
        device = open_disk(path, True)
    except LamellaError as error:
        raise Failed(f"Cannot access {path}.") from error
    with device:
        work = Dump(context, device)
        try:
            _dump(work, context.args.text("dump"))
        except _Bad:
            work.bad = True
        if work.bad:
            raise Failed("Found bad header or metadata values.")


def _dump(work: Dump, what: str) -> None:
    if what == "headers":
        work.label(show=True)
        if not work.areas:
            work.context.print("zero metadata copies")
        for number, (start, size) in enumerate(work.areas, 1):
            slots = work.area_header(number, start, show=True)
            work.text(number, start, size, slots[0])
        return
    work.label(show=False)
    if what in ("metadata_search", "metadata_all") and not work.areas and "mda_offset" not in work.settings:
        work.context.print(
            f"Using common defaults for first mda: offset {DEFAULT_START} size {DEFAULT_SIZE}."
        )
        work.context.print('Override defaults with --settings "mda_offset=<bytes> mda_size=<bytes>"')
        work.areas = [(DEFAULT_START, DEFAULT_SIZE)]
    if not work.areas and "mda_offset" not in work.settings:
        work.context.print("zero metadata copies")
        return
    number, start, size = work.chosen_area()
    if what in ("metadata_search", "metadata_all"):
        _all_texts(work, what, start, size)
        return
    if what == "metadata_area":
        _out(work.context, work.read(start, min(size, LONGEST)))
        return
    slots = work.area_header(number, start, show=False)
    text = work.text(number, start, size, slots[0])
    if text is None:
        work.check(f"no metadata text in mda_header_{number}")
        return
    if not work.context.args.has("file"):
        work.context.print("---")
    _out(work.context, text.rstrip(b"\0") + b"\n")
    if not work.context.args.has("file"):
        work.context.print("---")


def _all_texts(work: Dump, what: str, start: int, size: int) -> None:
    if what == "metadata_search":
        work.context.print(f"Searching for metadata at offset {start} size {size}")
    wanted = work.settings.get("metadata_offset")
    pieces = []
    for at, text in work.search(start, size):
        if wanted is not None and at != wanted:
            continue
        found = _NAME.match(text)
        assert found is not None
        name, uuid, seqno = (part.decode("ascii", "replace") for part in found.groups())
        crc = lvm_crc(text)
        work.context.print(
            f"metadata at {at} length {len(text)} crc {crc:08x} vg {name} seqno {seqno} id {uuid}"
        )
        pieces.append(text.rstrip(b"\0") + b"\n")
    if (what == "metadata_all" or wanted is not None) and work.context.args.has("file"):
        _out(work.context, b"\n".join(pieces))


def _out(context: Context, content: bytes) -> None:
    """To ``--file``, or to standard output."""
    if context.args.has("file"):
        path = context.args.text("file")
        try:
            with open(path, "xb") as stream:
                stream.write(content)
        except OSError as error:
            raise Failed(f"Failed to write {path}: {error.strerror}") from error
        return
    sys.stdout.write(content.decode("utf-8", "replace"))


def _settings(text: str) -> dict[str, int]:
    """``name=number`` pairs of ``--settings``."""
    found = {}
    for word in text.replace(",", " ").split():
        name, _, value = word.partition("=")
        if not value.isdigit():
            raise Failed(f"Failed to parse settings: {word}")
        found[name] = int(value)
    return found


def _pair(block: bytes, at: int) -> tuple[int, int] | None:
    return struct.unpack_from("<QQ", block, at) if 0 <= at <= len(block) - 16 else None


def _words(block: bytes, at: int) -> tuple[int, int] | None:
    return struct.unpack_from("<II", block, at) if 0 <= at <= len(block) - 8 else None


def _shown(raw: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in raw)


def _silent(text: str) -> None:
    """Says nothing."""
