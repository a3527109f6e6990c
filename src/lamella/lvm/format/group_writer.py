# SPDX-License-Identifier: Apache-2.0
"""From a :class:`~lamella.lvm.format.model.VolumeGroup` to text, byte for byte as LVM2 2.03 writes it.

Two forms: compact, for metadata areas (no indentation, no comments, the group first and the header
after it), and readable, for backup files (header first, tabs, comments). Authority:
lib/format_text/export.c and each segment type's own export.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from lamella.lvm.format.group_reader import CONTENTS
from lamella.lvm.format.model import WRITE, WRITE_LOCKED, LogicalVolume, VolumeGroup
from lamella.lvm.format.segments import Segment, StripedSegment, ThinPoolSegment, ThinSegment
from lamella.lvm.format.text import quote, write_nodes, write_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.format.text import Section, Value

_COMMENT_COLUMN = 6
_MAX_INDENT = 5

_VG_STATUS = ("EXPORTED", "RESIZEABLE", "PVMOVE", "READ", "WRITE", "CLUSTERED", "SHARED")
_VG_FLAGS = ("WRITE_LOCKED", "NOAUTOACTIVATE")
_PV_STATUS = ("ALLOCATABLE", "EXPORTED")
_PV_FLAGS = ("MISSING",)
_LV_STATUS = (
    "READ",
    "WRITE",
    "FIXED_MINOR",
    "VISIBLE",
    "PVMOVE",
    "LOCKED",
    "NOTSYNCED",
    "REBUILD",
    "WRITEMOSTLY",
)
_LV_FLAGS = (
    "WRITE_LOCKED",
    "ACTIVATION_SKIP",
    "NOAUTOACTIVATE",
    "ERROR_WHEN_FULL",
    "CACHE_VOL",
)
_KNOWN_TYPES = ("mirror", "snapshot", "cache", "cache-pool", "writecache", "vdo", "vdo-pool", "integrity")
_AREA_LISTS = ("stripes", "mirrors", "raids", "raid0_lvs")
_SIZED = {
    "reshape_count": "extents",
    "extents_moved": "extents",
    "header_size": "sectors",
    "virtual_extents": "extents",
    "block_map_cache_size_mb": "megabytes",
    "index_memory_size_mb": "megabytes",
    "slab_size_mb": "megabytes",
}
"""Keys of the types that are kept as they are, whose line ends in a comment with the size."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a text says about its own making.

    ``version`` is the whole first line's tail up to the time ("LVM2 version 2.03.16(2) (2022-05-18)");
    ``system`` are the words of uname behind the host's name; ``time`` is in seconds since 1970.
    """

    description: str
    host: str
    system: str
    time: int
    version: str = "LVM2 version 2.03.16(2) (2022-05-18)"
    system_id: str = ""


class _Compact:
    """Collects lines without indentation or comments."""

    readable = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.put: Callable[[str], None] = self.lines.append

    def line(self, text: str, comment: str = "") -> None:
        self.put(text)

    def sized(self, text: str, sectors: int) -> None:
        self.put(text)

    def blank(self) -> None:
        self.put("")

    def open(self, text: str) -> None:
        self.put(text)

    def close(self, text: str = "}") -> None:
        self.put(text)


class _Readable(_Compact):
    """Collects lines with tabs for depth, and comments lined up at a tab stop."""

    readable = True

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def line(self, text: str, comment: str = "") -> None:
        indent = min(self.depth, _MAX_INDENT)
        tabs = ""
        if comment:
            # LVM counts bytes, not characters.
            width = (len(text.encode("utf-8", "surrogateescape")) + 8 * indent) // 8 + 1
            tabs = "\t" * max(_COMMENT_COLUMN - width, 1)
        self.put("\t" * indent + text + tabs + comment)

    def sized(self, text: str, sectors: int) -> None:
        self.line(text, size_comment(sectors))

    def open(self, text: str) -> None:
        self.line(text)
        self.depth += 1

    def close(self, text: str = "}") -> None:
        self.depth -= 1
        self.line(text)


@lru_cache(maxsize=4096)
def size_comment(sectors: int) -> str:
    """``# 4 Megabytes``, with C's %g."""
    amount = sectors / 2.0
    units = ("Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Petabytes", "Exabytes")
    at = 0
    while amount > 1024.0 and at < len(units):
        amount /= 1024.0
        at += 1
    unit = units[at] if at < len(units) else "(null)"
    return f"# {amount:g} {unit}"


