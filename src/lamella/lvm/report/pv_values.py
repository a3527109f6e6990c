# SPDX-License-Identifier: Apache-2.0
"""Values of the fields about physical volumes, their labels and their runs of extents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella.block.device import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.report.view import DeviceInfo, Row


def attributes(row: Row) -> str:
    """``a--``: allocatable (or ``u``: used by a group, ``d``: duplicate), exported, missing."""
    pv = row.pv
    if pv is None:
        return "---"
    if row.device is not None and row.device.duplicate:
        first = "d"
    elif row.view.vg is None:
        first = "u" if _marked(row) else "-"
    elif pv.allocatable:
        first = "a"
    else:
        first = "u"
    exported = row.view.vg is not None and row.view.vg.exported
    missing = pv.missing or "MISSING" in pv.flags
    return first + ("x" if exported else "-") + ("m" if missing else "-")


def _size(row: Row) -> int:
    """A disk without a group counts whole."""
    if row.pv is None:
        return 0
    if row.view.vg is None:
        return row.pv.size
    return row.pv.pe_count * row.view.vg.extent_size


def _free(row: Row) -> int:
    """A disk that a group uses has nothing free, also where the group is not known."""
    return 0 if row.view.vg is None and _marked(row) else _size(row) - _used(row)


def _marked(row: Row) -> bool:
    """Whether the disk's label says that it belongs to a group."""
    return row.device is not None and row.device.used


def _used_extents(row: Row) -> int:
    return row.view.used.get(row.pv.uuid, 0) if row.pv is not None else 0


def _used(row: Row) -> int:
    return _used_extents(row) * row.view.vg.extent_size if row.view.vg is not None else 0


def _device(value: Callable[[DeviceInfo], Any], otherwise: Any) -> Callable[[Row], Any]:
    return lambda row: otherwise if row.device is None else value(row.device)


def _pv(value: Callable[[Any], Any], otherwise: Any) -> Callable[[Row], Any]:
    return lambda row: otherwise if row.pv is None else value(row.pv)


def _name(row: Row) -> str:
    if row.pv is not None:
        return row.pv.path
    return row.device.path if row.device is not None else ""


def _number(value: int) -> str:
    return str(value) if value >= 0 else ""


VALUES: dict[str, Callable[[Row], Any]] = {
    "pv_fmt": _pv(lambda pv: "lvm2", ""),
    "pv_uuid": _pv(lambda pv: pv.uuid, ""),
    "dev_size": _device(lambda device: device.size, 0),
    "pv_name": _name,
    "pv_major": _device(lambda device: _number(device.major), "0"),
    "pv_minor": _device(lambda device: _number(device.minor), "0"),
    "pv_mda_free": _device(lambda device: device.mda_free, 0),
    "pv_mda_size": _device(lambda device: device.mda_size, 0),
    "pv_ext_vsn": lambda row: None if row.pv is None or row.device is None else row.device.extension,
    "pe_start": _pv(lambda pv: pv.pe_start * SECTOR, 0),
    "pv_size": _size,
    "pv_free": _free,
    "pv_used": _used,
    "pv_attr": attributes,
    "pv_allocatable": lambda row: row.pv is not None and row.view.vg is not None and row.pv.allocatable,
    "pv_exported": lambda row: row.view.vg is not None and row.view.vg.exported,
    "pv_missing": _pv(lambda pv: pv.missing or "MISSING" in pv.flags, False),
    "pv_pe_count": lambda row: row.pv.pe_count if row.pv is not None and row.view.vg is not None else 0,
    "pv_pe_alloc_count": _used_extents,
    "pv_tags": _pv(lambda pv: sorted(pv.tags), []),
    "pv_mda_count": _device(lambda device: device.mda_count, 0),
    "pv_mda_used_count": _device(lambda device: device.mda_used, 0),
    "pv_ba_start": _pv(lambda pv: pv.ba_start * SECTOR, 0),
    "pv_ba_size": _pv(lambda pv: pv.ba_size * SECTOR, 0),
    "pv_in_use": lambda row: row.pv is not None and (row.view.vg is not None or _marked(row)),
    "pv_duplicate": _device(lambda device: device.duplicate, False),
    "pv_device_id": _pv(lambda pv: pv.device_id, ""),
    "pv_device_id_type": _pv(lambda pv: pv.device_id_type, ""),
    "pvseg_start": lambda row: row.run[0] if row.run is not None else 0,
    "pvseg_size": lambda row: row.run[1] if row.run is not None else 0,
}
