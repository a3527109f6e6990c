# SPDX-License-Identifier: Apache-2.0
"""Values of the fields about segments of logical volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella.block.device import SECTOR
from lamella.lvm.format.segments import StripedSegment, ThinPoolSegment, ThinSegment
from lamella.lvm.report import lv_kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.format.segments import Area, Segment
    from lamella.lvm.report.view import GroupView, Row

PARITY = {"raid4": 1, "raid5": 1, "raid6": 2}


def _extra(segment: Segment, key: str) -> int | None:
    value = segment.extra.get(key)
    return value if isinstance(value, int) else None


def _level(segment: Segment) -> str:
    return segment.kind.partition("_")[0]


def _type(row: Row, segment: Segment) -> str:
    if segment.kind == "striped":
        return "linear" if len(segment.mapped) < 2 else "striped"
    return segment.type if not segment.type_flags else segment.kind


def _area_count(segment: Segment) -> int:
    if segment.kind in ("cache", "cache-pool", "thin-pool", "vdo-pool", "writecache", "vdo"):
        return 1
    return len(segment.areas())


def _data_stripes(row: Row, segment: Segment) -> int:
    count = _area_count(segment)
    level = _level(segment)
    if level == "raid10":
        return count // (_extra(segment, "data_copies") or 2)
    return count - PARITY.get(level, 0)


def _data_copies(row: Row, segment: Segment) -> int:
    level = _level(segment)
    if level == "raid1":
        return _area_count(segment)
    if level == "raid10":
        return _extra(segment, "data_copies") or 2
    return 1 + PARITY.get(level, 0)


def _monitor(row: Row, segment: Segment) -> str:
    if row.lv is None or segment.kind != "thin-pool" or not row.view.sources.activation:
        return ""
    return row.view.sources.monitored(row.view.group, row.lv)


def _parity(row: Row, segment: Segment) -> int | None:
    level = _level(segment)
    if level in PARITY:
        return PARITY[level]
    if level == "raid1":
        return _area_count(segment) - 1
    return 1 if level == "raid10" else None


def _reshape(row: Row, segment: Segment) -> int | None:
    """Only for RAIDs that can be reshaped, and their images; offline it is what the text says, or 0."""
    if _level(segment) in ("raid4", "raid5", "raid6", "raid10"):
        return _extra(segment, "reshape_count") or 0
    if row.lv is None:
        return None
    user = row.view.role_of(row.lv)
    if user is not None and user[2] == "area" and _level(user[1]) in ("raid4", "raid5", "raid6", "raid10"):
        return _extra(segment, "reshape_count") or 0
    return None


def _reshape_size(row: Row, segment: Segment) -> int | None:
    count = _reshape(row, segment)
    return None if count is None else count * row.view.group.extent_size


def _stripe_size(row: Row, segment: Segment) -> int:
    if isinstance(segment, StripedSegment):
        return segment.stripe_size * SECTOR
    return (_extra(segment, "stripe_size") or 0) * SECTOR


def _cache_pool(row: Row, segment: Segment) -> Segment | None:
    """The segment that holds a cache's settings."""
    if segment.kind == "cache-pool":
        return segment
    if segment.kind == "cache":
        pool = row.view.group.lvs.get(str(segment.extra.get("cache_pool", "")))
        if pool is not None and pool.segments:
            return pool.segments[0] if pool.segments[0].kind == "cache-pool" else segment
    return None


def _chunk_size(row: Row, segment: Segment) -> int:
    if isinstance(segment, ThinPoolSegment):
        return segment.chunk_size
    if row.lv is not None and row.lv.name in row.view.snapshot_stores:
        return (_extra(row.view.snapshot_stores[row.lv.name][1], "chunk_size") or 0) * SECTOR
    pool = _cache_pool(row, segment)
    return (_extra(pool, "chunk_size") or 0) * SECTOR if pool is not None else 0


def _cache_number(key: str) -> Callable[[Row, Segment], int | None]:
    def value(row: Row, segment: Segment) -> int | None:
        pool = _cache_pool(row, segment)
        return _extra(pool, key) if pool is not None else None

    return value


def _cache_word(key: str) -> Callable[[Row, Segment], str]:
    def value(row: Row, segment: Segment) -> str:
        pool = _cache_pool(row, segment)
        found = pool.extra.get(key) if pool is not None else None
        return found if isinstance(found, str) else ""

    return value