def write_compact(group: VolumeGroup, header: Header) -> str:
    """The text for a metadata area, without its trailing NUL. Names the physical volumes anew."""
    out = _Compact()
    _group(out, group)
    _header(out, header)
    return "\n".join(out.lines) + "\n"


def write_readable(group: VolumeGroup, header: Header) -> str:
    """The text of a backup file. Names the physical volumes anew."""
    out = _Readable()
    _header(out, header)
    _group(out, group)
    return "\n".join(out.lines) + "\n"


def _header(out: _Compact, header: Header) -> None:
    stamp = time.ctime(header.time)
    out.line(f"# Generated by {header.version}: {stamp}")
    out.blank()
    out.line(f'contents = "{CONTENTS}"')
    out.line("version = 1")
    out.blank()
    out.line(f"description = {quote(header.description)}")
    out.blank()
    out.line(f'creation_host = "{header.host}"\t# {header.system}')
    if header.system_id:
        out.line(f'creation_host_system_id = "{header.system_id}"')
    out.line(f"creation_time = {header.time}\t# {stamp}")
    out.blank()


def _group(out: _Compact, group: VolumeGroup) -> None:
    for number, pv in enumerate(group.pvs):
        pv.name = f"pv{number}"
    locked = WRITE_LOCKED in group.flags
    out.open(f"{group.name} {{")
    out.line(f'id = "{group.uuid}"')
    out.line(f"seqno = {group.seqno}")
    out.line(f'format = "{group.format}"', "# informational")
    _flags(out, group.status, _VG_STATUS, group.flags, _VG_FLAGS, locked)
    _tags(out, group.tags)
    if group.system_id:
        out.line(f"system_id = {quote(group.system_id)}")
    if group.lock_type:
        out.line(f"lock_type = {quote(group.lock_type)}")
        if group.lock_args:
            out.line(f"lock_args = {quote(group.lock_args)}")
    out.sized(f"extent_size = {group.extent_sectors}", group.extent_sectors)
    out.line(f"max_lv = {group.max_lv}")
    out.line(f"max_pv = {group.max_pv}")
    if group.allocation_policy not in ("", "normal", "inherit"):
        out.blank()
        out.line(f'allocation_policy = "{group.allocation_policy}"')
    if group.profile:
        out.line(f"profile = {quote(group.profile)}")
    out.line(f"metadata_copies = {group.metadata_copies}")
    _extra(out, group.extra)
    out.blank()
    out.open("physical_volumes {")
    for pv in group.pvs:
        _pv(out, pv, group.extent_sectors)
    out.close()
    out.blank()
    _lvs(out, group, locked)
    out.blank()
    if group.historical:
        out.open("historical_logical_volumes {")
        for old in group.historical:
            out.blank()
            out.open(f"{old.name} {{")
            out.line(f'id = "{old.uuid}"')
            if old.creation_time:
                _stamp(out, "creation_time", old.creation_time)
            if old.removal_time:
                _stamp(out, "removal_time", old.removal_time)
            if old.origin:
                out.line(f'origin = "{old.origin}"')
            if old.descendants:
                out.line(f"descendants = {write_value(list(old.descendants))}")
            _extra(out, old.extra)
            out.close()
        out.close()
    out.close()


