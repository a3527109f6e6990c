# SPDX-License-Identifier: Apache-2.0
"""Create, rename and remove logical volumes.

Thin ones: :mod:`lamella.lvm.operations.thin_volumes`; resizing: :mod:`lamella.lvm.operations.lv_resize`.

Every function works inside :meth:`lamella.lvm.session.session.Session.editing` and commits, unless it says
that it does not. Sizes are extents where named so, else bytes. Messages are LVM2's.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import BusyError, ExistsError, LamellaError, NoSpaceError, UnsupportedError, UsageError
from lamella.lvm.format import history
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.model import READ, VISIBLE, WRITE, LogicalVolume, VolumeGroup
from lamella.lvm.format.names import length_problem, name_problem, reserved_reason
from lamella.lvm.format.segments import (
    VIRTUAL_TYPES,
    Segment,
    StripedSegment,
    ThinPoolSegment,
    ThinSegment,
    merged,
)
from lamella.lvm.operations.allocation import CLINGING, Clinging, allocate
from lamella.lvm.operations.lv_changes import dm_major, users_of_pool
from lamella.lvm.operations.lv_wipe import wipe_lv
from lamella.lvm.operations.physical_volumes import Confirm, change_tags, never
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.history import HistoricalVolume
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.session.session import Session

DEFAULT_STRIPE = 64 << 10
_NUMBERED = re.compile(r"lvol(\d+)")


@dataclass(frozen=True, slots=True)
class LvRequest:
    """The options of lvcreate for a linear or striped volume."""

    extents: int
    name: str = ""
    """"" for the next ``lvolN``."""
    stripes: int = 1
    stripe_size: int = DEFAULT_STRIPE
    policy: str = ""
    ranges: PvRanges | None = None
    approximate: bool = False
    """Take less if the group has less ("100%FREE")."""
    tags: Sequence[str] = ()
    writable: bool = True
    read_ahead: int | None = None
    major: int | None = None
    minor: int | None = None
    profile: str = ""
    activation_skip: bool = False
    autoactivation: bool = True
    zero: bool = True
    wipe_signatures: bool = True
    clinging: Clinging = CLINGING
    activate: bool = True
    """Activate it, where the session has an activator."""
    kind: str = "striped"
    """Or one of ``VIRTUAL_TYPES``, which take no space and are not wiped."""


def free_name(group: VolumeGroup) -> str:
    """The name that LVM gives a volume without one: ``lvol`` and one more than the highest number."""
    highest = -1
    for name in (*group.lvs, *(record.name for record in group.historical)):
        match = _NUMBERED.match(name)
        if match:
            highest = max(highest, int(match[1]))
    return f"lvol{highest + 1}"


def check_new_name(group: VolumeGroup, name: str, *, old: str = "historical") -> None:
    """Raise unless a new volume may be called *name*. *old* is the word for a removed volume in the error."""
    if problem := name_problem(name, "name"):
        raise UsageError(
            f'Logical volume name "{name}" is invalid: {problem}.',
            hint="use letters, digits and _+.- and no hyphen at the start",
        )
    if reason := reserved_reason(name):
        raise UsageError(reason, hint="LVM uses such names for the parts of volumes")
    check_length(group, name)
    if name in group.lvs:
        raise ExistsError(
            f'Logical Volume "{name}" already exists in volume group "{group.name}"',
            hint="choose another name",
        )
    if any(record.name == name for record in group.historical):
        raise ExistsError(
            f'{old} Logical Volume "{name}" already exists in volume group "{group.name}"',
            hint="choose another name",
        )


def check_length(group: VolumeGroup, name: str) -> None:
    """Raise unless a volume of the group, or a part of one, may have so long a name."""
    if problem := length_problem(group.name, name):
        raise UsageError(problem, hint="choose a shorter name: also that of a hidden part counts")


def check_volume_count(group: VolumeGroup, more: int = 1) -> None:
    """Raise if the group's ``max_lv`` leaves no room for *more* volumes."""
    if group.max_lv and len(group.visible_lvs()) + more > group.max_lv:
        raise NoSpaceError(
            f"Maximum number of logical volumes ({group.max_lv}) reached in volume group {group.name}",
            hint="vgchange --logicalvolume raises the limit",
        )


