# SPDX-License-Identifier: Apache-2.0
"""Read plain linear volumes of a group's text with one regular expression.

A group of thousands of volumes mostly has volumes of one segment on one disk, each written by LVM2 in
exactly one shape. Where all volumes of a text have it, a regular expression reads them all; otherwise the
general reader reads all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lamella.lvm.format.model import LogicalVolume
from lamella.lvm.format.section_values import writable_words
from lamella.lvm.format.segments import Area, StripedSegment

if TYPE_CHECKING:
    from lamella.lvm.format.physical_volume import PhysicalVolume

_START = "\nlogical_volumes {\n"
_WORDS = r'\[((?:"[A-Za-z0-9_.+/=!:&#-]+"(?:, )?)*)\]'
_VOLUME = re.compile(
    r"\n?([A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,126}) \{\n"
    r'id = "([0-9A-Za-z!#]{6}(?:-[0-9A-Za-z!#]{4}){5}-[0-9A-Za-z!#]{6})"\n'
    rf"status = {_WORDS}\nflags = {_WORDS}\n(?:tags = {_WORDS}\n)?"
    r'(?:creation_time = ([1-9]\d{0,17})\ncreation_host = "([^"\\\n]*)"\n)?'
    r"segment_count = 1\n\nsegment1 \{\nstart_extent = 0\nextent_count = ([1-9]\d{0,8})\n\n"
    r'type = "striped"\nstripe_count = 1\n\nstripes = \[\n"(pv\d+)", (0|[1-9]\d{0,8})\n\]\n\}\n\}\n'
)

Plain = tuple[str, str, str, str, str | None, str | None, str | None, str, str, str]
"""Name, UUID, status, flags, tags, time and host of creation, extents, disk, first extent; as written."""


def take_plain(text: str) -> tuple[str, list[Plain]] | None:
    """(*text* without its volumes, the volumes), or None if not all of them are plain."""
    start = text.find(_START)
    if start < 0:
        return None
    at = first = start + len(_START)
    match = _VOLUME.match
    found: list[Plain] = []
    while taken := match(text, at):
        found.append(taken.groups())  # type: ignore[arg-type]  # the pattern has ten groups
        at = taken.end()
    if not found or not text.startswith("}\n", at) or len({one[0] for one in found}) != len(found):
        return None
    if any(one[0] in (".", "..") for one in found):
        return None
    return text[:first] + text[at:], found


def build(found: list[Plain], pvs: dict[str, PhysicalVolume]) -> dict[str, LogicalVolume] | None:
    """The volumes, on the disks with these names in the text; None if one refers to a disk that is not
    there.
    """
    lists: dict[str, list[str]] = {}

    def words(text: str | None) -> list[str]:
        if not text:
            return []
        known = lists.get(text)
        if known is None:
            known = lists[text] = [word.strip('"') for word in text.split(", ")]
        return known.copy()

    lvs: dict[str, LogicalVolume] = {}
    for name, uuid, status, flags, tags, seconds, host, extents, disk, extent in found:
        pv = pvs.get(disk)
        if pv is None:
            return None
        segment = StripedSegment("striped", 0, int(extents), [], {}, [Area(pv, int(extent))])
        lvs[name] = LogicalVolume(
            name,
            uuid,
            *writable_words(words(status), words(flags)),
            words(tags),
            int(seconds) if seconds else 0,
            host or "",
            segments=[segment],
        )
    return lvs
