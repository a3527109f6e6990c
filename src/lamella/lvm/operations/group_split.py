# SPDX-License-Identifier: Apache-2.0
"""Split a volume group: some of its disks, with the volumes on them, become or join another (vgsplit).

Works inside :meth:`Session.all_locked` and :meth:`Session.editing` of both groups. The order of the writes is
LVM2's (tools/vgsplit.c): the target is written as exported, then the source without the disks, and then the
target without the mark. After an interruption the disks are in both texts and the target is exported, so that
nothing uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError, NoSpaceError, UsageError
from lamella.lvm.disks.scan import FoundGroup
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.model import RESIZEABLE, VolumeGroup
from lamella.lvm.format.physical_volume import EXPORTED
from lamella.lvm.operations.allocation import CLINGING, Clinging
from lamella.lvm.operations.group_members import check_compatible, move_members, note_older_areas, with_disks
from lamella.lvm.operations.pool_spare import ensure_spare, spare_of
from lamella.lvm.operations.volume_groups import set_metadata_copies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.operations.volume_groups import GroupOptions
    from lamella.lvm.session.session import Session


def new_target(source: FoundGroup, name: str, options: GroupOptions) -> FoundGroup:
    """A group *name* without disks, like *source* where *options* say nothing else."""
    old = source.group
    policy = options.policy or old.allocation_policy
    group = VolumeGroup(
        name=name,
        uuid=new_uuid(),
        extent_sectors=old.extent_sectors,
        max_lv=options.max_lv,
        max_pv=options.max_pv,
        allocation_policy="" if policy in ("normal", "inherit") else policy,
        system_id=old.system_id,
    )
    return FoundGroup(group)


def split_group(
    session: Session,
    source: FoundGroup,
    target: FoundGroup,
    pvs: Sequence[PhysicalVolume],
    *,
    metadata_copies: int = 0,
    spare: bool = True,
    clinging: Clinging = CLINGING,
) -> None:
    """Move *pvs* of *source*, and the volumes on them, to *target*. A source without disks is gone.

    *metadata_copies* is for a new target; 0 leaves the areas as they are. *spare*: both groups get a spare
    for the metadata of the pools that they have now. Raises LVM2's errors, before anything is changed, for
    groups that do not fit, volumes that are active or on other disks too, and a source that would be left
    without a metadata area.
    """
    if RESIZEABLE not in source.group.status:
        raise BusyError(
            f"Volume group {source.group.name} is not resizeable.",
            hint=f"vgchange --resizeable y {source.group.name} first",
        )
    volumes = with_disks(source.group, pvs)
    if target.group.pvs:
        check_compatible(target.group, _part(source.group, pvs, [lv.name for lv in volumes]))
    for lv in volumes:
        if session.is_active(source, lv.name):
            raise BusyError(
                f'Logical volume "{lv.name}" must be inactive',
                hint=f"lvchange -an {source.group.name}/{lv.name}",
            )
    rest = [pv for pv in source.group.pvs if pv not in pvs]
    usable = [copy for pv in rest for copy in source.copies_of(pv) if not copy.problem]
    if rest and not usable:
        raise UsageError(
            f"Cannot remove final metadata areas from {source.group.name}",
            hint="leave a physical volume with a metadata area in it",
        )
    if target.group.pvs:
        note_older_areas(_only(source, pvs), target)
    move_members(source, target, pvs, volumes)
    _use_an_area(target)
    if metadata_copies:
        set_metadata_copies(session, target, metadata_copies)
    _write(session, source, target)
    for found in (target, source):
        if found.group.pvs:
            _renew_spare(session, found, spare, clinging)


def _part(group: VolumeGroup, pvs: Sequence[PhysicalVolume], names: Sequence[str]) -> VolumeGroup:
    """The part of *group* that moves, to be compared with the target."""
    part = VolumeGroup(name=group.name, uuid=group.uuid, extent_sectors=group.extent_sectors)
    part.pvs = list(pvs)
    part.lvs = {name: group.lvs[name] for name in names}
    return part


def _only(source: FoundGroup, pvs: Sequence[PhysicalVolume]) -> FoundGroup:
    """*source* with the metadata areas of *pvs* only."""
    return FoundGroup(source.group, copies=[copy for pv in pvs for copy in source.copies_of(pv)])


def _renew_spare(session: Session, found: FoundGroup, wanted: bool, clinging: Clinging) -> None:
    """Give a group with pools a spare that is long enough, and none to one without."""
    before = spare_of(found.group)
    length = before.extents if before is not None else 0
    try:
        ensure_spare(session, found, 0, None, wanted=wanted, clinging=clinging)
    except NoSpaceError as error:
        session.note("thin", f"WARNING: no pool metadata spare in {found.group.name}: {error.message}")
        return
    after = spare_of(found.group)
    if before is not None and (after is None or after.extents != length):
        session.commit(found, ())


def _use_an_area(found: FoundGroup) -> None:
    """Take an ignored metadata area into use if all are ignored."""
    usable = [copy for copy in found.copies if not copy.problem]
    if usable and all(copy.will_be_ignored for copy in usable):
        usable[0].ignore_next = False


def _write(session: Session, source: FoundGroup, target: FoundGroup) -> None:
    marked = [target.group.status, *(pv.status for pv in target.group.pvs)]
    for status in marked:
        status.append(EXPORTED)
    older = list(target.stale)
    session.commit(target, ())
    if source.group.pvs:
        _use_an_area(source)
        session.commit(source, ())
    for status in marked:
        status.remove(EXPORTED)
    target.stale = older  # LVM2 reports them at each of the two writes
    session.commit(target, ())