def new_lv(session: Session, name: str, *, writable: bool = True, visible: bool = True) -> LogicalVolume:
    """A volume without segments, marked with this host and the present time. Not yet in any group."""
    environment = session.environment
    status = [READ] + [WRITE] * writable + [VISIBLE] * visible
    return LogicalVolume(
        name=name,
        uuid=new_uuid(),
        status=status,
        creation_time=environment.now(),
        creation_host=environment.host,
    )


def require_simple(group: VolumeGroup, lv: LogicalVolume, doing: str, *, virtual_ok: bool = False) -> None:
    """Raise :class:`UnsupportedError` for a volume that is, or is part of, something only LVM2 changes.

    With *virtual_ok* its segments may be of ``VIRTUAL_TYPES``.
    """
    for segment in lv.segments:
        if virtual_ok and segment.kind in VIRTUAL_TYPES:
            continue
        if not isinstance(segment, StripedSegment) or any(area.pv is None for area in segment.mapped):
            raise UnsupportedError(
                f"cannot {doing} {group.name}/{lv.name}: it is of type {segment.kind}",
                hint="Lamella reads such volumes but leaves changes to LVM2",
            )
    for user, segment, _role in group.users().get(lv.name, ()):
        if not isinstance(segment, StripedSegment | ThinSegment | ThinPoolSegment):
            raise UnsupportedError(
                f"cannot {doing} {group.name}/{lv.name}: {user.name} ({segment.kind}) is built on it",
                hint="Lamella reads such volumes but leaves changes to LVM2",
            )


def create_lv(
    session: Session, found: FoundGroup, request: LvRequest, *, confirm: Confirm = never, yes: bool = False
) -> LogicalVolume:
    """Create a linear, striped or virtual volume; then zero it and wipe signatures as asked, and activate it.

    If it cannot be activated although it should be, or old signatures are to stay, the creation is rolled
    back.
    """
    group = found.group
    name = request.name or free_name(group)
    if request.name:
        check_new_name(group, name)
    check_volume_count(group)
    if request.kind in VIRTUAL_TYPES:
        segments = [Segment(request.kind, 0, request.extents)]
    else:
        segments = _allocated(session, group, request, name)
    lv = new_lv(session, name, writable=request.writable)
    lv.segments = segments
    lv.allocation_policy = "" if request.policy == "inherit" else request.policy
    lv.profile = request.profile
    lv.read_ahead = request.read_ahead
    set_device_number(lv, request.major, request.minor)
    if request.activation_skip:
        lv.flags.append("ACTIVATION_SKIP")
    if not request.autoactivation:
        lv.flags.append("NOAUTOACTIVATE")
    change_tags(lv.tags, request.tags, ())
    group.lvs[name] = lv
    session.commit(found, ())
    wipeable = request.kind not in VIRTUAL_TYPES
    zero, wipe = request.zero and wipeable, request.wipe_signatures and wipeable
    with removed_on_error(session, found, lv):
        wiped = wipe_lv(session, found, lv, zero=zero, wipe_signatures=wipe, confirm=confirm, yes=yes)
        if not request.activate or session.kernel(found) is None:
            return lv
        # Cleared before it is active: nobody who looks at new devices sees what was there.
        if not wiped:
            raise BusyError("Aborting. Failed to wipe start of new LV.", hint="wipefs it, or answer y")
        session.activate(found, [name])
    return lv


