# SPDX-License-Identifier: Apache-2.0
"""From metadata text to a :class:`~lamella.lvm.format.model.VolumeGroup`.

Both forms are read: the one in metadata areas and that of backup files. What LVM2 refuses is
refused here with its words (lib/format_text/import_vsn1.c); keys that are not known stay in
``extra`` and are written back.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from lamella.errors import CorruptError
from lamella.lvm.format.fast_path import Plain, build, take_plain
from lamella.lvm.format.ids import is_uuid
from lamella.lvm.format.model import HistoricalVolume, LogicalVolume, VolumeGroup
from lamella.lvm.format.names import is_valid_name
from lamella.lvm.format.physical_volume import PhysicalVolume
from lamella.lvm.format.segments import Area, Segment, StripedSegment, ThinPoolSegment, ThinSegment
from lamella.lvm.format.text import parse

if TYPE_CHECKING:
    from lamella.lvm.format.text import Section, Value

READ_PREFIX = "Couldn't read volume group metadata: "
CONTENTS = "Text Format Volume Group"
MIN_CHUNK, MAX_CHUNK = 128, 2097152
"""dm-thin's smallest and largest chunk, in sectors (64 KiB, 1 GiB)."""
MAX_DEVICE_ID = (1 << 24) - 1

_VG_KEYS = frozenset(
    (
        "id",
        "seqno",
        "format",
        "status",
        "flags",
        "tags",
        "system_id",
        "lock_type",
        "lock_args",
        "extent_size",
        "max_lv",
        "max_pv",
        "allocation_policy",
        "profile",
        "metadata_copies",
        "physical_volumes",
        "logical_volumes",
        "historical_logical_volumes",
    )
)
_PV_KEYS = frozenset(
    (
        "id",
        "device",
        "device_id",
        "device_id_type",
        "status",
        "flags",
        "tags",
        "dev_size",
        "pe_start",
        "pe_count",
        "ba_start",
        "ba_size",
    )
)
_LV_KEYS = frozenset(
    (
        "id",
        "status",
        "flags",
        "tags",
        "creation_time",
        "creation_host",
        "lock_args",
        "allocation_policy",
        "profile",
        "read_ahead",
        "major",
        "minor",
        "segment_count",
    )
)
_SEGMENT_KEYS = frozenset(("start_extent", "extent_count", "type", "tags"))
_STRIPED_KEYS = _SEGMENT_KEYS | {"stripe_count", "stripe_size", "stripes"}
_POOL_KEYS = _SEGMENT_KEYS | frozenset(
    (
        "metadata",
        "pool",
        "transaction_id",
        "chunk_size",
        "discards",
        "zero_new_blocks",
        "crop_metadata",
    )
)
_THIN_KEYS = _SEGMENT_KEYS | frozenset(
    (
        "thin_pool",
        "transaction_id",
        "device_id",
        "external_origin",
        "origin",
        "merge",
    )
)
_POLICIES = frozenset(("contiguous", "cling", "cling_by_tags", "normal", "anywhere", "inherit"))


def read_group(text: str, *, source: str = "") -> VolumeGroup:
    """The volume group that *text* describes. *source* names the place in errors ("/dev/sdb").

    Raises :class:`CorruptError` for text that is malformed or contradicts itself.
    """
    # Tens of thousands of small objects, none of them garbage: the collector would only cost time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        taken = take_plain(text)
        if taken is not None:
            group = _group(parse(taken[0]), taken[1])
            if group is not None:
                return group
        group = _group(parse(text))
        assert group is not None
        return group
    except CorruptError as error:
        where = f"{source}: " if source else ""
        raise CorruptError(
            f"{where}{READ_PREFIX}{error.message}",
            hint=error.hint or "restore it with vgcfgrestore, or let vgck --updatemetadata copy a good one",
        ) from error
    finally:
        if collecting:
            gc.enable()


def read_name_and_seqno(text: str) -> tuple[str, str, int]:
    """Only (name, UUID, seqno) of the group in *text*, as quick looks need. Raises :class:`CorruptError`."""
    name, body = _group_section(parse(text))
    return name, _text(body, "id"), _number(body, "seqno", 0)


def _group_section(root: Section) -> tuple[str, Section]:
    for name, body in root.items():
        if isinstance(body, dict):
            return name, body
    raise CorruptError("Can't process text format file - no volume group section.")


