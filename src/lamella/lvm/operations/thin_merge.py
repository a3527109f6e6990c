# SPDX-License-Identifier: Apache-2.0
"""Let a thin snapshot take the place of its origin (``lvconvert --merge``), now or at the next activation.

A merge that is delayed is in the group's text: the snapshot is hidden, and its ``merge`` names the origin.
LVM2 activates the origin with the snapshot's device then, and completes the text afterwards, in the
background; here the text comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError, UsageError
from lamella.lvm.format import history
from lamella.lvm.format.model import VISIBLE
from lamella.lvm.operations.thin_messages import check_own, queue_delete, send_messages
from lamella.lvm.operations.thin_volumes import refuse_external_origins

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.session.session import Session


def merge_snapshot(
    session: Session,
    found: FoundGroup,
    snapshot: LogicalVolume,
    *,
    delayed: Callable[[BusyError, str], None] | None = None,
) -> LogicalVolume:
    """Let a thin snapshot take the place of its origin, whose own content is lost; returns the origin.

    The origin keeps its name, identity, tags and settings. As with LVM2, snapshots of the snapshot are the
    origin's then, and its other snapshots have no origin any more. While one of the two is in use, the merge
    is left to the next activation of the origin, and *delayed* called with why and "origin volume" or
    "snapshot"; without it, that raises.
    """
    group = found.group
    origin = _origin_of(found, snapshot)
    kernel = session.kernel(found)
    for lv, word in ((origin, "origin volume"), (snapshot, "snapshot")):
        try:
            if kernel is not None:
                kernel.check_unused(found, lv.name)
        except BusyError as error:
            if delayed is None:
                raise
            assert snapshot.thin is not None
            snapshot.thin.merge = origin.name
            snapshot.status = [one for one in snapshot.status if one != VISIBLE]
            session.commit(found, ())
            delayed(error, word)
            return origin
    pool_lv = group.lvs[snapshot.thin.pool] if snapshot.thin is not None else origin
    if not session.test:
        check_own(session, found, pool_lv)
    send_messages(session, found, pool_lv)
    active = session.is_active(found, origin.name)
    session.deactivate(found, [snapshot.name, origin.name])
    complete_merge(session, found, origin, snapshot)
    if active:
        session.activate(found, [origin.name])
    return origin


def complete_merge(
    session: Session, found: FoundGroup, origin: LogicalVolume, snapshot: LogicalVolume
) -> None:
    """Give the origin the snapshot's device in the pool, and delete its own. Both are inactive, or the kernel
    uses the snapshot's for the origin already.
    """
    group, thin = found.group, snapshot.thin
    assert thin is not None
    assert origin.thin is not None
    pool_lv = group.lvs[thin.pool]
    queue_delete(group.pool_segment(pool_lv), origin.thin.device_id)
    thin.merge = ""
    _record(group, origin, snapshot, session.environment.removal_time)
    others = [lv.thin for lv in group.lvs.values() if lv.thin is not None]
    own = [each for each in others if each.origin == snapshot.name]
    order = [origin if lv is snapshot else lv for lv in group.lvs.values() if lv is not origin]
    group.forget_lv(snapshot)
    group.lvs = {lv.name: lv for lv in order}  # the origin moves to the snapshot's place, as LVM2 has it
    for each in others:
        if each.origin == origin.name:
            each.origin = ""
    for each in own:
        each.origin = origin.name
    origin.segments = [thin]
    session.commit(found, ())
    send_messages(session, found, pool_lv)


def _record(group: VolumeGroup, origin: LogicalVolume, snapshot: LogicalVolume, now: int) -> None:
    """Record, unless *now* is 0, what the origin was, by the snapshot's name, which is free; as LVM2 does.

    What descended from the snapshot descends from the origin.
    """
    if now:
        below = [each.name for each in group.thin_snapshots(origin) if each is not snapshot]
        record = history.HistoricalVolume(
            snapshot.name,
            snapshot.uuid,
            snapshot.creation_time,
            now,
            group.origin_or_record(origin),
            [*below, origin.name],
        )
        history.add(group.historical, record, origin.name)
    else:
        history.forget(group.historical, origin.name)
    history.rename(group.historical, snapshot.name, origin.name)


def _origin_of(found: FoundGroup, snapshot: LogicalVolume) -> LogicalVolume:
    """The origin that the snapshot can replace. Raises :class:`UsageError`."""
    group, thin = found.group, snapshot.thin
    full = f"{group.name}/{snapshot.name}"
    origin = group.lvs.get(thin.origin) if thin is not None else None
    if thin is None or origin is None or origin.thin is None or origin.thin.pool != thin.pool:
        raise UsageError(f"{full} is not a mergeable logical volume.", hint="name a thin snapshot")
    merging = group.merging_snapshot(origin)
    if merging is not None:
        raise BusyError(
            f"Cannot merge snapshot {full} into the origin {group.name}/{origin.name} "
            f"with merging snapshot {group.name}/{merging.name}.",
            hint=f"that merge takes place when {group.name}/{origin.name} is activated",
        )
    refuse_external_origins(group, [snapshot, origin])
    return origin