def _allocated(session: Session, group: VolumeGroup, request: LvRequest, name: str) -> list[Segment]:
    """Segments on free extents."""
    stripe_size = check_stripes(session, group, request.stripes, request.stripe_size, request.ranges)
    _check_room(group, request)
    found = allocate(
        group,
        request.extents,
        stripes=request.stripes,
        policy=request.policy,
        ranges=request.ranges,
        approximate=request.approximate,
        clinging=request.clinging,
        name=name,
    )
    return merged(found.segments(0, stripe_size // SECTOR))


@contextmanager
def removed_on_error(session: Session, found: FoundGroup, *lvs: LogicalVolume) -> Iterator[None]:
    """Remove new volumes, which the group's text has already, if they cannot be completed. Commits then."""
    try:
        yield
    except BaseException:
        group = found.group
        with suppress(LamellaError):  # the first error is what the caller must see
            for lv in lvs:
                if group.lvs.get(lv.name) is lv:
                    group.forget_lv(lv)
            session.commit(found, ())
        raise


def set_device_number(lv: LogicalVolume, major: int | None, minor: int | None) -> None:
    """Give a new volume a fixed device number; a *minor* of None leaves it to the kernel."""
    if minor is not None:
        lv.major, lv.minor = dm_major() if major is None else major, minor
        lv.status.append("FIXED_MINOR")


def _check_room(group: VolumeGroup, request: LvRequest) -> None:
    """Raise if there are fewer disks than stripes, or fewer free extents than asked for."""
    check_disks(group, request.stripes, request.policy, request.ranges)
    if request.extents <= 0:
        raise UsageError("Unable to create new logical volume with no extents.", hint="give a larger size")
    if not request.approximate:
        check_free(group, request.extents)


def check_disks(group: VolumeGroup, stripes: int, policy: str, ranges: PvRanges | None) -> None:
    """Raise if a new volume has fewer disks than stripes, and *policy* has them on different ones."""
    available = len(ranges) if ranges is not None else len(group.pvs)
    if policy != "anywhere" and stripes > available:
        raise UsageError(
            f"Number of stripes ({stripes}) must not exceed number of physical volumes ({available})",
            hint="name more physical volumes, or use fewer stripes",
        )


def check_free(group: VolumeGroup, extents: int) -> None:
    """Raise if the group has less than this free, whichever disks are named."""
    if group.free_extents() < extents:
        raise NoSpaceError(
            f'Volume group "{group.name}" has insufficient free space ({group.free_extents()} extents): '
            f"{extents} required.",
            hint="ask for less, or add a physical volume with vgextend",
        )


def check_stripes(
    session: Session, group: VolumeGroup, stripes: int, stripe_size: int, ranges: PvRanges | None
) -> int:
    """The stripe size to use, in bytes (0 for one stripe). Raises with LVM2's message if it cannot be."""
    if not 1 <= stripes <= 128:
        raise UsageError(f"Number of stripes ({stripes}) must be between 1 and 128.", hint="give another -i")
    if stripes == 1:
        return 0
    if stripe_size < 4096 or stripe_size & (stripe_size - 1):
        raise UsageError(f"Invalid stripe size {human(stripe_size)}.", hint="give a power of two from 4k on")
    if stripe_size > group.extent_size:
        said = (
            f"Reducing requested stripe size {human(stripe_size)} to maximum, physical extent size "
            f"{human(group.extent_size)}."
        )
        session.note("stripes", said, level="print")
        return group.extent_size
    return stripe_size


def rename_lv(session: Session, found: FoundGroup, lv: LogicalVolume, new: str) -> None:
    """Give a volume another name, and its hidden parts with it."""
    group = found.group
    check_new_name(group, new, old="Historical")
    if "LOCKED" in lv.status and lv.visible:
        raise BusyError(f"Cannot rename locked LV {lv.name}", hint="finish pvmove")
    if not group.is_visible(lv) and lv.kind != "cache-pool":
        raise UsageError(
            f'Cannot rename internal LV "{lv.name}".', hint="rename the volume that it is part of"
        )
    old = lv.name
    parts = [part for part in _hidden_parts(group, lv) if part.name.startswith(old + "_")]
    for name in (new + part.name[len(old) :] for part in parts):
        if name in group.lvs:
            raise ExistsError(
                f'Logical Volume "{name}" already exists in volume group "{group.name}"',
                hint="choose another name",
            )
        check_length(group, name)
    for part in parts:
        group.rename_lv(part, new + part.name[len(old) :])
    group.rename_lv(lv, new)
    session.commit(found, users_of_pool(group, lv))


def rename_record(session: Session, found: FoundGroup, record: HistoricalVolume, new: str) -> None:
    """Give the record of a removed volume another name, also where other records name it."""
    group = found.group
    check_new_name(group, new, old="Historical")
    history.rename(group.historical, history.PREFIX + record.name, history.PREFIX + new)
    record.name = new
    session.commit(found, ())


def _hidden_parts(group: VolumeGroup, lv: LogicalVolume) -> list[LogicalVolume]:
    """All hidden volumes that *lv* is mapped to, at any depth, and the virtual origin of a snapshot."""
    parts: list[LogicalVolume] = []
    origin = group.snapshot_origin(lv)
    if origin is not None and not origin.visible:
        parts.append(origin)
    todo = [lv]
    while todo:
        for segment in todo.pop().segments:
            if isinstance(segment, ThinSegment):
                continue
            for role, name in segment.references():
                part = group.lvs.get(name)
                if role in _NOT_PARTS or part is None or part.visible or part in parts:
                    continue
                parts.append(part)
                todo.append(part)
    return parts


_NOT_PARTS = ("message", "cache_pool", "vdo_pool", "writecache")
"""Roles of volumes that have a name of their own, whatever the volume that uses them is called."""


def check_removable(group: VolumeGroup, lv: LogicalVolume) -> None:
    """Raise LVM2's errors for a volume that something else still needs."""
    full = f"{group.name}/{lv.name}"
    for user, segment, role in group.users().get(lv.name, ()):
        if isinstance(segment, ThinSegment) and role in ("origin", "merge"):
            continue  # a snapshot does without the volume that it was taken of
        if role == "external_origin":
            raise BusyError(
                f"Can't remove external origin logical volume {full}.",
                hint=f"remove the thin volume {user.name} first",
            )
        raise _used_by(full, user, segment.kind, role)
    if "LOCKED" in lv.status:
        raise BusyError(f"Can't remove locked logical volume {full}.", hint="finish pvmove")
    for segment in lv.segments:
        if not isinstance(segment, StripedSegment) and segment.kind not in VIRTUAL_TYPES:
            raise UnsupportedError(
                f"cannot remove {full}: it is of type {segment.kind}",
                hint="Lamella reads such volumes but leaves changes to LVM2",
            )


def _used_by(full: str, user: LogicalVolume, kind: str, role: str) -> LamellaError:
    """The error for the removal of a part of *user*: LVM2's where it has one."""
    said = ""
    if role in ("metadata", "pool", "data") and kind in ("thin-pool", "cache-pool"):
        said = f"Can't remove logical volume {full} used by a pool."
    elif role == "mirror_log":
        said = f"Can't remove logical volume {full} used as mirror log."
    elif kind == "mirror" and "PVMOVE" not in user.status:
        said = f"Can't remove logical volume {full} used by a mirror."
    elif kind.startswith("raid"):
        said = f"Can't remove logical volume {full} used as RAID device."
    if said:
        return UsageError(said, hint=f"remove {user.name} instead")
    return UnsupportedError(
        f"Can't remove logical volume {full}: {user.name} ({kind}) is built on it",
        hint="Lamella leaves snapshots of the old kind, raids and caches to LVM2",
    )


def remove_lv(session: Session, found: FoundGroup, lv: LogicalVolume) -> None:
    """Deactivate and remove a linear, striped or virtual volume."""
    check_removable(found.group, lv)
    session.deactivate(found, [lv.name])
    found.group.forget_lv(lv)
    session.commit(found, ())
