# SPDX-License-Identifier: Apache-2.0
"""Export and import volume groups (vgexport, vgimport): hosts do not use an exported group.

Both work inside :meth:`lamella.lvm.session.session.Session.editing` with ``exported_ok`` and commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import CorruptError, UsageError
from lamella.lvm.format.physical_volume import EXPORTED

if TYPE_CHECKING:
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session


def export_group(session: Session, found: FoundGroup) -> None:
    """Mark the group and its disks. None of its volumes may be active."""
    group = found.group
    session.refuse_active(found)
    if group.exported:
        raise UsageError(f'Volume group "{group.name}" is already exported')
    if found.missing:
        raise CorruptError(
            f'Volume group "{group.name}" is missing {len(found.missing)} physical volumes.',
            hint="attach them, or vgreduce --removemissing",
        )
    group.status.append(EXPORTED)
    group.system_id = ""
    for pv in group.pvs:
        if EXPORTED not in pv.status:
            pv.status.append(EXPORTED)
    session.commit(found, ())


def import_group(session: Session, found: FoundGroup) -> None:
    """Remove the marks; the group then belongs to this host."""
    group = found.group
    if not group.exported:
        raise UsageError(f'Volume group "{group.name}" is not exported')
    group.status = [word for word in group.status if word != EXPORTED]
    group.system_id = session.environment.system_id
    for pv in group.pvs:
        pv.status = [word for word in pv.status if word != EXPORTED]
    session.commit(found, ())
