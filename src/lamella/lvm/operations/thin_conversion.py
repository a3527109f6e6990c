# SPDX-License-Identifier: Apache-2.0
"""Make a volume thin: what it has becomes the read-only external origin of a new thin volume
(``lvconvert -T VG/LV --thinpool POOL``).

As LVM2 2.03.16 does it on a real kernel: the thin volume takes over the name and the UUID, so that the
device stays the same one; tags, flags, profile, read-ahead and time of creation stay with the origin, and so
do the thin volumes that already read from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError, UnsupportedError, UsageError
from lamella.lvm.format.model import WRITE
from lamella.lvm.format.segments import StripedSegment, ThinSegment
from lamella.lvm.operations.logical_volumes import check_new_name, free_name
from lamella.lvm.operations.thin_volumes import ThinRequest, new_thin

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.session.session import Session


def convert_to_thin(
    session: Session,
    found: FoundGroup,
    lv: LogicalVolume,
    pool_lv: LogicalVolume,
    origin_name: str = "",
    *,
    created: Callable[[LogicalVolume], None] = lambda thin: None,
) -> LogicalVolume:
    """Put a thin volume of the pool in the place of *lv*, which is called *origin_name* then ("": the next
    ``lvolN``) and only read; returns the thin volume. It is active if *lv* was.

    *created* is called with the thin volume while it still has its origin's name to be. Commits the creation
    and the exchange one after the other: in between, *lv* is as it was.
    """
    group = found.group
    check_convertible(session, found, lv)
    if origin_name:
        check_new_name(group, origin_name)
    name = origin_name or free_name(group)
    request = ThinRequest(name, writable=WRITE in lv.status, activate=False)
    thin = new_thin(session, found, pool_lv, lv.extents, request)
    created(thin)
    segment = thin.thin
    assert segment is not None
    old, new = lv.name, thin.name
    # Renamed by way of a name that no volume can have, so that whatever names the one never means the other.
    group.rename_lv(thin, "/")
    group.rename_lv(lv, new)
    group.rename_lv(thin, old)
    lv.uuid, thin.uuid = thin.uuid, lv.uuid
    lv.status = [word for word in lv.status if word != WRITE]
    segment.external_origin = lv.name
    session.commit(found, [thin.name])
    return thin


def check_convertible(session: Session, found: FoundGroup, lv: LogicalVolume) -> None:
    """Raise unless *lv* may become an external origin."""
    group = found.group
    full = f"{group.name}/{lv.name}"
    if not group.is_visible(lv):
        raise UsageError(
            f"Command on LV {full} requires LV with properties: lv_is_visible .\n"
            f"Command not permitted on LV {full}.",
            hint="give a volume that lvs shows",
        )
    if lv.thin_pool is not None or lv.kind == "snapshot" or group.snapshot_records().get(lv.name):
        kind = "thinpool" if lv.thin_pool is not None else "snapshot"
        raise UsageError(
            f"Command on LV {full} does not accept LV type {kind}.\nCommand not permitted on LV {full}.",
            hint="give a linear, striped or thin volume",
        )
    if "LOCKED" in lv.status:
        raise BusyError(f"Can't convert locked LV {full}", hint="finish pvmove")
    if any(not isinstance(segment, StripedSegment | ThinSegment) for segment in lv.segments):
        raise UnsupportedError(
            f"cannot convert {full}: it is of type {lv.kind}",
            hint="Lamella reads such volumes but leaves changes to LVM2",
        )
    for user, user_segment, role in group.users().get(lv.name, ()):
        if not isinstance(user_segment, ThinSegment):
            raise UnsupportedError(
                f"cannot convert {full}: {user.name} ({user_segment.kind}) is built on it",
                hint="Lamella leaves snapshots of the old kind, raids and caches to LVM2",
            )
        if role == "merge":
            raise BusyError(f"Cannot convert {full}: {user.name} is being merged into it.", hint="lvs -a")
        if role == "external_origin" and session.has_device(found, user.name):
            raise BusyError(
                f"Cannot convert external origin {full} while {user.name} reads from it.",
                hint=f"lvchange -an {group.name}/{user.name} first",
            )
