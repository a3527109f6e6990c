# SPDX-License-Identifier: Apache-2.0
"""Write a volume group's text again: from a backup (``vgcfgrestore``), or over damaged copies (``vgck``).

:func:`restore_group` works inside :meth:`Session.all_locked`, :func:`update_metadata` inside
:meth:`Session.editing`. Both commit. Messages are LVM2's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import BusyError, ExistsError, NotFoundError, UsageError
from lamella.lvm.disks.kernel_active import refuse_active
from lamella.lvm.disks.scan import FoundGroup
from lamella.lvm.format.metadata_area import IGNORED, AreaHeader, Slot
from lamella.lvm.operations.physical_volumes import Confirm, never
from lamella.lvm.operations.volume_groups import announce_outdated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.disks.scan import Scan
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.session.session import Session


def restore_group(
    session: Session, backup: VolumeGroup, *, force: bool = False, confirm: Confirm = never
) -> FoundGroup:
    """Restore a group from a backup onto the disks with the right UUIDs (vgcfgrestore).

    While volumes of the group are active, *confirm* is asked first.
    """
    scan = session.scan
    existing = [found for found in scan.groups if found.group.uuid == backup.uuid]
    if not existing and scan.named(backup.name):
        raise ExistsError(
            f"another volume group called {backup.name} exists (its UUID differs from the backup's)",
            hint="vgrename one of them first",
        )
    by_uuid = {disk.label.uuid: disk for disk in scan.disks if disk.label is not None}
    for pv in backup.pvs:
        if pv.uuid not in by_uuid:
            session.note("missing", f"WARNING: Couldn't find device with uuid {pv.uuid}.")
    if any(lv.thin_pool is not None for lv in backup.lvs.values()):
        if not force:
            session.note(
                "thin",
                f"Consider using option --force to restore Volume Group {backup.name} with thin volumes.",
            )
            raise UsageError("Restore failed.", hint="thin pools may have moved on since the backup: --force")
        session.note("thin", f"WARNING: Forced restore of Volume Group {backup.name} with thin volumes.")
    found = _on_its_disks(scan, backup, by_uuid)
    left_out: list[Disk] = []
    for other in existing:
        _confirm_active(session, other, confirm)
        backup.seqno = max(backup.seqno, other.group.seqno)
        left_out += [disk for uuid, disk in other.disks.items() if uuid not in found.disks]
    session.commit(found, ())
    session.drop_disks(left_out)
    if not session.test:
        scan.groups = [other for other in scan.groups if other not in existing] + [found]
        scan.orphans = [disk for disk in scan.orphans if disk not in found.disks.values()]
    return found


def _confirm_active(session: Session, found: FoundGroup, confirm: Confirm) -> None:
    kernel = session.kernel(found)
    if kernel is None:
        refuse_active(found.group.name, found.group.uuid, session.environment.sys_block)
        return
    active = sorted(kernel.active_in(found))
    if not active:
        return
    name = found.group.name
    for volume in active:
        session.note("active", f"Volume group {name} has active volume: {volume}.", level="print")
    session.note("active", f'WARNING: Found {len(active)} active volume(s) in volume group "{name}".')
    said = "Restoring VG with active LVs, may cause mismatch with its metadata."
    session.note("active", said, level="print")
    question = (
        f'Do you really want to proceed with restore of volume group "{name}", while {len(active)} '
        "volume(s) are active? [y/n]: "
    )
    if not confirm(question):
        raise BusyError("Restore aborted.", hint=f"vgchange -an {name}")


def _on_its_disks(scan: Scan, backup: VolumeGroup, by_uuid: Mapping[str, Disk]) -> FoundGroup:
    """The group on the disks that have its physical volumes' UUIDs; raises where one cannot hold it."""
    found = FoundGroup(backup)
    missing = 0
    for pv in backup.pvs:
        disk = by_uuid.get(pv.uuid)
        pv.missing = disk is None
        if disk is None:
            missing += 1
            continue
        owner = scan.group_of(disk)
        if owner is not None and owner.group.uuid != backup.uuid:
            raise BusyError(
                f"{disk.path} belongs to volume group {owner.group.name} now", hint="vgreduce it first"
            )
        if disk.size < pv.pe_start * SECTOR + pv.pe_count * backup.extent_size:
            raise UsageError(
                f"{disk.path} is too small for the extents of volume group {backup.name}",
                hint="restore onto a disk of the old size",
            )
        pv.device = disk.path
        found.disks[pv.uuid] = disk
        for copy in disk.copies:
            if copy.problem == "header":
                copy.header = AreaHeader(copy.start, copy.size)
            copy.problem = ""
            found.copies.append(copy)
    if missing:
        raise NotFoundError(
            f"Cannot restore Volume Group {backup.name} with {missing} PVs marked as missing.",
            hint="attach them, or make new ones: pvcreate --uuid UUID --restorefile FILE",
        )
    return found


def update_metadata(session: Session, found: FoundGroup) -> None:
    """Write the newest text into every area, damaged ones too, and wipe outdated disks
    (vgck --updatemetadata)."""
    group = found.group
    for copy in found.damaged:
        said = f"WARNING: repairing bad metadata in mda{copy.number} at {copy.start} on {copy.disk.path}."
        session.note("metadata", said, copy.disk.path)
        if copy.header is None:
            copy.header = AreaHeader(copy.start, copy.size)
        elif copy.problem == "text":
            flags = copy.header.committed.flags & IGNORED
            copy.header = AreaHeader(copy.start, copy.header.size, Slot(flags=flags))
        copy.problem = ""
    outdated = announce_outdated(session, found)
    session.commit(found, ())
    if outdated:
        session.drop_disks(outdated)
        session.scan.orphans += outdated
        found.outdated = [disk for disk in found.outdated if disk not in outdated]
    found.notices = [notice for notice in found.notices if notice.kind not in ("stale", "outdated")]
    for pv in group.pvs:
        pv.missing = pv.uuid not in found.disks