def _pv(out: _Compact, pv: PhysicalVolume, extent_sectors: int) -> None:
    out.blank()
    out.open(f"{pv.name} {{")
    out.line(f'id = "{pv.uuid}"')
    out.line(f"device = {quote(pv.device)}", "# Hint only")
    out.blank()
    if pv.device_id_type and pv.device_id:
        out.line(f"device_id_type = {quote(pv.device_id_type)}")
        out.line(f"device_id = {quote(pv.device_id)}")
    _flags(out, pv.status, _PV_STATUS, pv.flags, _PV_FLAGS, False)
    _tags(out, pv.tags)
    out.sized(f"dev_size = {pv.dev_sectors}", pv.dev_sectors)
    out.line(f"pe_start = {pv.pe_start}")
    out.sized(f"pe_count = {pv.pe_count}", pv.pe_count * extent_sectors)
    if pv.ba_start and pv.ba_size:
        out.line(f"ba_start = {pv.ba_start}")
        out.sized(f"ba_size = {pv.ba_size}", pv.ba_size)
    _extra(out, pv.extra)
    out.close()


def _lvs(out: _Compact, group: VolumeGroup, locked: bool) -> None:
    if not group.lvs:
        return
    out.open("logical_volumes {")
    shown = {lv.name for lv in group.visible_lvs()}
    for lv in group.lvs.values():
        if lv.name in shown:
            _lv(out, lv, group.extent_sectors, locked)
    for lv in group.lvs.values():
        if lv.name not in shown:
            _lv(out, lv, group.extent_sectors, locked)
    out.close()


def _plain_lv(lv: LogicalVolume, extent_sectors: int, readable: bool) -> str:
    """All the lines of a linear volume of one segment in one piece, "" for any other volume.

    In a group of thousands of volumes nearly all are such, and this takes a fifth of the time.
    """
    if len(lv.segments) != 1:
        return ""
    segment = lv.segments[0]
    if (
        type(segment) is not StripedSegment
        or len(segment.mapped) != 1
        or segment.type != "striped"
        or segment.mapped[0].pv is None
        or segment.tags
        or segment.extra
        or lv.tags
        or lv.extra
        or lv.lock_args
        or lv.allocation_policy
        or lv.profile
        or not lv.creation_time
        or lv.read_ahead is not None
        or lv.major is not None
        or lv.minor is not None
    ):
        return ""
    if not any(word in lv.status for word in _LV_FLAGS):
        status, flags = _words(tuple(lv.status), _LV_STATUS), _words(tuple(lv.flags), _LV_FLAGS)
    else:
        return ""
    count, area = segment.extent_count, segment.mapped[0]
    assert area.pv is not None
    if not readable:
        return (
            f'\n{lv.name} {{\nid = "{lv.uuid}"\nstatus = {status}\nflags = {flags}\n'
            f'creation_time = {lv.creation_time}\ncreation_host = "{lv.creation_host}"\n'
            f"segment_count = 1\n\nsegment1 {{\nstart_extent = 0\nextent_count = {count}\n\n"
            f'type = "striped"\nstripe_count = 1\n\nstripes = [\n"{area.pv.name}", {area.extent}\n]\n}}\n}}'
        )
    return (
        f'\n\t\t{lv.name} {{\n\t\t\tid = "{lv.uuid}"\n\t\t\tstatus = {status}\n\t\t\tflags = {flags}\n'
        f"\t\t\tcreation_time = {lv.creation_time}\t{_time_comment(lv.creation_time)}\n"
        f'\t\t\tcreation_host = "{lv.creation_host}"\n\t\t\tsegment_count = 1\n\n'
        "\t\t\tsegment1 {\n\t\t\t\tstart_extent = 0\n"
        f"\t\t\t\textent_count = {count}\t{size_comment(count * extent_sectors)}\n\n"
        '\t\t\t\ttype = "striped"\n\t\t\t\tstripe_count = 1\t# linear\n\n\t\t\t\tstripes = [\n'
        f'\t\t\t\t\t"{area.pv.name}", {area.extent}\n\t\t\t\t]\n\t\t\t}}\n\t\t}}'
    )