def _group(root: Section, plain: list[Plain] | None = None) -> VolumeGroup | None:
    """The group; None if *plain* volumes, read beforehand, do not fit it."""
    if root.get("contents") != CONTENTS:
        reason = "unrecognised" if "contents" in root else "missing"
        raise CorruptError(f"Can't process text format file - {reason} contents field.")
    if root.get("version") != 1:
        reason = "unrecognised version number" if "version" in root else "missing version number"
        raise CorruptError(f"Can't process text format file - {reason}.")
    name, body = _group_section(root)
    if not is_valid_name(name):
        raise CorruptError(f"Invalid volume group name {name!r}.")
    if "status" not in body:
        raise CorruptError(f"Couldn't find status flags for volume group {name}.")
    lvs_body = _section(body, "logical_volumes")
    group = VolumeGroup(
        name=name,
        uuid=_uuid(body, f"Couldn't read uuid for volume group {name}."),
        seqno=_number(body, "seqno", None, f"Couldn't read 'seqno' for volume group {name}."),
        format=_text(body, "format", "lvm2"),
        status=_strings(body, "status"),
        flags=_strings(body, "flags"),
        tags=_strings(body, "tags"),
        system_id=_text(body, "system_id"),
        lock_type=_text(body, "lock_type"),
        lock_args=_text(body, "lock_args"),
        extent_sectors=_number(
            body, "extent_size", None, f"Couldn't read extent size for volume group {name}."
        ),
        max_lv=_number(body, "max_lv", 0),
        max_pv=_number(body, "max_pv", 0),
        allocation_policy=_policy(body, "normal"),
        profile=_text(body, "profile"),
        metadata_copies=_number(body, "metadata_copies", 0),
        extra={key: value for key, value in body.items() if key not in _VG_KEYS},
        description=_text(root, "description"),
        creation_host=_text(root, "creation_host"),
        creation_time=_number(root, "creation_time", 0),
    )
    if not group.extent_sectors or group.extent_sectors >= 1 << 32:
        raise CorruptError(f"Couldn't read extent size for volume group {name}.")
    names: dict[str, PhysicalVolume] = {}
    for key, value in _section(body, "physical_volumes").items():
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
    for key, value in _section(body, "historical_logical_volumes").items():
        if isinstance(value, dict):
            group.historical.append(_historical(key, value))
    _check_references(group)
    check_extents(group)
    return group


