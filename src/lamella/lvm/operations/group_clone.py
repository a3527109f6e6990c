# SPDX-License-Identifier: Apache-2.0
"""Give a copy of a volume group a name and identifiers of its own (vgimportclone).

Works inside :meth:`lamella.lvm.session.session.Session.editing` of a session that has the disks of the copy
only, so that the originals neither hide them nor are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError, UsageError
from lamella.lvm.disks.disk import is_block_device, is_claimed
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.names import length_problem, name_problem
from lamella.lvm.format.physical_volume import EXPORTED

if TYPE_CHECKING:
    from collections.abc import Collection

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session


def free_name(old: str, base: str, taken: Collection[str]) -> str:
    """*base*, or without it *old* with 1; a number is added, or raised, until no group has the name."""
    count = 0 if base else 1
    base = base or old
    name = f"{base}{count or ''}"
    while name in taken:
        count += 1
        name = f"{base}{count}"
    return name


def import_clone(session: Session, found: FoundGroup, name: str) -> None:
    """Rename the copy to *name* and give it and its physical volumes new UUIDs; those of volumes stay.

    Raises before anything is written. The labels are written first: after an interruption the copy may lack
    disks, and is to be made again; the originals are never written.
    """
    group = found.group
    if problem := name_problem(name, "name"):
        raise UsageError(
            f'New volume group name "{name}" is invalid: {problem}.', hint="give another --basevgname"
        )
    for lv in group.lvs.values():
        if problem := length_problem(name, lv.name):
            raise UsageError(problem, hint="give a shorter --basevgname")
    for disk in found.disks.values():
        if is_block_device(disk.path) and is_claimed(disk.path):
            raise BusyError(f"{disk.path} is in use", hint=f"see what uses it: lsblk {disk.path}")
    if not session.test:
        for disk in found.disks.values():
            assert disk.writer is not None  # opened and locked before anything changes
    group.name, group.uuid = name, new_uuid()
    group.status = [word for word in group.status if word != EXPORTED]
    group.system_id = session.environment.system_id
    disks = {}
    for pv in group.pvs:
        disk = found.disks[pv.uuid]
        pv.uuid = new_uuid()
        pv.status = [word for word in pv.status if word != EXPORTED]
        disks[pv.uuid] = disk
        if not session.test and disk.label is not None:
            disk.label.uuid = pv.uuid
            disk.write_label()
    found.disks = disks
    session.commit(found, ())