def _lv(out: _Compact, lv: LogicalVolume, extent_sectors: int, locked: bool) -> None:
    if not locked:
        plain = _plain_lv(lv, extent_sectors, out.readable)
        if plain:
            out.put(plain)
            return
    out.blank()
    out.open(f"{lv.name} {{")
    out.line(f'id = "{lv.uuid}"')
    _flags(out, lv.status, _LV_STATUS, lv.flags, _LV_FLAGS, locked)
    _tags(out, lv.tags)
    if lv.creation_time:
        _stamp(out, "creation_time", lv.creation_time)
        out.line(f'creation_host = "{lv.creation_host}"')
    if lv.lock_args:
        out.line(f"lock_args = {quote(lv.lock_args)}")
    if lv.allocation_policy not in ("", "inherit"):
        out.line(f'allocation_policy = "{lv.allocation_policy}"')
    if lv.profile:
        out.line(f"profile = {quote(lv.profile)}")
    if lv.read_ahead == 0:
        out.line("read_ahead = -1", "# None")
    elif lv.read_ahead is not None:
        out.line(f"read_ahead = {lv.read_ahead}")
    if lv.major is not None and lv.major >= 0:
        out.line(f"major = {lv.major}")
    if lv.minor is not None and lv.minor >= 0:
        out.line(f"minor = {lv.minor}")
    _extra(out, lv.extra)
    out.line(f"segment_count = {len(lv.segments)}")
    out.blank()
    for number, segment in enumerate(lv.segments, 1):
        _segment(out, number, segment, extent_sectors)
    out.close()


def _stamp(out: _Compact, key: str, seconds: int) -> None:
    out.line(f"{key} = {seconds}", _time_comment(seconds) if out.readable else "")


def _time_comment(seconds: int) -> str:
    return _local_time(seconds, time.tzname)


@lru_cache(maxsize=4096)
def _local_time(seconds: int, zone: tuple[str, str]) -> str:
    return time.strftime("# %Y-%m-%d %T %z", time.localtime(seconds))


def _segment(out: _Compact, number: int, segment: Segment, extent_sectors: int) -> None:
    out.open(f"segment{number} {{")
    out.line(f"start_extent = {segment.start_extent}")
    out.sized(f"extent_count = {segment.extent_count}", segment.extent_count * extent_sectors)
    out.blank()
    reshape = segment.extra.get("reshape_count")
    if isinstance(reshape, int):
        out.sized(f"reshape_count = {reshape}", reshape * extent_sectors)
    out.line(f'type = "{segment.type}"')
    _tags(out, segment.tags)
    if isinstance(segment, StripedSegment):
        stripes = len(segment.stripes)
        out.line(f"stripe_count = {stripes}", "# linear" if stripes == 1 else "")
        if stripes > 1:
            out.sized(f"stripe_size = {segment.stripe_size}", segment.stripe_size)
        _areas(out, "stripes", segment)
        _extra(out, segment.extra)
    elif isinstance(segment, ThinPoolSegment):
        _pool(out, segment)
    elif isinstance(segment, ThinSegment):
        out.line(f'thin_pool = "{segment.pool}"')
        out.line(f"transaction_id = {segment.transaction_id}")
        out.line(f"device_id = {segment.device_id}")
        for key in ("external_origin", "origin", "merge"):
            if name := getattr(segment, key):
                out.line(f'{key} = "{name}"')
        _extra(out, segment.extra)
    elif segment.kind in _KNOWN_TYPES or segment.kind.startswith("raid"):
        _kept(out, segment, extent_sectors)
    else:
        # A type that LVM2 does not know either is written in libdm's own plain style, as LVM does.
        for key, value in segment.extra.items():
            _plain(out, {key: _current(segment, key, value)})
    out.close()


