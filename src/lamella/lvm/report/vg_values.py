# SPDX-License-Identifier: Apache-2.0
"""Values of the fields about volume groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella.lvm.format.model import RESIZEABLE, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.report.view import GroupView, Row

POLICY_LETTERS = {
    "contiguous": "c", "cling": "l", "cling_by_tags": "t", "normal": "n", "anywhere": "a", "inherit": "i",
}  # fmt: skip


def attributes(view: GroupView) -> str:
    """``wz--n-``: writable, resizeable, exported, partial, policy, clustered or shared."""
    vg = view.vg
    if vg is None:
        return "r-----"
    return (
        ("w" if WRITE in vg.status else "r")
        + ("z" if RESIZEABLE in vg.status else "-")
        + ("x" if vg.exported else "-")
        + ("p" if view.missing else "-")
        + POLICY_LETTERS.get(vg.policy, "?")
        + ("c" if vg.clustered else "s" if vg.shared else "-")
    )


def _mdas(view: GroupView) -> list[Any]:
    return [view.devices[pv.uuid] for pv in view.group.pvs if pv.uuid in view.devices]


def _free_extents(view: GroupView) -> int:
    return view.group.extents - sum(view.used.values())


def _smallest(view: GroupView, name: str) -> int:
    return min((getattr(device, name) for device in _mdas(view) if device.mda_used), default=0)


def of_group(value: Callable[[GroupView], Any], otherwise: Any) -> Callable[[Row], Any]:
    """The value for a row, or *otherwise* in rows that belong to no group."""
    return lambda row: otherwise if row.view.vg is None else value(row.view)


def _name(row: Row) -> str:
    """The group's name; a disk that is shown outside of its group may say which it is."""
    if row.view.vg is not None:
        return row.view.vg.name
    return row.device.group if row.device is not None and row.run is None else ""


VALUES: dict[str, Callable[[Row], Any]] = {
    "vg_fmt": of_group(lambda view: view.group.format, ""),
    "vg_uuid": of_group(lambda view: view.group.uuid, ""),
    "vg_name": _name,
    "vg_attr": lambda row: attributes(row.view),
    "vg_permissions": of_group(lambda view: "writeable" if WRITE in view.group.status else "read-only", ""),
    "vg_extendable": of_group(lambda view: RESIZEABLE in view.group.status, False),
    "vg_exported": of_group(lambda view: view.group.exported, False),
    "vg_autoactivation": of_group(lambda view: "NOAUTOACTIVATE" not in view.group.flags, True),
    "vg_partial": of_group(lambda view: bool(view.missing), False),
    "vg_allocation_policy": of_group(lambda view: view.group.policy, ""),
    "vg_clustered": of_group(lambda view: view.group.clustered, False),
    "vg_shared": of_group(lambda view: view.group.shared, False),
    "vg_size": of_group(lambda view: view.group.extents * view.group.extent_size, 0),
    "vg_free": of_group(lambda view: _free_extents(view) * view.group.extent_size, 0),
    "vg_sysid": of_group(lambda view: view.group.system_id, ""),
    "vg_systemid": of_group(lambda view: view.group.system_id, ""),
    "vg_lock_type": of_group(lambda view: view.group.lock_type.replace("none", ""), ""),
    "vg_lock_args": of_group(lambda view: view.group.lock_args, ""),
    "vg_extent_size": of_group(lambda view: view.group.extent_size, 0),
    "vg_extent_count": of_group(lambda view: view.group.extents, 0),
    "vg_free_count": of_group(_free_extents, 0),
    "max_lv": of_group(lambda view: view.group.max_lv, 0),
    "max_pv": of_group(lambda view: view.group.max_pv, 0),
    "pv_count": of_group(lambda view: len(view.group.pvs), 0),
    "vg_missing_pv_count": of_group(lambda view: len(view.missing), 0),
    "lv_count": of_group(lambda view: len(view.visible_lvs), 0),
    "snap_count": of_group(lambda view: len(view.snapshot_stores), 0),
    "vg_seqno": of_group(lambda view: view.group.seqno, 0),
    "vg_tags": of_group(lambda view: sorted(view.group.tags), []),
    "vg_profile": of_group(lambda view: view.group.profile, ""),
    "vg_mda_count": of_group(lambda view: sum(device.mda_count for device in _mdas(view)), 0),
    "vg_mda_used_count": of_group(lambda view: sum(device.mda_used for device in _mdas(view)), 0),
    "vg_mda_free": of_group(lambda view: _smallest(view, "mda_free"), 0),
    "vg_mda_size": of_group(lambda view: _smallest(view, "mda_size"), 0),
    "vg_mda_copies": of_group(lambda view: view.group.metadata_copies or "unmanaged", "unmanaged"),
}
