# SPDX-License-Identifier: Apache-2.0
"""Volume groups with missing disks: remove those (``vgreduce --removemissing``), or use them again.

Both work inside :meth:`Session.editing` and :meth:`Session.all_locked`, and commit. Messages are LVM2's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import CorruptError, UsageError
from lamella.lvm.format.model import MISSING, VolumeGroup
from lamella.lvm.operations.volume_groups import detach_pv

if TYPE_CHECKING:
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
        for name in sorted(partial):
            segment = group.lvs[name].segments[0]
            if segment.kind.startswith("raid") or segment.kind == "mirror":
                raise CorruptError(
                    f"volume {group.name}/{name} is a {segment.kind} with a missing disk",
                    hint="repair it with LVM2: lvconvert --repair",
                )
        session.deactivate(found, sorted(partial))
        for name in sorted(partial):
            session.note("missing", f"WARNING: Removing partial LV {group.name}/{name}.")
            del group.lvs[name]
        _drop_thin_messages(group)
    removed = [pv for pv in gone if not group.used_ranges(pv)]
    for pv in removed:
        detach_pv(found, pv)
    if not group.pvs:
        raise UsageError("Volume Groups must always contain at least one PV.", hint=f"vgremove {group.name}")
    for pv in group.pvs:
        if pv.missing and MISSING not in pv.flags:
            pv.flags.append(MISSING)
    found.reappeared = [pv for pv in found.reappeared if pv in group.pvs]
    session.commit(found)
    return True


def _drop_thin_messages(group: VolumeGroup) -> None:
    for lv in group.lvs.values():
        pool = lv.thin_pool
        if pool is not None:
            pool.messages = [
                (verb, what)
                for verb, what in pool.messages
                if not (verb == "create" and isinstance(what, str) and what not in group.lvs)
            ]


def restore_missing(session: Session, found: FoundGroup, pv: PhysicalVolume) -> None:
    """Use a disk again that was missing (vgextend --restoremissing)."""
    pv.flags = [flag for flag in pv.flags if flag != MISSING]
    pv.status = [flag for flag in pv.status if flag != MISSING]
    found.reappeared = [other for other in found.reappeared if other is not pv]
    session.commit(found)
