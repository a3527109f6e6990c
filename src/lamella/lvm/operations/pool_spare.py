# SPDX-License-Identifier: Apache-2.0
"""The spare metadata volume of a group, into which a thin pool is repaired (``--poolmetadataspare``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.lvm.format.segments import merged
from lamella.lvm.operations.allocation import CLINGING, Clinging, allocate
from lamella.lvm.operations.logical_volumes import check_free, free_name, new_lv, removed_on_error
from lamella.lvm.operations.lv_resize import GrowRequest, grow_extents
from lamella.lvm.operations.lv_wipe import clear_lv
from lamella.lvm.operations.thin_sizes import MAX_SPARE

if TYPE_CHECKING:
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.session.session import Session


SPARE_SUFFIX = "_pmspare"


def spare_of(group: VolumeGroup) -> LogicalVolume | None:
    """The group's spare metadata volume."""
    for lv in group.lvs.values():
        if SPARE_SUFFIX in lv.name and not lv.visible:
            return lv
    return None


def pool_metadata_names(group: VolumeGroup) -> list[str]:
    names = []
    for lv in group.lvs.values():
        if lv.thin_pool is not None:
            names.append(lv.thin_pool.metadata)
        elif lv.segments and lv.segments[0].kind == "cache-pool":
            name = lv.segments[0].extra.get("metadata")
            names += [name] if isinstance(name, str) else []
    return names


def ensure_spare(
    session: Session,
    found: FoundGroup,
    extents: int,
    ranges: PvRanges | None,
    *,
    wanted: bool,
    clinging: Clinging = CLINGING,
) -> LogicalVolume | None:
    """Create the spare, or extend it, to the length of metadata of *extents* (0: of any pool).

    Commits a new one, and returns it; the caller commits the rest.
    """
    group = found.group
    if not extents:
        sizes = [group.lvs[name].extents for name in pool_metadata_names(group) if name in group.lvs]
        extents = max(sizes, default=0)
    if not wanted:
        if extents:
            said = "WARNING: recovery of pools without pool metadata spare LV is not automated."
            session.note("thin", said)
        return None
    spare = spare_of(group)
    if not extents:
        if spare is not None:
            group.forget_lv(spare)
        return None
    extents = min(extents, -(-MAX_SPARE // group.extent_sectors))
    if spare is not None:
        if spare.extents < extents:
            grow_extents(group, spare, extents - spare.extents, GrowRequest(ranges=ranges, clinging=clinging))
        return None
    check_free(group, extents)
    name = free_name(group)
    spare = new_lv(session, name + SPARE_SUFFIX, visible=False)
    # While LVM looks for room, the suffix is still missing.
    result = allocate(group, extents, ranges=ranges, clinging=clinging, name=name)
    spare.segments = merged(result.segments(0, 0))
    group.lvs[spare.name] = spare
    session.commit(found, ())
    with removed_on_error(session, found, spare):
        clear_lv(session, found, spare, whole=False)
    return spare
