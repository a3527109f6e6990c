# SPDX-License-Identifier: Apache-2.0
"""Thin volumes and snapshots: create and remove them, and warn when they promise more than there is.

Every function works inside :meth:`lamella.lvm.session.session.Session.editing` and commits as often, and in
the order, that LVM2 does. Changes inside a pool are carried out by the user-space engine
(:mod:`lamella.lvm.operations.thin_messages`), or by the kernel where the pool is active, unless *apply* is
False: then they stay queued in the group's text, and LVM2 carries them out with its next change in the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import BusyError, LamellaError, UsageError
from lamella.lvm.disks.notice import Notice
from lamella.lvm.format.model import WRITE, LogicalVolume, VolumeGroup
from lamella.lvm.format.segments import ThinPoolSegment, ThinSegment
from lamella.lvm.operations.logical_volumes import (
    check_new_name,
    check_volume_count,
    free_name,
    new_lv,
    remove_lv,
    set_device_number,
)
from lamella.lvm.operations.physical_volumes import change_tags
from lamella.lvm.operations.pool_spare import pool_metadata_names, spare_of
from lamella.lvm.operations.thin_messages import (
    check_own,
    live_status,
    queue_create,
    send_messages,
    unqueue_or_delete,
)
from lamella.lvm.report.units import human
from lamella.thin.format.limits import MAX_DEVICE_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session


# -- thin volumes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ThinRequest:
    """Options of a thin volume or snapshot."""

    name: str = ""
    tags: Sequence[str] = ()
    writable: bool = True
    read_ahead: int | None = None
    activation_skip: bool | None = None
    """None: snapshots are skipped, as LVM2 has it by default."""
    autoactivation: bool = True
    profile: str = ""
    major: int | None = None
    minor: int | None = None
    """A fixed device number, None for one that the kernel chooses."""
    apply: bool = True
    """Make the device in the pool now; False leaves the message for LVM2."""
    activate: bool = True
    """Activate it, where the session has an activator and it is not to be skipped."""
    activate_skipped: bool = False
    """Even if it is to be skipped later on."""


def create_thin(
    session: Session,
    found: FoundGroup,
    pool_lv: LogicalVolume,
    extents: int,
    request: ThinRequest | None = None,
) -> LogicalVolume:
    """A new, empty thin volume of *extents* in the pool."""
    group, segment = found.group, pool_lv.thin_pool
    chunk = segment.chunk_sectors if segment is not None else 0
    if chunk > group.extent_sectors:
        size = extents * group.extent_sectors
        rounded = -(-size // chunk) * chunk // group.extent_sectors
        if rounded != extents:
            said = f"Rounding size ({extents} extents) up to chunk boundary size ({rounded} extents)."
            session.note("thin", said, level="print")
            extents = rounded
    return new_thin(session, found, pool_lv, extents, request or ThinRequest())


def create_snapshot(
    session: Session, found: FoundGroup, origin: LogicalVolume, request: ThinRequest | None = None
) -> LogicalVolume:
    """A thin snapshot of the thin volume *origin*, in the same pool."""
    thin = origin.thin
    if thin is None:
        raise UsageError(
            f"{found.group.name}/{origin.name} is not a thin volume", hint="give --thinpool for others"
        )
    pool_lv = found.group.lvs[thin.pool]
    return new_thin(session, found, pool_lv, origin.extents, request or ThinRequest(), origin=origin)


def create_external_snapshot(
    session: Session,
    found: FoundGroup,
    origin: LogicalVolume,
    pool_lv: LogicalVolume,
    request: ThinRequest | None = None,
) -> LogicalVolume:
    """A thin volume in the pool that reads what it has not written itself from the read-only *origin*."""
    if WRITE in origin.status:
        raise UsageError(
            "Cannot use writable LV as the external origin.",
            hint=f"lvchange -pr {found.group.name}/{origin.name} first",
        )
    used = any(
        role == "external_origin" for _user, _segment, role in found.group.users().get(origin.name, ())
    )
    if not used and session.is_active(found, origin.name):
        raise BusyError(
            "Cannot use active LV for the external origin.",
            hint=f"lvchange -an {found.group.name}/{origin.name} first",
        )
    if origin.thin_pool is not None or not found.group.is_visible(origin):
        raise UsageError(
            f"{found.group.name}/{origin.name} cannot be an external origin", hint="give a plain volume"
        )
    return new_thin(session, found, pool_lv, origin.extents, request or ThinRequest(), external=origin)


def _own_pool(session: Session, found: FoundGroup, pool_lv: LogicalVolume) -> ThinPoolSegment:
    """The pool's segment, with nothing queued any more and sure to be LVM's own."""
    segment = pool_lv.thin_pool
    if segment is None:
        raise UsageError(
            f"Logical volume {found.group.name}/{pool_lv.name} is not a thin pool.",
            hint=f"lvs {found.group.name} shows which are",
        )
    if not session.test:
        check_own(session, found, pool_lv)
    return segment


def new_thin(
    session: Session,
    found: FoundGroup,
    pool_lv: LogicalVolume,
    extents: int,
    request: ThinRequest,
    *,
    origin: LogicalVolume | None = None,
    external: LogicalVolume | None = None,
) -> LogicalVolume:
    """A new thin volume of *extents*: empty, a snapshot of *origin*, or one that reads *external*."""
    group = found.group
    pool = _own_pool(session, found, pool_lv)
    if request.name:
        check_new_name(group, request.name)
    check_volume_count(group)
    if extents <= 0:
        raise UsageError("Unable to create new logical volume with no extents.", hint="give a larger size")
    if request.apply:
        send_messages(session, found, pool_lv)
    lv = new_lv(session, request.name or free_name(group), writable=request.writable)
    change_tags(lv.tags, request.tags, ())
    lv.read_ahead = request.read_ahead
    lv.profile = request.profile
    set_device_number(lv, request.major, request.minor)
    skip = origin is not None if request.activation_skip is None else request.activation_skip
    lv.flags = ["ACTIVATION_SKIP"] * skip + ["NOAUTOACTIVATE"] * (not request.autoactivation)
    segment = ThinSegment("thin", 0, extents)
    segment.pool = pool_lv.name
    segment.transaction_id = pool.transaction_id - bool(pool.messages)
    segment.device_id = _free_device_id(group, pool_lv)
    if origin is not None and origin.thin is not None:
        segment.origin = origin.name
        segment.external_origin = origin.thin.external_origin
    elif external is not None:
        segment.external_origin = external.name
    lv.segments = [segment]
    group.lvs[lv.name] = lv
    queue_create(pool, lv)
    session.commit(found, [pool_lv.name])
    if request.apply:
        _carry_out(session, found, pool_lv, lv)
    if request.activate and (not skip or request.activate_skipped):
        session.activate(found, [lv.name])
    return lv


def _carry_out(session: Session, found: FoundGroup, pool_lv: LogicalVolume, lv: LogicalVolume) -> None:
    """Make the device of the new volume. What the kernel refuses is taken out of the text again."""
    try:
        send_messages(session, found, pool_lv)
    except LamellaError:
        pool, status = pool_lv.thin_pool, live_status(session, found, pool_lv)
        assert pool is not None
        if status is not None and pool.messages and status.transaction_id != pool.transaction_id:
            found.group.forget_lv(lv)
            pool.messages.remove(("create", lv.name))
            pool.transaction_id -= not pool.messages
            session.commit(found, [pool_lv.name])
        raise


def _free_device_id(group: VolumeGroup, pool_lv: LogicalVolume) -> int:
    highest = 0
    for lv in group.thin_volumes(pool_lv):
        if lv.thin is not None:
            highest = max(highest, lv.thin.device_id)
    if highest >= MAX_DEVICE_ID:
        raise UsageError("Cannot find free device_id.", hint="the pool has used up its 2^24 device ids")
    return highest + 1


# -- removing ----------------------------------------------------------------------------------------


def remove_thin(session: Session, found: FoundGroup, lv: LogicalVolume, *, apply: bool = True) -> None:
    """Remove a thin volume or snapshot, and its device in the pool; the kernel loses it first."""
    group = found.group
    thin = lv.thin
    if thin is None:
        raise UsageError(f"{group.name}/{lv.name} is not a thin volume", hint=f"lvs {group.name}")
    if thin.merge:
        full = f"{group.name}/{thin.merge}"
        raise BusyError(
            f"Unable to remove {group.name}/{lv.name}, volume is merged to {full}.",
            hint=f"it goes with {full}, or when that is activated",
        )
    merging = group.merging_snapshot(lv)
    if merging is not None and merging.thin is not None:
        # As with LVM2, the origin of a delayed merge goes with the snapshot that was to replace it.
        merging.thin.merge = ""
        remove_thin(session, found, merging, apply=apply)
    refuse_external_origins(group, [lv])
    pool_lv = group.lvs[thin.pool]
    pool = pool_lv.thin_pool
    assert pool is not None
    if apply:
        if not session.test:
            check_own(session, found, pool_lv)
        send_messages(session, found, pool_lv)
    session.deactivate(found, [lv.name])
    group.forget_lv(lv, recorded=session.environment.removal_time)
    unqueue_or_delete(pool, lv.name, thin.device_id)
    _release_origins(session, found, [lv])
    session.commit(found, ())
    if apply:
        send_messages(session, found, pool_lv)


def refuse_external_origins(group: VolumeGroup, lvs: Sequence[LogicalVolume]) -> None:
    """Raise if a volume that stays reads from one of *lvs*."""
    users = group.users()
    for lv in lvs:
        for user, _segment, role in users.get(lv.name, ()):
            if role == "external_origin" and user not in lvs:
                raise BusyError(
                    f"Can't remove external origin logical volume {group.name}/{lv.name}.",
                    hint=f"remove {user.name} first",
                )


def _release_origins(session: Session, found: FoundGroup, removed: Sequence[LogicalVolume]) -> None:
    """Commit once more if an active volume was the external origin of *removed* ones and now is of none.

    It is reloaded with this commit, without the hidden layer that they read through. LVM2 2.03.16
    likewise writes the group no more often than that when it removes a pool with its volumes.
    """
    # An origin may have gone with them.
    origins = {lv.thin.external_origin for lv in removed if lv.thin is not None} & found.group.lvs.keys()
    if not origins:
        return
    users = found.group.users()
    idle = [
        name
        for name in sorted(origins)
        if all(role != "external_origin" for _user, _segment, role in users.get(name, ()))
        and session.is_active(found, name)
    ]
    if idle:
        session.commit(found, idle)


def remove_pool(session: Session, found: FoundGroup, pool_lv: LogicalVolume) -> None:
    """Remove a thin pool with all its volumes, and the spare if no pool is left."""
    group = found.group
    segment = group.pool_segment(pool_lv)
    thins = group.thin_volumes(pool_lv)
    refuse_external_origins(group, thins)
    session.deactivate(found, [*(lv.name for lv in thins), pool_lv.name])
    for lv in thins:
        group.forget_lv(lv, recorded=session.environment.removal_time)
        assert lv.thin is not None
        unqueue_or_delete(segment, lv.name, lv.thin.device_id)
    _release_origins(session, found, thins)
    group.forget_lv(pool_lv)
    for name in (segment.data, segment.metadata):
        group.forget_lv(group.lvs[name])
    spare = spare_of(group)
    if spare is not None and not pool_metadata_names(group):
        group.forget_lv(spare)
    session.commit(found, ())


def remove_any(session: Session, found: FoundGroup, lv: LogicalVolume, *, apply: bool = True) -> None:
    """Remove a volume of any type that Lamella can change. The spare may be removed by its name too."""
    if lv.thin is not None:
        remove_thin(session, found, lv, apply=apply)
    elif lv.thin_pool is not None:
        remove_pool(session, found, lv)
    else:
        remove_lv(session, found, lv)


# -- promises ----------------------------------------------------------------------------------------


def overprovisioning(
    group: VolumeGroup, lv: LogicalVolume | None, autoextend: Callable[[LogicalVolume], tuple[int, int]]
) -> list[Notice]:
    """What LVM2 says when thin volumes promise more than there is.

    *lv* is the thin volume or pool that has just been made or grown; *autoextend* gives a pool's
    (threshold, percent), from its profile or ``lvm.conf``.
    """
    pool_lv = None
    if lv is not None:
        pool_lv = group.lvs[lv.thin.pool] if lv.thin is not None else lv if lv.thin_pool else None
    promised = there = 0
    if pool_lv is not None:
        there = group.size_of(pool_lv)
        promised = sum(group.size_of(thin) for thin in group.thin_volumes(pool_lv))
        if promised <= there:
            return []
    highest, lowest, others = 0, 100, 0
    for other in group.lvs.values():
        if other.thin_pool is None:
            continue
        threshold, percent = autoextend(other)
        highest, lowest = max(highest, threshold), min(lowest, percent)
        if other is pool_lv:
            continue
        others += 1
        there += group.size_of(other)
        promised += sum(group.size_of(thin) for thin in group.thin_volumes(other))
    if promised <= there:
        return []
    size, free = group.extents * group.extent_size, group.free_extents() * group.extent_size
    if size < promised:
        limit, words = size, " and the size of whole volume group"
    elif free < promised:
        limit, words = free, " and the amount of free space in volume group" if free else ""
    elif highest > 99 or not lowest:
        limit, words = there, ""
    else:
        return []
    which = "s" if others else f" {group.name}/{pool_lv.name}" if pool_lv is not None else ""
    shown = human(limit) if limit else "no free space in volume group"
    text = (
        f"WARNING: Sum of all thin volume sizes ({human(promised)}) exceeds the size of thin pool"
        f"{which}{words} ({shown})."
    )
    return [Notice("thin", text), *_unprotected(highest, lowest)]


def _unprotected(highest: int, lowest: int) -> list[Notice]:
    """What LVM2 says of pools that are not extended: by their *highest* threshold and *lowest* percent."""
    if highest <= 99 and lowest:
        return []
    lines = ["WARNING: You have not turned on protection against thin pools running out of space."]
    if highest > 99:
        lines.append(
            "WARNING: Set activation/thin_pool_autoextend_threshold below 100 to trigger automatic "
            "extension of thin pools before they get full."
        )
    if not lowest:
        lines.append(
            "WARNING: Set activation/thin_pool_autoextend_percent above 0 to specify by how much to "
            "extend thin pools reaching the threshold."
        )
    return [Notice("thin", line, level="print") for line in lines]