def _pv(name: str, body: Section) -> PhysicalVolume:
    pv = PhysicalVolume(
        uuid=_uuid(body, "Couldn't read uuid for physical volume."),
        device=_text(body, "device"),
        name=name,
        status=_strings(body, "status", "Couldn't read status flags for physical volume."),
        flags=_strings(body, "flags"),
        tags=_strings(body, "tags"),
        dev_sectors=_number(body, "dev_size", 0),
        pe_start=_number(
            body, "pe_start", None, "Couldn't read extent start value (pe_start) for physical volume."
        ),
        pe_count=_number(
            body, "pe_count", None, "Couldn't find extent count (pe_count) for physical volume."
        ),
        ba_start=_number(body, "ba_start", 0),
        ba_size=_number(body, "ba_size", 0),
        device_id=_text(body, "device_id"),
        device_id_type=_text(body, "device_id_type"),
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
    lv = LogicalVolume(
        name=name,
        uuid=_uuid(body, f"Couldn't read uuid for logical volume {name}."),
        status=_strings(body, "status", f"Couldn't read status flags for logical volume {name}."),
        flags=_strings(body, "flags"),
        tags=_strings(body, "tags"),
        creation_time=_number(body, "creation_time", 0),
        creation_host=_text(body, "creation_host"),
        allocation_policy=_policy(body, "inherit"),
        profile=_text(body, "profile"),
        # LVM writes -1 for "none" and nothing for "auto"; 0 stands for "auto" when read.
        read_ahead=None if not isinstance(read_ahead, int) or read_ahead == 0 else max(read_ahead, 0),
        major=_optional(body, "major"),
        minor=_optional(body, "minor"),
        lock_args=_text(body, "lock_args"),
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
    tags = _strings(body, "tags")
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
    segment.metadata = _text(body, "metadata", None, f"Metadata must be a string in {where}.")
    segment.data = _text(body, "pool", None, f"Pool must be a string in {where}.")
    segment.transaction_id = _number(
        body, "transaction_id", None, f"Could not read transaction_id for {where}."
    )
    segment.chunk_sectors = _number(body, "chunk_size", None, f"Could not read chunk_size for {where}.")
    if not MIN_CHUNK <= segment.chunk_sectors <= MAX_CHUNK:
        raise CorruptError(f"Unsupported value {segment.chunk_sectors} for chunk_size of {where}.")
    segment.discards = _text(body, "discards", "ignore")
    if segment.discards not in ("passdown", "nopassdown", "ignore"):
        raise CorruptError(f"Discards option unsupported for {where}.")
    segment.zero = bool(_number(body, "zero_new_blocks", 0))
    crop = _optional(body, "crop_metadata")
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
    segment.pool = _text(body, "thin_pool", None, f"Thin pool must be a string in {where}.")
    segment.transaction_id = _number(
        body, "transaction_id", None, f"Could not read transaction_id for {where}."
    )
    segment.device_id = _number(body, "device_id", None, f"Could not read device_id for {where}.")
    if segment.device_id > MAX_DEVICE_ID:
        raise CorruptError(f"Unsupported value {segment.device_id} for device_id of {where}.")
    segment.external_origin = _text(body, "external_origin")
    segment.origin = _text(body, "origin")
    segment.merge = _text(body, "merge")
    segment.extra = {name: value for name, value in body.items() if name not in _THIN_KEYS}
    return segment


def _historical(name: str, body: Section) -> HistoricalVolume:
    return HistoricalVolume(
        name=_text(body, "name", name),
        uuid=_uuid(body, f"Couldn't read uuid for removed logical volume {name}."),
        creation_time=_number(body, "creation_time", 0),
        removal_time=_number(body, "removal_time", 0),
        origin=_text(body, "origin"),
        descendants=_strings(body, "descendants"),
        extra={
            key: value
            for key, value in body.items()
            if key not in ("name", "id", "creation_time", "removal_time", "origin", "descendants")
        },
    )


# -- whole-group checks ------------------------------------------------------------------------------


def _check_references(group: VolumeGroup) -> None:
    """Every volume that a striped, thin or pool segment names must be there and of the right kind."""
    for lv in group.lvs.values():
        for segment in lv.segments:
            if isinstance(segment, StripedSegment):
                for area in segment.stripes:
                    if area.pv is None and area.lv not in group.lvs:
                        raise CorruptError(
                            f"Couldn't find volume '{area.lv}' for a segment of logical volume {lv.name}."
                        )
                continue
            if not isinstance(segment, ThinPoolSegment | ThinSegment):
                continue
            if len(lv.segments) != 1:
                raise CorruptError(f"LV {lv.name} invalid: a thin volume or pool has one segment only.")
            for role, name in segment.references():
                if name not in group.lvs:
                    raise CorruptError(f"Unknown {role} {name} in a segment of logical volume {lv.name}.")
            if isinstance(segment, ThinSegment) and group.lvs[segment.pool].thin_pool is None:
                raise CorruptError(f"LV {lv.name} invalid: {segment.pool} is no thin pool.")
    _check_cycles(group)


def _check_cycles(group: VolumeGroup) -> None:
    """No volume may lie, through its areas or pools, on itself."""
    below: dict[str, set[str]] = {}
    for lv in group.lvs.values():
        for segment in lv.segments:
            if isinstance(segment, StripedSegment) and not any(area.lv for area in segment.mapped):
                continue
            for role, target in segment.references():
                if role in ("area", "metadata", "pool", "thin_pool", "external_origin"):
                    below.setdefault(lv.name, set()).add(target)
    # Strip volumes that lie on nothing left, layer by layer; what remains goes in circles.
    while below:
        free = {name for name, targets in below.items() if not any(target in below for target in targets)}
        if not free:
            raise CorruptError(f"LV {next(iter(below))} invalid: it lies on itself.")
        for name in free:
            del below[name]


def check_extents(group: VolumeGroup) -> None:
    """Raise :class:`CorruptError` if an extent is used twice, or lies outside its physical volume."""
    for pv, runs in zip(group.pvs, group.extent_map().values(), strict=True):
        at = 0
        for start, count, lv, _segment in runs:
            if start < at:
                raise CorruptError(
                    f"Physical extent {start} of PV {pv.device} is allocated twice (by LV {lv.name})."
                )
            at = start + count
            if at > pv.pe_count:
                raise CorruptError(
                    f"LV {lv.name} uses physical extent {at - 1} of PV {pv.device}, "
                    f"which has {pv.pe_count} only."
                )


def merged(segments: list[Segment]) -> list[Segment]:
    """Join striped segments that follow one another both in the volume and on the disks, as LVM does."""
    result: list[Segment] = []
    for segment in segments:
        last = result[-1] if result else None
        if (
            isinstance(last, StripedSegment)
            and isinstance(segment, StripedSegment)
            and last.start_extent + last.extent_count == segment.start_extent
            and last.stripe_size == segment.stripe_size
            and last.tags == segment.tags
            and last.type == segment.type
            and len(last.mapped) == len(segment.mapped)
            and all(
                a.pv is not None and a.pv is b.pv and a.extent + last.area_extents == b.extent
                for a, b in zip(last.mapped, segment.mapped, strict=True)
            )
        ):
            last.extent_count += segment.extent_count
        else:
            result.append(segment)
    return result


# -- reading single values ---------------------------------------------------------------------------


def _section(body: Section, key: str) -> Section:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _uuid(body: Section, problem: str) -> str:
    value = body.get("id")
    if not isinstance(value, str) or not is_uuid(value):
        raise CorruptError(problem)
    return value


def _text(body: Section, key: str, default: str | None = "", problem: str = "") -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise CorruptError(problem or f"'{key}' must be a string.")
    return value


def _number(body: Section, key: str, default: int | None, problem: str = "") -> int:
    value = body.get(key, default)
    if not isinstance(value, int) or value < 0:
        raise CorruptError(problem or f"'{key}' must be a number.")
    return value


def _optional(body: Section, key: str) -> int | None:
    value = body.get(key)
    return value if isinstance(value, int) else None


def _strings(body: Section, key: str, problem: str | None = None) -> list[str]:
    value = body.get(key)
    if value is None and problem is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CorruptError(problem or f"Found an item that is not a string in '{key}'.")
    return [str(item) for item in value]


def _policy(body: Section, default: str) -> str:
    value = body.get("allocation_policy")
    if isinstance(value, str) and value in _POLICIES and value != default:
        return value
    return ""
