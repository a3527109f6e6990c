# SPDX-License-Identifier: Apache-2.0
"""Change a logical volume's settings, in its group's metadata and in its active device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import BusyError, LamellaError, UsageError
from lamella.lvm.format.model import WRITE, LogicalVolume, VolumeGroup
from lamella.lvm.operations.physical_volumes import change_tags
from lamella.thin.status import DISCARD_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.segments import ThinPoolSegment
    from lamella.lvm.session.session import Session


@dataclass(frozen=True, slots=True)
class LvChanges:
    """What lvchange changes; None leaves as it is. ``read_ahead``: -1 for auto."""

    writable: bool | None = None
    policy: str | None = None
    add_tags: Sequence[str] = ()
    delete_tags: Sequence[str] = ()
    profile: str | None = None
    """"" detaches the profile."""
    read_ahead: int | None = None
    minor: int | None = None
    major: int | None = None
    activation_skip: bool | None = None
    autoactivation: bool | None = None
    zero: bool | None = None
    discards: str | None = None
    error_when_full: bool | None = None


def change_lv(
    session: Session,
    found: FoundGroup,
    lv: LogicalVolume,
    changes: LvChanges,
    refused: Callable[[LamellaError], None] | None = None,
) -> bool:
    """Apply *changes* and commit; False if nothing changed. Raises LVM2's errors.

    With *refused*, as LVM2 does it, that is called with the error of each change that cannot be made, and
    the others are made.
    """
    group = found.group
    full = f"{group.name}/{lv.name}"
    changed = change_tags(lv.tags, changes.add_tags, changes.delete_tags)
    if changes.profile is not None and changes.profile != lv.profile:
        lv.profile = changes.profile
        changed = True
    for word, present in (
        ("ACTIVATION_SKIP", changes.activation_skip),
        ("NOAUTOACTIVATE", None if changes.autoactivation is None else not changes.autoactivation),
    ):
        if present is not None and present != (word in lv.flags):
            lv.flags = [flag for flag in lv.flags if flag != word] + [word] * present
            changed = True
    in_kernel = False
    active = session.has_device(found, lv.name)
    steps: tuple[tuple[Callable[[], bool], bool], ...] = (
        (lambda: _change_policy(full, lv, changes.policy), False),
        (lambda: _change_permission(group, lv, changes.writable), True),
        (lambda: _change_read_ahead(full, lv, changes.read_ahead), True),
        (lambda: _change_minor(full, lv, changes.major, changes.minor), False),
        (lambda: _change_discards(full, lv, changes.discards, active=active), True),
        (lambda: _change_zero(full, lv, changes.zero), True),
        (lambda: _change_when_full(full, lv, changes.error_when_full), True),
    )
    for step, reloads in steps:
        try:
            if step():
                changed, in_kernel = True, in_kernel or reloads
        except LamellaError as error:
            if refused is None:
                raise
            refused(error)
    if changed:
        session.commit(found, users_of_pool(group, lv) if in_kernel else ())
    return changed


def users_of_pool(group: VolumeGroup, lv: LogicalVolume) -> list[str]:
    """The volume itself and, of a thin pool, the volumes in it: one of them may be all that is active."""
    return [lv.name, *(thin.name for thin in group.thin_volumes(lv))]


def _already(text: str) -> UsageError:
    return UsageError(text, hint="nothing was changed")


def _change_policy(full: str, lv: LogicalVolume, wanted: str | None) -> bool:
    if wanted is None:
        return False
    policy = "" if wanted == "inherit" else wanted
    if policy == lv.allocation_policy:
        raise _already(f"Allocation policy of logical volume {full} is already {wanted}.")
    lv.allocation_policy = policy
    return True


def _change_permission(group: VolumeGroup, lv: LogicalVolume, writable: bool | None) -> bool:
    if writable is None:
        return False
    full = f"{group.name}/{lv.name}"
    if writable == (WRITE in lv.status):
        raise _already(
            f"Logical volume {full} is already writable."
            if writable
            else f'Logical volume "{full}" is already read only.'
        )
    if writable:
        for user, _segment, role in group.users().get(lv.name, ()):
            if role == "external_origin":
                raise BusyError(
                    f"Cannot change permissions of external origin {full}.",
                    hint=f"the thin volume {user.name} reads from it",
                )
        lv.status.append(WRITE)
    else:
        lv.status.remove(WRITE)
    return True


def _change_read_ahead(full: str, lv: LogicalVolume, asked: int | None) -> bool:
    if asked is None:
        return False
    wanted = None if asked < 0 else asked
    if wanted == lv.read_ahead:
        shown = "auto" if wanted is None else "none" if wanted == 0 else str(wanted)
        raise _already(f"Read ahead is already {shown} for {full}.")
    lv.read_ahead = wanted
    return True


def _change_minor(full: str, lv: LogicalVolume, major: int | None, minor: int | None) -> bool:
    if minor is None:
        return False
    if minor < 0:
        if "FIXED_MINOR" not in lv.status:
            raise _already(f"Minor number is already not persistent for {full}.")
        lv.major = lv.minor = None
        lv.status = [word for word in lv.status if word != "FIXED_MINOR"]
    else:
        lv.major, lv.minor = dm_major() if major is None else major, minor
        if "FIXED_MINOR" not in lv.status:
            lv.status.append("FIXED_MINOR")
    return True


def _pool_of(full: str, lv: LogicalVolume) -> ThinPoolSegment:
    pool = lv.thin_pool
    if pool is None:
        raise UsageError(
            f"Logical volume {full} is not a thin pool; zero, discards and errorwhenfull belong to one",
            hint="name the pool",
        )
    return pool


def _change_zero(full: str, lv: LogicalVolume, zero: bool | None) -> bool:
    if zero is None:
        return False
    pool = _pool_of(full, lv)
    if zero == pool.zero:
        raise _already(f"Logical volume {full} already zero new blocks.")  # LVM2's words for both
    pool.zero = zero
    return True


def _change_discards(full: str, lv: LogicalVolume, discards: str | None, *, active: bool) -> bool:
    if discards is None:
        return False
    pool = _pool_of(full, lv)
    if discards not in DISCARD_WORDS:
        raise UsageError(
            f'Thin pool discards type "{discards}" is unknown.', hint="one of passdown, nopassdown, ignore"
        )
    if discards == pool.discards:
        raise _already(f"Logical volume {full} already uses --discards {pool.discards}.")
    if "ignore" in (discards, pool.discards) and active:
        raise BusyError(
            f"Cannot change support for discards while pool volume {full} is active.",
            hint=f"lvchange -an {full} first",
        )
    pool.discards = discards
    return True


def _change_when_full(full: str, lv: LogicalVolume, wanted: bool | None) -> bool:
    if wanted is None:
        return False
    _pool_of(full, lv)
    if wanted == ("ERROR_WHEN_FULL" in lv.flags):
        raise _already(f"Error when full is already {'set' if wanted else 'unset'} for {full}.")
    lv.flags = [flag for flag in lv.flags if flag != "ERROR_WHEN_FULL"]
    lv.flags += ["ERROR_WHEN_FULL"] * wanted
    return True


def dm_major() -> int:
    """The block device number of device-mapper in this kernel; 253, the usual one, without it."""
    try:
        with open("/proc/devices", encoding="ascii") as stream:
            for line in stream:
                if line.split()[1:] == ["device-mapper"]:
                    return int(line.split()[0])
    except OSError:
        pass
    return 253