def _pool(out: _Compact, segment: ThinPoolSegment) -> None:
    out.line(f'metadata = "{segment.metadata}"')
    out.line(f'pool = "{segment.data}"')
    out.line(f"transaction_id = {segment.transaction_id}")
    out.sized(f"chunk_size = {segment.chunk_sectors}", segment.chunk_sectors)
    out.line(f'discards = "{segment.discards}"')
    if segment.zero:
        out.line("zero_new_blocks = 1")
    if segment.crop_metadata is not None:
        out.line(f"crop_metadata = {int(segment.crop_metadata)}")
    for number, (verb, what) in enumerate(segment.messages, 1):
        if number == 1:
            out.blank()
        out.open(f"message{number} {{")
        out.line(f'{verb} = "{what}"' if isinstance(what, str) else f"{verb} = {what}")
        out.close()
    _extra(out, segment.extra)


def _kept(out: _Compact, segment: Segment, extent_sectors: int) -> None:
    """A type that Lamella does not change: its keys in their order, in LVM's layout."""
    factor = {"extents": extent_sectors, "sectors": 1, "megabytes": 2048}
    for key, value in segment.extra.items():
        if key == "reshape_count":
            continue
        if key in _AREA_LISTS and isinstance(value, list):
            _areas(out, key, segment)
        elif isinstance(value, dict):
            _plain(out, {key: value})
        elif key in _SIZED and isinstance(value, int):
            out.sized(f"{key} = {value}", value * factor[_SIZED[key]])
            if key == "virtual_extents":
                out.blank()
        else:
            comment = "# linear" if key == "stripe_count" and segment.kind == "raid0" and value == 1 else ""
            out.line(f"{key} = {write_value(value)}", comment)


def _current(segment: Segment, key: str, value: Value | Section) -> Value | Section:
    """An area list as the model has it now; physical volumes may have got other names."""
    if key in ("stripes", "mirrors") and isinstance(value, list):
        fresh: list[int | float | str] = []
        for area in segment.mapped:
            fresh += [area.pv.name if area.pv is not None else area.lv, area.extent]
        return fresh
    return value


def _areas(out: _Compact, key: str, segment: Segment) -> None:
    if key in ("stripes", "mirrors"):
        pairs = [
            f'"{area.pv.name if area.pv is not None else area.lv}", {area.extent}' for area in segment.mapped
        ]
    else:
        listed = segment.extra[key]
        items = [f'"{item}"' for item in listed] if isinstance(listed, list) else []
        width = 2 if key == "raids" and len(items) % 2 == 0 else 1
        pairs = [", ".join(items[at : at + width]) for at in range(0, len(items), width)]
    out.blank()
    out.open(f"{key} = [")
    for pair in pairs[:-1]:
        out.line(pair + ",")
    for pair in pairs[-1:]:
        out.line(pair)
    out.close("]")


def _flags(
    out: _Compact,
    status: list[str],
    status_order: tuple[str, ...],
    flags: list[str],
    flags_order: tuple[str, ...],
    locked: bool,
) -> None:
    """Both lists in LVM's order; a write-locked group hides WRITE from programs that do not know better."""
    flags = list(flags)
    status = list(status)
    for word in [word for word in flags_order if word in status]:
        status.remove(word)
        flags.append(word)
    if locked and WRITE in status:
        status.remove(WRITE)
        flags.append(WRITE_LOCKED)
    out.line(f"status = {_words(tuple(status), status_order)}")
    out.line(f"flags = {_words(tuple(flags), flags_order)}")


@lru_cache(maxsize=1024)
def _words(words: tuple[str, ...], order: tuple[str, ...]) -> str:
    ordered = [word for word in order if word in words]
    ordered += [word for word in dict.fromkeys(words) if word not in order]
    return "[" + ", ".join(f'"{word}"' for word in ordered) + "]"


def _tags(out: _Compact, tags: list[str]) -> None:
    if tags:
        out.line("tags = [" + ", ".join(f'"{tag}"' for tag in tags) + "]")


def _extra(out: _Compact, extra: Section) -> None:
    for key, value in extra.items():
        if key == "reshape_count":
            continue
        if isinstance(value, dict):
            out.open(f"{key} {{")
            _extra(out, value)
            out.close()
        else:
            out.line(f"{key} = {write_value(value)}")


def _plain(out: _Compact, nodes: Section) -> None:
    for line in write_nodes(nodes):
        out.line(line)
