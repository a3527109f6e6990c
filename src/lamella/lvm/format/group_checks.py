# SPDX-License-Identifier: Apache-2.0
"""Checks of a whole volume group: references between volumes, cycles, and extents that are used twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import CorruptError
from lamella.lvm.format.segments import StripedSegment, ThinPoolSegment, ThinSegment

if TYPE_CHECKING:
    from lamella.lvm.format.model import VolumeGroup


def check_references(group: VolumeGroup) -> None:
    """Raise unless every volume that a striped, thin or pool segment names exists and has the right kind."""
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
                raise CorruptError(f"LV {lv.name} invalid: {segment.pool} is not a thin pool.")
    _check_cycles(group)


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
