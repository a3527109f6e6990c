# SPDX-License-Identifier: Apache-2.0
"""Checks of a whole volume group, when it is read and before it is written: names, references between
volumes, cycles, and extents that are used twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import CorruptError
from lamella.lvm.format.history import PREFIX
from lamella.lvm.format.names import length_problem, name_problem
from lamella.lvm.format.segments import StripedSegment, ThinPoolSegment, ThinSegment, is_known_type

if TYPE_CHECKING:
    from lamella.lvm.format.model import VolumeGroup


def check_before_write(group: VolumeGroup) -> None:
    """Raise :class:`CorruptError` for a group that LVM2 could not read again once it is written."""
    try:
        for lv in group.lvs.values():
            if problem := name_problem(lv.name) or length_problem(group.name, lv.name):
                raise CorruptError(problem)
        check_references(group)
        check_extents(group)
    except CorruptError as error:
        raise CorruptError(
            f"Volume group {group.name} was not changed: it could not be read again. {error.message}",
            hint="nothing was written; make the change in another way, and report this",
        ) from error


def check_references(group: VolumeGroup) -> None:
    """Raise unless every volume that a segment or a record names exists, and those of pools have the right
    kind.

    Segments of types that LVM2 2.03 does not know are not looked at: what their keys mean is not known.
    """
    lvs = group.lvs
    for lv in lvs.values():
        for segment in lv.segments:
            if isinstance(segment, StripedSegment):
                for area in segment.mapped:
                    if area.pv is None and area.lv not in lvs:
                        raise CorruptError(
                            f"Couldn't find volume '{area.lv}' for a segment of logical volume {lv.name}."
                        )
                continue
            if not is_known_type(segment.kind):
                continue
            for role, name in segment.references():
                if name not in lvs:
                    raise CorruptError(f"Unknown {role} {name} in a segment of logical volume {lv.name}.")
            if not isinstance(segment, ThinPoolSegment | ThinSegment):
                continue
            if len(lv.segments) != 1:
                raise CorruptError(f"LV {lv.name} invalid: a thin volume or pool has one segment only.")
            if isinstance(segment, ThinSegment) and lvs[segment.pool].thin_pool is None:
                raise CorruptError(f"LV {lv.name} invalid: {segment.pool} is not a thin pool.")
    _check_history(group)
    _check_cycles(group)


def _check_history(group: VolumeGroup) -> None:
    """Raise LVM2's errors for a record of a removed volume that names what does not exist."""
    records = {record.name for record in group.historical}
    for record in group.historical:
        if record.name in group.lvs:
            raise CorruptError(
                f"Name {record.name} appears as live and historical LV at the same time in VG {group.name}"
            )
        for key, name in record.references():
            if name in group.lvs or (key == "origin" and name[0] == PREFIX and name[1:] in records):
                continue
            if key == "origin":
                raise CorruptError(
                    f"Unknown origin {name} for historical logical volume {group.name}/{PREFIX}{record.name}"
                )
            raise CorruptError(f"Failed to find descendant {name} for historical LV {record.name}.")


def _check_cycles(group: VolumeGroup) -> None:
    """Raise if a volume is, through its areas or pools, mapped to itself."""
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
            raise CorruptError(f"LV {next(iter(below))} invalid: it is built on itself.")
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