def _cache_settings(row: Row, segment: Segment) -> list[str]:
    pool = _cache_pool(row, segment)
    found = pool.extra.get("policy_settings") if pool is not None else None
    return [f"{key}={value}" for key, value in found.items()] if isinstance(found, dict) else []


def _thin_count(row: Row, segment: Segment) -> int | None:
    if not isinstance(segment, ThinPoolSegment) or row.lv is None:
        return None
    return row.view.thin_counts.get(row.lv.name, 0)


def _discards(row: Row, segment: Segment) -> str:
    pool = lv_kinds.pool_of(row.view, row.lv) if row.lv is not None else None
    return pool.discards if pool is not None else ""


def _zero(row: Row, segment: Segment) -> bool | None:
    pool = lv_kinds.pool_of(row.view, row.lv) if row.lv is not None else None
    return pool.zero if pool is not None else None


def _transaction_id(row: Row, segment: Segment) -> int | None:
    return segment.transaction_id if isinstance(segment, ThinSegment | ThinPoolSegment) else None


def _areas(row: Row, segment: Segment) -> list[Area]:
    from lamella.lvm.format.segments import Area

    key = {"cache": "origin", "cache-pool": "data", "vdo-pool": "data", "writecache": "origin"}.get(
        segment.kind
    )
    if key is not None:
        return [Area(None, 0, str(segment.extra.get(key, "")))]
    if segment.kind == "vdo":
        return [Area(None, _extra(segment, "vdo_offset") or 0, str(segment.extra.get("vdo_pool", "")))]
    return segment.areas()


def area_extents(segment: Segment) -> int:
    """Extents that a segment takes from each of its areas, parity and copies counted."""
    level = _level(segment)
    count = len(segment.areas())
    if level in PARITY and count > PARITY[level]:
        return segment.extent_count // (count - PARITY[level])
    if level == "raid10" and count:
        return segment.extent_count * (_extra(segment, "data_copies") or 2) // count
    if level == "raid0" and count:
        return segment.extent_count // count
    return segment.area_extents


def _place(view: GroupView, area: Area, *, marked: bool) -> str:
    if area.pv is not None:
        return area.pv.path
    return view.marked_name(area.lv) if marked else area.lv


def _devices(row: Row, segment: Segment) -> list[str]:
    return [f"{_place(row.view, area, marked=False)}({area.extent})" for area in _areas(row, segment)]


def _metadata_devices(row: Row, segment: Segment) -> list[str]:
    return [f"{area.lv}({area.extent})" for area in segment.metadata_areas()]


def _ranges(row: Row, segment: Segment, *, marked: bool) -> list[str]:
    length = area_extents(segment)
    return [
        f"{_place(row.view, area, marked=marked)}:{area.extent}-{area.extent + length - 1}"
        for area in _areas(row, segment)
    ]


def _metadata_ranges(row: Row, segment: Segment) -> list[str]:
    found = []
    for area in segment.metadata_areas():
        other = row.view.group.lvs.get(area.lv)
        length = other.extents if other is not None else 1
        found.append(f"{row.view.marked_name(area.lv)}:{area.extent}-{area.extent + length - 1}")
    return found


def _vdo(key: str, *, scale: int = 1) -> Callable[[Row, Segment], int | None]:
    def value(row: Row, segment: Segment) -> int | None:
        found = _extra(segment, key) if segment.kind == "vdo-pool" else None
        return None if found is None else found * scale

    return value


def _vdo_flag(key: str) -> Callable[[Row, Segment], bool | str]:
    def value(row: Row, segment: Segment) -> bool | str:
        return bool(segment.extra.get(key)) if segment.kind == "vdo-pool" else ""

    return value


def _vdo_policy(row: Row, segment: Segment) -> str:
    return str(segment.extra.get("write_policy", "auto")) if segment.kind == "vdo-pool" else ""


