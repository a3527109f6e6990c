# SPDX-License-Identifier: Apache-2.0
"""Change the properties of a volume group: limits, extent size, policy, tags, identity (``vgchange``).

:func:`change_group` works inside :meth:`Session.editing` and commits. Messages are LVM2's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import UsageError
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.model import RESIZEABLE, VolumeGroup
from lamella.lvm.format.segments import StripedSegment
from lamella.lvm.operations.physical_volumes import change_tags
from lamella.lvm.operations.volume_groups import check_extent_size, refuse_outdated, set_metadata_copies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session


@dataclass(frozen=True, slots=True)
class GroupChanges:
    """What vgchange changes; None leaves as it is. ``extent_size`` in bytes."""

    max_lv: int | None = None
    max_pv: int | None = None
    extent_size: int | None = None
    policy: str | None = None
    resizeable: bool | None = None
    new_identity: bool = False
    add_tags: Sequence[str] = ()
    delete_tags: Sequence[str] = ()
    profile: str | None = None
    metadata_copies: int | None = None
    system_id: str | None = None
    autoactivation: bool | None = None


def change_group(session: Session, found: FoundGroup, changes: GroupChanges) -> bool:
    """Apply *changes* and commit; False if there was nothing to do."""
    group = found.group
    before = _settings(group)
    if changes.max_lv is not None:
        if changes.max_lv and changes.max_lv < len(group.visible_lvs()):
            raise UsageError(
                f"MaxLogicalVolume is less than the current number {len(group.visible_lvs())} of LVs for "
                f"{group.name}",
                hint="give a larger number, or 0 for no limit",
            )
        group.max_lv = changes.max_lv
    if changes.max_pv is not None:
        if changes.max_pv and changes.max_pv < len(group.pvs):
            raise UsageError(
                f"MaxPhysicalVolumes is less than the current number {len(group.pvs)} of PVs for "
                f'"{group.name}"',
                hint="give a larger number, or 0 for no limit",
            )
        group.max_pv = changes.max_pv
    if changes.extent_size is not None and changes.extent_size != group.extent_size:
        _change_extent_size(found, changes.extent_size)
    if changes.policy is not None:
        group.allocation_policy = "" if changes.policy in ("normal", "inherit") else changes.policy
    if changes.resizeable is not None:
        _flag(group.status, RESIZEABLE, changes.resizeable)
    if changes.autoactivation is not None:
        _flag(group.flags, "NOAUTOACTIVATE", not changes.autoactivation)
    if changes.new_identity:
        session.refuse_active(found)
        refuse_outdated(found)
        group.uuid = new_uuid()
    # As with LVM2, a tag that is added and deleted stays; of volumes and disks it is deleted.
    change_tags(group.tags, (), changes.delete_tags)
    change_tags(group.tags, changes.add_tags, ())
    if changes.profile is not None:
        group.profile = changes.profile
    if changes.system_id is not None:
        group.system_id = changes.system_id
    if changes.metadata_copies is not None:
        set_metadata_copies(session, found, changes.metadata_copies)
    ignored = any(copy.ignore_next is not None for copy in found.copies)
    if _settings(group) == before and not ignored:
        return False
    session.commit(found, ())
    return True


def _settings(group: VolumeGroup) -> list[object]:
    return [
        group.uuid,
        group.max_lv,
        group.max_pv,
        group.extent_sectors,
        group.allocation_policy,
        list(group.status),
        list(group.flags),
        list(group.tags),
        group.profile,
        group.system_id,
        group.metadata_copies,
    ]


def _flag(words: list[str], word: str, present: bool) -> None:
    if present and word not in words:
        words.append(word)
    elif not present and word in words:
        words.remove(word)


def _change_extent_size(found: FoundGroup, size: int) -> None:
    """Convert everything to extents of another size; every boundary must be one of the new extents."""
    check_extent_size(size)
    group = found.group
    old, new = group.extent_sectors, size // SECTOR

    def convert(value: int, what: str) -> int:
        if value * old % new:
            raise UsageError(
                f"New size {value * old} for {what} not an exact number of new extents.",
                hint="choose a size that divides the present one",
            )
        return value * old // new

    if new > old and group.extents * old % new:
        raise UsageError("New extent size is not a perfect fit", hint="choose a smaller size")
    convert(group.extents, group.name)
    convert(group.free_extents(), f"{group.name} free space")
    for pv in group.pvs:
        convert(pv.pe_count, pv.device)
    for lv in group.lvs.values():
        convert(lv.extents, lv.name)
        for segment in lv.segments:
            segment.start_extent = convert(segment.start_extent, f"{lv.name} segment start")
            segment.extent_count = convert(segment.extent_count, f"{lv.name} segment length")
            if isinstance(segment, StripedSegment) and segment.extent_count % len(segment.stripes):
                raise UsageError(
                    f"New size for the stripes of {lv.name} not an exact number of new extents.",
                    hint="choose a size that divides the present one",
                )
            for area in segment.mapped:
                area.extent = convert(area.extent, f"{lv.name} PV segment start")
    for pv in group.pvs:
        pv.pe_count = convert(pv.pe_count, pv.device)
    group.extent_sectors = new
