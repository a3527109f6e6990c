# SPDX-License-Identifier: Apache-2.0
"""From metadata text to a :class:`~lamella.lvm.format.model.VolumeGroup`.

Both forms are read: the one in metadata areas and that of backup files. What LVM2 refuses is
refused here with its messages (lib/format_text/import_vsn1.c); keys that are not known stay in
``extra`` and are written back.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import CorruptError
from lamella.lvm.format.fast_path import Plain, build, take_plain
from lamella.lvm.format.group_checks import check_extents, check_references
from lamella.lvm.format.history import HistoricalVolume
from lamella.lvm.format.model import LogicalVolume, VolumeGroup
from lamella.lvm.format.names import is_valid_name
from lamella.lvm.format.physical_volume import PhysicalVolume
from lamella.lvm.format.section_values import (
    number_value,
    optional_number,
    policy_value,
    section,
    strings_value,
    text_value,
    uuid_value,
    writable_words,
)
from lamella.lvm.format.segments import Area, Segment, StripedSegment, ThinPoolSegment, ThinSegment, merged
from lamella.lvm.format.text import parse
from lamella.thin.format.limits import MAX_CHUNK, MAX_DEVICE_ID, MIN_CHUNK
from lamella.thin.status import DISCARD_WORDS

if TYPE_CHECKING:
    from lamella.lvm.format.text import Section, Value

READ_PREFIX = "Couldn't read volume group metadata: "
_LONGEST = 1000
"""Most characters of what is wrong: a damaged text may have names of any length."""
CONTENTS = "Text Format Volume Group"


def _keys(words: str) -> frozenset[str]:
    """Keys that the model has fields for; others are kept in ``extra``."""
    return frozenset(words.split())


_VG_KEYS = _keys(
    "id seqno format status flags tags system_id lock_type lock_args extent_size max_lv max_pv "
    "allocation_policy profile metadata_copies physical_volumes logical_volumes "
    "historical_logical_volumes"
)
_PV_KEYS = _keys(
    "id device device_id device_id_type status flags tags dev_size pe_start pe_count ba_start ba_size"
)
_LV_KEYS = _keys(
    "id status flags tags creation_time creation_host lock_args allocation_policy profile read_ahead "
    "major minor segment_count"
)
_SEGMENT_KEYS = _keys("start_extent extent_count type tags")
_STRIPED_KEYS = _SEGMENT_KEYS | _keys("stripe_count stripe_size stripes")
_POOL_KEYS = _SEGMENT_KEYS | _keys(
    "metadata pool transaction_id chunk_size discards zero_new_blocks crop_metadata"
)
_THIN_KEYS = _SEGMENT_KEYS | _keys("thin_pool transaction_id device_id external_origin origin merge")


def read_group(text: str, *, source: str = "") -> VolumeGroup:
    """The volume group that *text* describes. *source* names the place in errors ("/dev/sdb").

    Raises :class:`CorruptError` for text that is malformed or contradicts itself.
    """
    # Tens of thousands of small objects, none of them garbage: the collector would only cost time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        remarks: list[str] = []
        taken = take_plain(text)
        group = None if taken is None else _group(parse(taken[0], warn=remarks), taken[1])
        if group is None:
            remarks = []
            group = _group(parse(text, warn=remarks))
            assert group is not None
        group.remarks = remarks
        return group
    except CorruptError as error:
        where = f"{source}: " if source else ""
        raise CorruptError(
            f"{where}{READ_PREFIX}{error.message[:_LONGEST]}",
            hint=error.hint or "restore it with vgcfgrestore, or let vgck --updatemetadata copy a good one",
        ) from error
    finally:
        if collecting:
            gc.enable()


def read_name_and_seqno(text: str) -> tuple[str, str, int]:
    """Only (name, UUID, seqno) of the group in *text*. Raises :class:`CorruptError`."""
    name, body = _group_section(parse(text))
    return name, text_value(body, "id"), number_value(body, "seqno", 0)


def _group_section(root: Section) -> tuple[str, Section]:
    for name, body in root.items():
        if isinstance(body, dict):
            return name, body
    raise CorruptError("Can't process text format file - no volume group section.")


def _check_header(root: Section) -> None:
    if root.get("contents") != CONTENTS:
        reason = "unrecognised" if "contents" in root else "missing"
        raise CorruptError(f"Can't process text format file - {reason} contents field.")
    if root.get("version") != 1:
        reason = "unrecognised version number" if "version" in root else "missing version number"
        raise CorruptError(f"Can't process text format file - {reason}.")


def _group(root: Section, plain: list[Plain] | None = None) -> VolumeGroup | None:
    """The group; None if *plain* volumes, read beforehand, do not fit it."""
    _check_header(root)
    name, body = _group_section(root)
    if not is_valid_name(name):
        raise CorruptError(f"Invalid volume group name {name!r}.")
    if "status" not in body:
        raise CorruptError(f"Couldn't find status flags for volume group {name}.")
    lvs_body = section(body, "logical_volumes")
    status, flags = writable_words(strings_value(body, "status"), strings_value(body, "flags"))
    group = VolumeGroup(
        name=name,
        uuid=uuid_value(body, f"Couldn't read uuid for volume group {name}."),
        seqno=number_value(body, "seqno", None, f"Couldn't read 'seqno' for volume group {name}."),
        format=text_value(body, "format", "lvm2"),
        status=status,
        flags=flags,
        tags=strings_value(body, "tags"),
        system_id=text_value(body, "system_id"),
        lock_type=text_value(body, "lock_type"),
        lock_args=text_value(body, "lock_args"),
        extent_sectors=number_value(
            body, "extent_size", None, f"Couldn't read extent size for volume group {name}."
        ),
        max_lv=number_value(body, "max_lv", 0),
        max_pv=number_value(body, "max_pv", 0),
        allocation_policy=policy_value(body, "normal"),
        profile=text_value(body, "profile"),
        metadata_copies=number_value(body, "metadata_copies", 0),
        extra={key: value for key, value in body.items() if key not in _VG_KEYS},
        description=text_value(root, "description"),
        creation_host=text_value(root, "creation_host"),
        creation_time=_written_at(root),
    )
    if not group.extent_sectors or group.extent_sectors >= 1 << 32:
        raise CorruptError(f"Couldn't read extent size for volume group {name}.")
    names: dict[str, PhysicalVolume] = {}
    for key, value in section(body, "physical_volumes").items():
        if isinstance(value, dict):
            names[key] = pv = _pv(key, value)
            group.pvs.append(pv)
    if "physical_volumes" not in body:
        raise CorruptError(f"Couldn't find all physical volumes for volume group {name}.")
    if len({pv.uuid for pv in group.pvs}) != len(group.pvs):
        raise CorruptError(f"Two physical volumes of volume group {name} have one uuid.")
    for key, value in lvs_body.items():
        if isinstance(value, dict):
            group.lvs[key] = _lv(key, value, names)
    if plain is not None:
        lvs = build(plain, names)
        if lvs is None:
            return None
        group.lvs = lvs
    for key, value in section(body, "historical_logical_volumes").items():
        if isinstance(value, dict):
            group.historical.append(_historical(key, value))
    check_references(group)
    check_extents(group)
    return group


def _pv(name: str, body: Section) -> PhysicalVolume:
    pv = PhysicalVolume(
        uuid=uuid_value(body, "Couldn't read uuid for physical volume."),
        device=text_value(body, "device"),
        name=name,
        status=strings_value(body, "status", "Couldn't read status flags for physical volume."),
        flags=strings_value(body, "flags"),
        tags=strings_value(body, "tags"),
        dev_sectors=number_value(body, "dev_size", 0),
        pe_start=number_value(
            body, "pe_start", None, "Couldn't read extent start value (pe_start) for physical volume."
        ),
        pe_count=number_value(
            body, "pe_count", None, "Couldn't find extent count (pe_count) for physical volume."
        ),
        ba_start=number_value(body, "ba_start", 0),
        ba_size=number_value(body, "ba_size", 0),
        device_id=text_value(body, "device_id"),
        device_id_type=text_value(body, "device_id_type"),
        extra={key: value for key, value in body.items() if key not in _PV_KEYS},
    )
    if pv.pe_count >= 1 << 32:
        raise CorruptError("Couldn't find extent count (pe_count) for physical volume.")
    if bool(pv.ba_start) != bool(pv.ba_size):
        raise CorruptError(f"Found incomplete bootloader area specification for PV {pv.device} in metadata.")
    return pv


def _lv(name: str, body: Section, pvs: dict[str, PhysicalVolume]) -> LogicalVolume:
    if not is_valid_name(name):
        raise CorruptError(f"Invalid logical volume name {name!r}.")
    read_ahead = body.get("read_ahead")
    status, flags = writable_words(
        strings_value(body, "status", f"Couldn't read status flags for logical volume {name}."),
        strings_value(body, "flags"),
    )
    lv = LogicalVolume(
        name=name,
        uuid=uuid_value(body, f"Couldn't read uuid for logical volume {name}."),
        status=status,
        flags=flags,
        tags=strings_value(body, "tags"),
        creation_time=number_value(body, "creation_time", 0),
        creation_host=text_value(body, "creation_host"),
        allocation_policy=policy_value(body, "inherit"),
        profile=text_value(body, "profile"),
        # LVM writes -1 for "none" and nothing for "auto"; 0 stands for "auto" when read.
        read_ahead=None if not isinstance(read_ahead, int) or read_ahead == 0 else max(read_ahead, 0),
        major=optional_number(body, "major"),
        minor=optional_number(body, "minor"),
        lock_args=text_value(body, "lock_args"),
    )
    segments = lv.segments
    extra = lv.extra
    for key, value in body.items():
        if isinstance(value, dict):
            segments.append(_segment(key, value, name, pvs))
        elif key not in _LV_KEYS:
            extra[key] = value
    if body.get("segment_count") != len(segments):
        raise CorruptError(f"segment_count and actual number of segments disagree for logical volume {name}.")
    if len(segments) > 1:
        segments.sort(key=lambda segment: segment.start_extent)
        lv.segments = merged(segments)
    at = 0
    for segment in lv.segments:
        if segment.start_extent != at:
            raise CorruptError(f"LV {name} invalid: segment at extent {segment.start_extent}, not {at}.")
        at += segment.extent_count
    return lv


def _segment(key: str, body: Section, lv: str, pvs: dict[str, PhysicalVolume]) -> Segment:
    start = body.get("start_extent")
    count = body.get("extent_count")
    if not isinstance(start, int) or not 0 <= start < 1 << 32:
        raise CorruptError(f"Couldn't read 'start_extent' for segment '{key}' of logical volume {lv}.")
    if not isinstance(count, int) or not 0 < count < 1 << 32:
        raise CorruptError(f"Couldn't read 'extent_count' for segment '{key}' of logical volume {lv}.")
    kind = body.get("type")
    if not isinstance(kind, str):
        raise CorruptError("Segment type must be a string.")
    tags = strings_value(body, "tags")
    where = f"segment '{key}' of logical volume {lv}"
    base = kind.partition("+")[0]
    if base == "striped":
        return _striped(StripedSegment(kind, start, count, tags), body, where, pvs)
    if base == "thin":
        return _thin(ThinSegment(kind, start, count, tags), body, where)
    if base == "thin-pool":
        return _pool(ThinPoolSegment(kind, start, count, tags), body, where)
    segment = Segment(kind, start, count, tags)
    segment.extra = {name: value for name, value in body.items() if name not in _SEGMENT_KEYS}
    for name in ("mirrors", "stripes"):
        value = body.get(name)
        if isinstance(value, list):
            segment.mapped = _areas(value, where, pvs)
    return segment


def _striped(
    segment: StripedSegment, body: Section, where: str, pvs: dict[str, PhysicalVolume]
) -> StripedSegment:
    count = body.get("stripe_count")
    if not isinstance(count, int):
        raise CorruptError(f"Couldn't read 'stripe_count' for {where}.")
    listed = body.get("stripes")
    if not isinstance(listed, list):
        raise CorruptError(f"Couldn't find stripes array for {where}.")
    segment.mapped = _areas(listed, where, pvs)
    if not count:
        raise CorruptError(f"Zero areas not allowed for {where}.")
    if len(segment.mapped) != count:
        raise CorruptError(f"Incorrect number of areas in area array for {where}.")
    if count > 1:
        size = body.get("stripe_size")
        if not isinstance(size, int) or size <= 0 or size >= 1 << 32:
            raise CorruptError(f"Couldn't read stripe_size for {where}.")
        segment.stripe_size = size
        if segment.extent_count % count:
            raise CorruptError(f"The extents of {where} are no multiple of its {count} stripes.")
    if len(body) > 5:
        segment.extra = {name: value for name, value in body.items() if name not in _STRIPED_KEYS}
    return segment


def _areas(listed: Value, where: str, pvs: dict[str, PhysicalVolume]) -> list[Area]:
    areas: list[Area] = []
    items = listed if isinstance(listed, list) else []
    if len(items) % 2:
        raise CorruptError(f"Missing offset in areas array for {where}.")
    for at in range(0, len(items), 2):
        name, extent = items[at], items[at + 1]
        if not isinstance(name, str):
            raise CorruptError(f"Bad volume name in areas array for {where}.")
        if not isinstance(extent, int) or not 0 <= extent < 1 << 32:
            raise CorruptError(f"Bad offset in areas array for {where}.")
        pv = pvs.get(name)
        areas.append(Area(pv, extent, "" if pv is not None else name))
    return areas


def _pool(segment: ThinPoolSegment, body: Section, where: str) -> ThinPoolSegment:
    segment.metadata = text_value(body, "metadata", None, f"Metadata must be a string in {where}.")
    segment.data = text_value(body, "pool", None, f"Pool must be a string in {where}.")
    segment.transaction_id = number_value(
        body, "transaction_id", None, f"Could not read transaction_id for {where}."
    )
    segment.chunk_sectors = number_value(body, "chunk_size", None, f"Could not read chunk_size for {where}.")
    if not MIN_CHUNK <= segment.chunk_sectors * SECTOR <= MAX_CHUNK:
        raise CorruptError(f"Unsupported value {segment.chunk_sectors} for chunk_size of {where}.")
    segment.discards = text_value(body, "discards", "ignore")
    if segment.discards not in DISCARD_WORDS:
        raise CorruptError(f"Discards option unsupported for {where}.")
    segment.zero = bool(number_value(body, "zero_new_blocks", 0))
    crop = optional_number(body, "crop_metadata")
    segment.crop_metadata = None if crop is None else bool(crop)
    for name, value in body.items():
        if isinstance(value, dict):
            created, deleted = value.get("create"), value.get("delete")
            if isinstance(created, str):
                segment.messages.append(("create", created))
            elif isinstance(deleted, int) and 0 < deleted <= MAX_DEVICE_ID:
                segment.messages.append(("delete", deleted))
            else:
                raise CorruptError(f"Unknown message in {where}.")
        elif name not in _POOL_KEYS:
            segment.extra[name] = value
    return segment


def _thin(segment: ThinSegment, body: Section, where: str) -> ThinSegment:
    segment.pool = text_value(body, "thin_pool", None, f"Thin pool must be a string in {where}.")
    segment.transaction_id = number_value(
        body, "transaction_id", None, f"Could not read transaction_id for {where}."
    )
    segment.device_id = number_value(body, "device_id", None, f"Could not read device_id for {where}.")
    if segment.device_id > MAX_DEVICE_ID:
        raise CorruptError(f"Unsupported value {segment.device_id} for device_id of {where}.")
    segment.external_origin = text_value(body, "external_origin")
    segment.origin = text_value(body, "origin")
    segment.merge = text_value(body, "merge")
    segment.extra = {name: value for name, value in body.items() if name not in _THIN_KEYS}
    return segment


def _written_at(root: Section) -> int:
    """When the text was written. LVM2 takes the low 32 bits of any number, and 0 for anything else."""
    value = root.get("creation_time")
    return value & 0xFFFFFFFF if isinstance(value, int) else 0


def _historical(name: str, body: Section) -> HistoricalVolume:
    if not is_valid_name(name):
        raise CorruptError(f"Invalid historical logical volume name {name!r}.")
    return HistoricalVolume(
        name=name,
        uuid=uuid_value(body, f"Couldn't read uuid for removed logical volume {name}."),
        creation_time=number_value(body, "creation_time", 0),
        removal_time=number_value(body, "removal_time", 0),
        origin=text_value(body, "origin"),
        descendants=strings_value(body, "descendants"),
        extra={
            key: value
            for key, value in body.items()
            if key not in ("id", "creation_time", "removal_time", "origin", "descendants")
        },
    )