_MIB = 1 << 20
_OF_SEGMENT: dict[str, Callable[[Row, Segment], Any]] = {
    "segtype": _type,
    "stripes": lambda row, segment: _area_count(segment),
    "data_stripes": _data_stripes,
    "reshape_len": _reshape_size,
    "reshape_len_le": _reshape,
    "data_copies": _data_copies,
    "data_offset": lambda row, segment: _extra(segment, "data_offset"),
    "new_data_offset": lambda row, segment: None,
    "parity_chunks": _parity,
    "stripe_size": _stripe_size,
    "region_size": lambda row, segment: (_extra(segment, "region_size") or 0) * SECTOR,
    "chunk_size": _chunk_size,
    "thin_count": _thin_count,
    "discards": _discards,
    "cache_metadata_format": _cache_number("metadata_format"),
    "cache_mode": _cache_word("cache_mode"),
    "zero": _zero,
    "transaction_id": _transaction_id,
    "thin_id": lambda row, segment: segment.device_id if isinstance(segment, ThinSegment) else None,
    "seg_start": lambda row, segment: segment.start_extent * row.view.group.extent_size,
    "seg_start_pe": lambda row, segment: segment.start_extent,
    "seg_size": lambda row, segment: segment.extent_count * row.view.group.extent_size,
    "seg_size_pe": lambda row, segment: str(segment.extent_count),
    "seg_tags": lambda row, segment: sorted(segment.tags),
    "seg_pe_ranges": lambda row, segment: " ".join(_ranges(row, segment, marked=False)),
    "seg_le_ranges": lambda row, segment: _ranges(row, segment, marked=True),
    "seg_metadata_le_ranges": _metadata_ranges,
    "devices": _devices,
    "metadata_devices": _metadata_devices,
    "seg_monitor": _monitor,
    "cache_policy": _cache_word("policy"),
    "cache_settings": _cache_settings,
    "vdo_compression": _vdo_flag("use_compression"),
    "vdo_deduplication": _vdo_flag("use_deduplication"),
    "vdo_use_metadata_hints": _vdo_flag("use_metadata_hints"),
    "vdo_minimum_io_size": _vdo("minimum_io_size"),
    "vdo_block_map_cache_size": _vdo("block_map_cache_size_mb", scale=_MIB),
    "vdo_block_map_era_length": _vdo("block_map_era_length"),
    "vdo_use_sparse_index": _vdo_flag("use_sparse_index"),
    "vdo_index_memory_size": _vdo("index_memory_size_mb", scale=_MIB),
    "vdo_slab_size": _vdo("slab_size_mb", scale=_MIB),
    "vdo_ack_threads": _vdo("ack_threads"),
    "vdo_bio_threads": _vdo("bio_threads"),
    "vdo_bio_rotation": _vdo("bio_rotation"),
    "vdo_cpu_threads": _vdo("cpu_threads"),
    "vdo_hash_zone_threads": _vdo("hash_zone_threads"),
    "vdo_logical_threads": _vdo("logical_threads"),
    "vdo_physical_threads": _vdo("physical_threads"),
    "vdo_max_discard": _vdo("max_discard"),
    "vdo_write_policy": _vdo_policy,
    "vdo_header_size": _vdo("header_size", scale=SECTOR),
}

_WITHOUT: dict[str, Any] = {
    "segtype": "free", "zero": None, "stripes": 0, "data_stripes": 0, "stripe_size": 0, "region_size": 0,
    "chunk_size": 0, "seg_start": 0, "seg_start_pe": 0, "seg_tags": [], "seg_le_ranges": [],
    "seg_metadata_le_ranges": [], "devices": [], "metadata_devices": [], "cache_settings": [],
}  # fmt: skip
"""Values in a row about free extents, where they are not simply empty."""


def _free_extents(row: Row) -> int:
    return row.run[1] if row.run is not None else 0


free_size: dict[str, Callable[[Row], Any]] = {
    "seg_size": lambda row: _free_extents(row) * (row.view.vg.extent_size if row.view.vg is not None else 0),
    "seg_size_pe": lambda row: str(_free_extents(row)),
}
"""Of a run that no segment uses."""


def _for_row(name: str, value: Callable[[Row, Segment], Any]) -> Callable[[Row], Any]:
    otherwise = _WITHOUT.get(name, "")

    def of(row: Row) -> Any:
        segment = row.segment
        if segment is None:
            return free_size[name](row) if name in free_size and row.run is not None else otherwise
        return value(row, segment)

    return of


VALUES: dict[str, Callable[[Row], Any]] = {name: _for_row(name, value) for name, value in _OF_SEGMENT.items()}
