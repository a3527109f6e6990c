# SPDX-License-Identifier: Apache-2.0
"""Values of the fields about logical volumes.

None means "nothing to say" for a number, a size, a percentage or a time, and "unknown" for a
binary field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella.block.device import SECTOR
from lamella.lvm.format.names import dm_name
from lamella.lvm.format.segments import VIRTUAL_TYPES
from lamella.lvm.report import ancestry, lv_kinds
from lamella.lvm.report.ancestry import RemovedVolume

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.report.view import GroupView, Row

    LvCall = Callable[[GroupView, LogicalVolume], Any]


def _path(view: GroupView, lv: LogicalVolume) -> str:
    if not view.visible(lv) or lv.kind in lv_kinds.POOL_KINDS:
        return ""
    return f"/dev/{view.group.name}/{lv.name}"


def _parent(view: GroupView, lv: LogicalVolume) -> str:
    user = view.role_of(lv)
    return view.marked(user[0]) if user is not None else ""


def _size(view: GroupView, lv: LogicalVolume) -> int:
    return lv.extents * view.group.extent_size


def _named(name: Callable[[GroupView, LogicalVolume], str]) -> tuple[LvCall, LvCall]:
    """Two values from one: the other volume's name as reports show it, and its identifier."""

    def shown(view: GroupView, lv: LogicalVolume) -> str:
        found = name(view, lv)
        return view.marked_name(found) if found else ""

    def uuid(view: GroupView, lv: LogicalVolume) -> str:
        other = view.group.lvs.get(name(view, lv))
        return other.uuid if other is not None else ""

    return shown, uuid


def _first(lv: LogicalVolume, key: str, *kinds: str) -> str:
    """A key of the first segment, if it has one of these kinds."""
    if lv.segments and lv.segments[0].kind in kinds:
        value = lv.segments[0].extra.get(key)
        if isinstance(value, str):
            return value
    return ""


def _origin_name(view: GroupView, lv: LogicalVolume) -> str:
    return view.origin_of(lv) or _first(lv, "origin", "cache", "writecache", "integrity")


def _data_name(view: GroupView, lv: LogicalVolume) -> str:
    pool = lv.thin_pool
    return pool.data if pool is not None else _first(lv, "data", "cache-pool", "vdo-pool")


def _metadata_name(view: GroupView, lv: LogicalVolume) -> str:
    pool = lv.thin_pool
    return pool.metadata if pool is not None else _first(lv, "metadata", "cache-pool")


def _pool_name(view: GroupView, lv: LogicalVolume) -> str:
    thin = lv.thin
    if thin is not None:
        return thin.pool
    return (
        _first(lv, "cache_pool", "cache")
        or _first(lv, "vdo_pool", "vdo")
        or _first(lv, "writecache", "writecache")
    )


def _log_name(view: GroupView, lv: LogicalVolume) -> str:
    return _first(lv, "mirror_log", "mirror")


def _origin_size(view: GroupView, lv: LogicalVolume) -> int | None:
    if lv.name in view.snapshot_origins:
        return _size(view, lv)
    store = view.snapshot_stores.get(lv.name)
    name = store[0] if store else lv.thin.external_origin if lv.thin is not None else ""
    other = view.group.lvs.get(name)
    return _size(view, other) if other is not None else None


def _metadata_size(view: GroupView, lv: LogicalVolume) -> int | None:
    other = view.group.lvs.get(_metadata_name(view, lv))
    return _size(view, other) if other is not None else None


def _merging(view: GroupView, lv: LogicalVolume) -> bool:
    """Set for the snapshot, and for the origin of an old-style one, but not for a thin one's."""
    letter = lv_kinds.attributes(view, lv)[0]
    return letter == "S" or (letter == "O" and lv.thin is None)


def _modules(view: GroupView, lv: LogicalVolume) -> list[str]:
    kind = lv.kind
    if lv.name in view.snapshot_origins or lv.name in view.snapshot_stores:
        return ["snapshot"]
    match kind:
        case "thin":
            return ["thin", "thin-pool"]
        case "thin-pool" | "mirror" | "vdo" | "writecache":
            return [kind]
        case "cache" | "cache-pool":
            return ["cache"]
        case "vdo-pool":
            return ["vdo"]
    if kind.startswith("raid"):
        return ["raid"]
    return [each for each in VIRTUAL_TYPES if any(segment.kind == each for segment in lv.segments)]


def _read_ahead(view: GroupView, lv: LogicalVolume) -> int | str:
    return "auto" if lv.read_ahead is None else lv.read_ahead * SECTOR


def _when_full(view: GroupView, lv: LogicalVolume) -> str:
    if lv.thin_pool is None:
        return ""
    return "error" if "ERROR_WHEN_FULL" in lv.flags else "queue"


def _active(word: str) -> LvCall:
    def value(view: GroupView, lv: LogicalVolume) -> str:
        if not view.sources.activation:
            return "unknown"
        return word if view.active(lv) else ""

    return value


def _active_flag(here: bool) -> LvCall:
    def value(view: GroupView, lv: LogicalVolume) -> bool | None:
        if not view.sources.activation:
            return None
        return here and view.active(lv)

    return value


