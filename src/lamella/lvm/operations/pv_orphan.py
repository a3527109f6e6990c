# SPDX-License-Identifier: Apache-2.0
"""Change a physical volume that belongs to no group (pvchange). Works inside ``Session.all_locked``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError, NotFoundError, UsageError
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.metadata_area import IGNORED, AreaHeader, Slot

if TYPE_CHECKING:
    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.session.session import Session


def check_not_used(session: Session, disk: Disk, force: int) -> None:
    """Refuse a disk that its label says a group uses, though the group is not found, unless forced twice.

    With another UUID the group could not find the disk any more.
    """
    if disk.label is not None and disk.label.used and force < 2:
        said = f"PV {disk.path} is used by a VG but its metadata is missing."
        session.note("used", said, disk.path, "error")
        raise BusyError(
            f"Can't change PV '{disk.path}' without -ff.", hint="attach the group's other disks first"
        )


def change_orphan(
    session: Session,
    disk: Disk,
    *,
    new_identity: bool = False,
    metadata_ignore: bool | None = None,
    force: int = 0,
) -> bool:
    """Give the disk another UUID, or ignore or use its metadata areas; returns whether anything changed."""
    if disk.label is None:
        raise NotFoundError(f"{disk.path} is not a physical volume", hint="pvs lists physical volumes")
    check_not_used(session, disk, force)
    changed = False
    if metadata_ignore is not None:
        for copy in disk.copies:
            if copy.header is None or copy.ignored == metadata_ignore:
                continue
            flags = IGNORED if metadata_ignore else 0
            copy.header = AreaHeader(copy.start, copy.header.size, Slot(flags=flags))
            if not session.test:
                disk.write_header(copy)
            changed = True
        if not changed:
            word = "ignored" if metadata_ignore else "marked as in-use"
            raise UsageError(
                f'Metadata areas on physical volume "{disk.path}" already {word}.', hint="nothing was changed"
            )
    if new_identity:
        disk.label.uuid = new_uuid()
        changed = True
    if changed and not session.test:
        disk.write_label()
    return changed
