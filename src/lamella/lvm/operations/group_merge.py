# SPDX-License-Identifier: Apache-2.0
"""Merge a volume group into another (vgmerge).

Works inside :meth:`Session.all_locked` and :meth:`Session.editing` of both groups; one commit writes the
merged group to the areas of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError
from lamella.lvm.operations.group_members import (
    check_compatible,
    drop_smaller_spare,
    move_members,
    note_older_areas,
)
from lamella.lvm.session.backup import remove_backup

if TYPE_CHECKING:
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session


def merge_groups(session: Session, target: FoundGroup, source: FoundGroup) -> None:
    """Move everything of *source*, which has to be inactive, to *target*.

    Raises LVM2's errors, before anything is changed, for groups that do not fit together.
    """
    name = source.group.name
    if session.kernel(source) is not None and any(session.has_device(source, lv) for lv in source.group.lvs):
        raise BusyError(f'Logical volumes in "{name}" must be inactive', hint=f"vgchange -an {name}")
    drop_smaller_spare(target.group, source.group)
    check_compatible(target.group, source.group)
    note_older_areas(source, target)
    move_members(source, target, list(source.group.pvs), list(source.group.lvs.values()))
    session.commit(target, ())
    if not session.test:
        session.scan.groups = [found for found in session.scan.groups if found is not source]
        remove_backup(name, session.environment)