def _state(value: Callable[[Any], Any], otherwise: Any) -> LvCall:
    def of(view: GroupView, lv: LogicalVolume) -> Any:
        state = view.kernel(lv)
        return otherwise if state is None else value(state)

    return of


def _permissions(view: GroupView, lv: LogicalVolume) -> str:
    state = view.kernel(lv)
    if not lv.writable:
        return "read-only"
    if state is None:
        return "unknown"
    return "read-only-override" if state.read_only else "writeable"


def _initial_sync(view: GroupView, lv: LogicalVolume) -> bool:
    kind = lv.kind
    return (kind == "mirror" or kind.startswith("raid")) and "NOTSYNCED" not in lv.status


def _usage(part: str) -> LvCall:
    def value(view: GroupView, lv: LogicalVolume) -> float | None:
        if not view.sources.activation or (lv.thin is None and lv.thin_pool is None):
            return None
        found: float | None = getattr(view.sources.thin_usage(view.group, lv), part)
        return found

    return value


def _discards(view: GroupView, lv: LogicalVolume) -> str:
    state = view.target(lv) if lv.thin_pool is not None else None
    return state.discards if state is not None else ""


def _needs_check(view: GroupView, lv: LogicalVolume) -> bool | None:
    state = view.target(lv) if lv.thin_pool is not None else None
    return state.needs_check if state is not None else None


def _nothing(view: GroupView, lv: LogicalVolume) -> None:
    return None


def _empty(view: GroupView, lv: LogicalVolume) -> str:
    return ""


def _writecache_block(view: GroupView, lv: LogicalVolume) -> int:
    if lv.segments and lv.segments[0].kind == "writecache":
        value = lv.segments[0].extra.get("writecache_block_size")
        if isinstance(value, int):
            return value
    return -1


_ORIGIN, _ORIGIN_UUID = _named(_origin_name)
_DATA, _DATA_UUID = _named(_data_name)
_METADATA, _METADATA_UUID = _named(_metadata_name)
_POOL, _POOL_UUID = _named(_pool_name)
_LOG, _LOG_UUID = _named(_log_name)

_OF_LV: dict[str, Callable[[GroupView, LogicalVolume], Any]] = {
    "lv_uuid": lambda view, lv: lv.uuid,
    "lv_name": lambda view, lv: view.marked(lv),
    "lv_full_name": lambda view, lv: f"{view.group.name}/{lv.name}",
    "lv_path": _path,
    "lv_dm_path": lambda view, lv: f"/dev/mapper/{dm_name(view.group.name, lv.name)}",
    "lv_parent": _parent,
    "lv_layout": lv_kinds.layout,
    "lv_role": lv_kinds.roles,
    "lv_initial_image_sync": _initial_sync,
    "lv_image_synced": lambda view, lv: False,
    "lv_merging": _merging,
    "lv_converting": lambda view, lv: "CONVERTING" in lv.status,
    "lv_allocation_policy": lambda view, lv: lv.allocation_policy or "inherit",
    "lv_allocation_locked": lambda view, lv: "LOCKED" in lv.status,
    "lv_fixed_minor": lambda view, lv: "FIXED_MINOR" in lv.status,
    "lv_skip_activation": lambda view, lv: "ACTIVATION_SKIP" in lv.flags,
    "lv_autoactivation": lambda view, lv: "NOAUTOACTIVATE" not in lv.flags,
    "lv_when_full": _when_full,
    "lv_active": _active("active"),
    "lv_active_locally": _active_flag(True),
    "lv_active_remotely": _active_flag(False),
    "lv_active_exclusively": _active_flag(True),
    "lv_major": lambda view, lv: -1 if lv.major is None else lv.major,
    "lv_minor": lambda view, lv: -1 if lv.minor is None else lv.minor,
    "lv_read_ahead": _read_ahead,
    "lv_size": _size,
    "lv_metadata_size": _metadata_size,
    "seg_count": lambda view, lv: len(lv.segments),
    "origin": _ORIGIN,
    "origin_uuid": _ORIGIN_UUID,
    "origin_size": _origin_size,
    "lv_ancestors": lambda view, lv: ancestry.ancestors(view, lv, over_removed=False),
    "lv_full_ancestors": ancestry.ancestors,
    "lv_descendants": lambda view, lv: ancestry.descendants(view, lv, over_removed=False),
    "lv_full_descendants": ancestry.descendants,
    "raidintegrityblocksize": lambda view, lv: -1,
    "mirror_log": _LOG,
    "mirror_log_uuid": _LOG_UUID,
    "data_lv": _DATA,
    "data_lv_uuid": _DATA_UUID,
    "metadata_lv": _METADATA,
    "metadata_lv_uuid": _METADATA_UUID,
    "pool_lv": _POOL,
    "pool_lv_uuid": _POOL_UUID,
    "lv_tags": lambda view, lv: sorted(lv.tags),
    "lv_profile": lambda view, lv: lv.profile,
    "lv_lockargs": lambda view, lv: lv.lock_args,
    "lv_time": lambda view, lv: lv.creation_time or None,
    "lv_host": lambda view, lv: lv.creation_host,
    "lv_modules": _modules,
    "lv_historical": lambda view, lv: isinstance(lv, RemovedVolume),
    "lv_time_removed": lambda view, lv: (lv.removal_time or None) if isinstance(lv, RemovedVolume) else None,
    "writecache_block_size": _writecache_block,
    "lv_kernel_major": _state(lambda state: state.major, -1),
    "lv_kernel_minor": _state(lambda state: state.minor, -1),
    "lv_kernel_read_ahead": _state(lambda state: state.read_ahead, "-1"),
    "lv_permissions": _permissions,
    "lv_suspended": _state(lambda state: state.suspended, None),
    "lv_live_table": _state(lambda state: state.live_table, None),
    "lv_inactive_table": _state(lambda state: state.inactive_table, None),
    "lv_device_open": _state(lambda state: state.open, None),
    "data_percent": _usage("data"),
    "snap_percent": _usage("data"),
    "metadata_percent": _usage("metadata"),
    "kernel_cache_settings": lambda view, lv: [],
    "lv_health_status": lv_kinds.health,
    "kernel_discards": _discards,
    "lv_check_needed": _needs_check,
    "lv_attr": lv_kinds.attributes,
}
_OF_LV |= dict.fromkeys((
    "raid_mismatch_count", "raid_write_behind", "raid_min_recovery_rate", "raid_max_recovery_rate",
    "integritymismatches", "copy_percent", "sync_percent", "lv_merge_failed",
    "lv_snapshot_invalid", "cache_total_blocks", "cache_used_blocks", "cache_dirty_blocks",
    "cache_read_hits", "cache_read_misses", "cache_write_hits", "cache_write_misses",
    "kernel_metadata_format", "vdo_used_size", "vdo_saving_percent", "writecache_total_blocks",
    "writecache_free_blocks", "writecache_writeback_blocks", "writecache_error",
), _nothing)  # fmt: skip
_OF_LV |= dict.fromkeys((
    "raid_sync_action", "raidintegritymode", "move_pv", "move_pv_uuid", "convert_lv", "convert_lv_uuid",
    "kernel_cache_policy", "vdo_operating_mode", "vdo_compression_state", "vdo_index_state",
), _empty)  # fmt: skip
"""What only the kernel's RAID, cache, VDO and write cache targets know, and what Lamella has none of."""

