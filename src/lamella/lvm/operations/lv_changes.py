# SPDX-License-Identifier: Apache-2.0
"""Change a logical volume's settings, in its group's metadata and in its active device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import BusyError, UsageError
from lamella.lvm.format.model import WRITE, LogicalVolume, VolumeGroup
from lamella.lvm.operations.physical_volumes import change_tags
from lamella.thin.status import DISCARD_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.disks.scan import FoundGroup
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


def change_lv(session: Session, found: FoundGroup, lv: LogicalVolume, changes: LvChanges) -> bool:
    """Apply *changes* and commit; False if nothing changed. Raises LVM2's errors."""
    group = found.group
    full = f"{group.name}/{lv.name}"
    changed = change_tags(lv.tags, changes.add_tags, changes.delete_tags)
    if changes.writable is not None:
        changed |= _change_permission(group, lv, changes.writable)
    if changes.policy is not None:
        policy = "" if changes.policy == "inherit" else changes.policy
        if policy == lv.allocation_policy:
            raise UsageError(
                f"Allocation policy of logical volume {full} is already {changes.policy}.",
                hint="nothing was changed",
            )
        lv.allocation_policy = policy
        changed = True
    if changes.profile is not None and changes.profile != lv.profile:
        lv.profile = changes.profile
        changed = True
    if changes.read_ahead is not None:
        wanted = None if changes.read_ahead < 0 else changes.read_ahead
        changed |= wanted != lv.read_ahead
        lv.read_ahead = wanted
    if changes.minor is not None:
        changed |= _change_minor(lv, changes.major, changes.minor)
    for word, present in (
        ("ACTIVATION_SKIP", changes.activation_skip),
        ("NOAUTOACTIVATE", None if changes.autoactivation is None else not changes.autoactivation),
    ):
        if present is not None and present != (word in lv.flags):
            lv.flags = [flag for flag in lv.flags if flag != word] + [word] * present
            changed = True
    in_pool = _change_pool(group, lv, changes, active=session.has_device(found, lv.name))
    changed |= in_pool
    if changed:
        in_kernel = in_pool or changes.writable is not None or changes.read_ahead is not None
        session.commit(found, users_of_pool(group, lv) if in_kernel else ())
    return changed


def users_of_pool(group: VolumeGroup, lv: LogicalVolume) -> list[str]:
    """The volume itself and, of a thin pool, the volumes in it: one of them may be all that is active."""
    return [lv.name, *(thin.name for thin in group.thin_volumes(lv))]


def _change_permission(group: VolumeGroup, lv: LogicalVolume, writable: bool) -> bool:
    full = f"{group.name}/{lv.name}"
    if writable == (WRITE in lv.status):
        word = "writable" if writable else "read only"
        raise UsageError(f"Logical volume {full} is already {word}.", hint="nothing was changed")
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


def _change_minor(lv: LogicalVolume, major: int | None, minor: int) -> bool:
    if minor < 0:
        lv.major = lv.minor = None
        lv.status = [word for word in lv.status if word != "FIXED_MINOR"]
    else:
        lv.major, lv.minor = dm_major() if major is None else major, minor
        if "FIXED_MINOR" not in lv.status:
            lv.status.append("FIXED_MINOR")
    return True


def _change_pool(group: VolumeGroup, lv: LogicalVolume, changes: LvChanges, *, active: bool) -> bool:
    asked = (changes.zero, changes.discards, changes.error_when_full)
    if all(value is None for value in asked):
        return False
    full = f"{group.name}/{lv.name}"
    pool = lv.thin_pool
    if pool is None:
        raise UsageError(
            f"Logical volume {full} is not a thin pool; zero, discards and errorwhenfull belong to one",
            hint="name the pool",
        )
    changed = False
    if changes.zero is not None:
        if changes.zero == pool.zero:
            raise UsageError(
                f"Logical volume {full} already {'uses' if pool.zero else 'does not use'} zeroing.",
                hint="nothing was changed",
            )
        pool.zero = changes.zero
        changed = True
    if changes.discards is not None:
        if changes.discards not in DISCARD_WORDS:
            raise UsageError(
                f'Thin pool discards type "{changes.discards}" is unknown.',
                hint="one of passdown, nopassdown, ignore",
            )
        if changes.discards == pool.discards:
            raise UsageError(
                f"Logical volume {full} already uses --discards {pool.discards}.", hint="nothing was changed"
            )
        if "ignore" in (changes.discards, pool.discards) and active:
            raise BusyError(
                f"Cannot change support for discards while pool volume {full} is active.",
                hint=f"lvchange -an {full} first",
            )
        pool.discards = changes.discards
        changed = True
    if changes.error_when_full is not None:
        if changes.error_when_full == ("ERROR_WHEN_FULL" in lv.flags):
            word = "set" if changes.error_when_full else "unset"
            raise UsageError(f"Error when full is already {word} for {full}.", hint="nothing was changed")
        lv.flags = [flag for flag in lv.flags if flag != "ERROR_WHEN_FULL"]
        lv.flags += ["ERROR_WHEN_FULL"] * changes.error_when_full
        changed = True
    return changed


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
