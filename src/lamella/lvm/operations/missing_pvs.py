# SPDX-License-Identifier: Apache-2.0
"""Volume groups with missing disks: remove those (``vgreduce --removemissing``), or use them again.

Both work inside :meth:`Session.editing` and :meth:`Session.all_locked`, and commit. Messages are LVM2's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import CorruptError, UsageError
from lamella.lvm.format.model import MISSING, VolumeGroup
from lamella.lvm.format.segments import ThinSegment
from lamella.lvm.operations.thin_messages import unqueue_or_delete
from lamella.lvm.operations.volume_groups import detach_pv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.session.session import Session


def remove_missing(session: Session, found: FoundGroup, *, force: bool = False) -> bool:
    """Remove missing disks from the group; with *force* also every volume on them.

    Returns whether anything was missing. Raises :class:`CorruptError` if volumes prevent it.
    """
    group = found.group
    gone = [*found.missing, *found.reappeared]
    if not gone:
        return False
    partial = found.partial_lvs()
    if partial and not force:
        for name in sorted(partial):
            said = f"WARNING: Partial LV {name} needs to be repaired or removed. "
            session.note("missing", said)
        for said in (
            f"There are still partial LVs in VG {group.name}.",
            "To remove them unconditionally use: vgreduce --removemissing --force.",
            "To remove them unconditionally from mirror LVs use: vgreduce --removemissing "
            "--mirrorsonly --force.",
        ):
            session.note("missing", said, level="error")
        session.note("missing", "WARNING: Proceeding to remove empty missing PVs.")
    elif partial:
        _remove_partial(session, found, partial)
    removed = [pv for pv in gone if not group.used_ranges(pv)]
    for pv in removed:
        detach_pv(found, pv)
    if not group.pvs:
        raise UsageError("Volume Groups must always contain at least one PV.", hint=f"vgremove {group.name}")
    found.reappeared = [pv for pv in found.reappeared if pv in group.pvs]
    session.commit(found)
    return True


def _remove_partial(session: Session, found: FoundGroup, partial: set[str]) -> None:
    """Remove these volumes, all that is built on them, and hidden parts that nothing uses any more.

    An origin whose old-style snapshot is lost stays. Thin devices of removed volumes are deleted from a pool
    that stays when its messages are sent next.
    """
    group = found.group
    lost = [group.lvs[name] for name in _all_lost(group, partial)]
    for lv in lost:
        kind = lv.segments[0].kind
        if kind.startswith("raid") or kind == "mirror":
            raise CorruptError(
                f"volume {group.name}/{lv.name} is a {kind} with a missing disk",
                hint="repair it with LVM2: lvconvert --repair",
            )
    session.deactivate(found, [lv.name for lv in lost])
    shown = [lv for lv in lost if group.is_visible(lv)]
    for lv in shown:
        session.note("missing", f"WARNING: Removing partial LV {group.name}/{lv.name}.")
    for lv in lost:
        thin = lv.thin
        pool_lv = group.lvs[thin.pool] if thin is not None else None
        if thin is not None and pool_lv is not None and pool_lv not in lost:
            assert pool_lv.thin_pool is not None
            unqueue_or_delete(pool_lv.thin_pool, lv.name, thin.device_id)
    for lv in lost:
        group.forget_lv(lv, recorded=session.environment.removal_time)
    for lv in sorted(shown, key=lambda lv: lv.thin_pool is not None):
        session.note("missing", f'Logical volume "{lv.name}" successfully removed.', level="print")


def _all_lost(group: VolumeGroup, partial: set[str]) -> list[str]:
    """*partial* and what cannot stay without it, in the group's order."""
    users = group.users()
    lost = set(partial)
    before = -1
    while len(lost) != before:
        before = len(lost)
        for name in list(lost):
            for user, segment, role in users.get(name, ()):
                if role != "message" and not (
                    isinstance(segment, ThinSegment) and role in ("origin", "merge")
                ):
                    lost.add(user.name)
        for lv in group.lvs.values():
            above = users.get(lv.name, ())
            if not lv.visible and above and all(user.name in lost for user, _segment, _role in above):
                lost.add(lv.name)
    return [name for name in group.lvs if name in lost]


def restore_missing(session: Session, found: FoundGroup, pvs: Sequence[PhysicalVolume]) -> None:
    """Use disks again that were missing (vgextend --restoremissing)."""
    for pv in pvs:
        pv.flags = [flag for flag in pv.flags if flag != MISSING]
        pv.status = [flag for flag in pv.status if flag != MISSING]
    found.reappeared = [other for other in found.reappeared if other not in pvs]
    session.commit(found)