_OF_REMOVED: dict[str, Callable[[GroupView, LogicalVolume], Any]] = {
    "lv_name": lambda view, lv: ancestry.name_with_mark(lv),
    "lv_path": lambda view, lv: f"/dev/{view.group.name}/{lv.name}",
    "lv_layout": lambda view, lv: ["none"],
    "lv_role": lambda view, lv: ["public", "history"],
    "lv_merging": lambda view, lv: False,
    "lv_allocation_policy": lambda view, lv: "unknown",
    "lv_read_ahead": lambda view, lv: 0,
    "lv_permissions": lambda view, lv: "unknown",
    "lv_attr": lambda view, lv: "----h-----",
}
"""Values that differ for removed volumes."""

_WITHOUT_LV: dict[str, Any] = {
    "lv_layout": [], "lv_role": [], "lv_ancestors": [], "lv_full_ancestors": [], "lv_descendants": [],
    "lv_full_descendants": [], "lv_modules": [], "lv_tags": [], "kernel_cache_settings": [],
    "lv_major": 0, "lv_minor": 0, "lv_size": 0, "seg_count": 0,
}  # fmt: skip
"""Values in a row about free extents or a group without volumes, where they are not simply empty."""


NOTHING = (_nothing, _empty)
"""Values that are the same for every volume."""


def column(name: str, rows: list[Row]) -> list[Any]:
    """The values of a field for rows that all have a volume, without a call per row where one will do."""
    value = _OF_LV[name]
    if value in NOTHING:
        return [None if value is _nothing else ""] * len(rows)
    if name in OF_KERNEL and rows and not rows[0].view.sources.activation:
        return [None] * len(rows)
    if any(view.with_history for view in {id(row.view): row.view for row in rows}.values()):
        return [VALUES[name](row) for row in rows]
    return [value(row.view, row.lv) for row in rows]  # type: ignore[arg-type]  # the caller has made sure


OF_KERNEL = ("data_percent", "snap_percent", "metadata_percent")
"""Nobody asks for these where device-mapper is not to be looked at."""


def _for_row(name: str, value: Callable[[GroupView, LogicalVolume], Any]) -> Callable[[Row], Any]:
    otherwise = _WITHOUT_LV.get(name, "")
    of_removed = _OF_REMOVED.get(name, value)

    def of(row: Row) -> Any:
        lv = row.lv
        if isinstance(lv, RemovedVolume):
            return of_removed(row.view, lv)
        return otherwise if lv is None else value(row.view, lv)

    return of


VALUES: dict[str, Callable[[Row], Any]] = {name: _for_row(name, value) for name, value in _OF_LV.items()}
