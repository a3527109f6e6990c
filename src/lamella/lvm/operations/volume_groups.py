# SPDX-License-Identifier: Apache-2.0
"""Make, extend, reduce, rename and remove volume groups.

:func:`create_group` works inside :meth:`Session.creating`, the others inside :meth:`Session.editing`; those
that add or remove disks also inside :meth:`Session.all_locked`. Each commits. Messages are LVM2's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import BusyError, CorruptError, ExistsError, NoSpaceError, UsageError
from lamella.lvm.disks.scan import FoundGroup
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.model import RESIZEABLE, VolumeGroup
from lamella.lvm.format.names import length_problem, name_problem
from lamella.lvm.operations.physical_volumes import Confirm, PvOptions, change_tags, create_pv, never, new_pv
from lamella.lvm.report.units import human
from lamella.lvm.session.backup import remove_backup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.session.session import Session

DEFAULT_EXTENT = 4 << 20
MIN_ODD_EXTENT = 128 << 10
"""Extent sizes that are no power of two are multiples of this."""


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """Options of vgcreate; ``extent_size`` in bytes, ``metadata_copies`` 0 for "all"."""

    extent_size: int = DEFAULT_EXTENT
    max_lv: int = 0
    max_pv: int = 0
    policy: str = ""
    tags: Sequence[str] = ()
    metadata_copies: int = 0
    profile: str = ""
    system_id: str | None = None
    """None: this host's."""
    autoactivation: bool = True


def _check_new_name(name: str) -> None:
    if problem := name_problem(name, "name"):
        raise UsageError(
            f'New volume group name "{name}" is invalid: {problem}.',
            hint="use letters, digits and _+.- and no hyphen at the start",
        )


ALL_COPIES = 0xFFFF
"""More metadata areas than there can be."""


def check_extent_size(size: int) -> None:
    """Raise :class:`UsageError`, with LVM2's message, for an extent size that it does not allow."""
    if size <= 0:
        raise UsageError("Physical extent size may not be zero", hint="give -s 4m or so")
    if size < 1024 or (size & (size - 1) and size % MIN_ODD_EXTENT):
        raise UsageError(
            "Physical Extent size must be a multiple of 128.00 KiB when not a power of 2.",
            hint="give -s 4m or so",
        )
    if size // SECTOR >= 1 << 32:
        shown = human(((1 << 32) - 1) * SECTOR)
        raise UsageError(f"Physical extent size cannot be larger than {shown}.", hint="give -s 4m or so")


def create_group(
    session: Session,
    name: str,
    paths: Sequence[str],
    options: GroupOptions | None = None,
    pv_options: PvOptions | None = None,
    *,
    confirm: Confirm = never,
) -> FoundGroup:
    """A new group on the disks at *paths*, which become physical volumes where they are none yet."""
    options = options or GroupOptions()
    _check_new_name(name)
    check_extent_size(options.extent_size)
    if session.scan.named(name):
        raise ExistsError(f"A volume group called {name} already exists.", hint="choose another name")
    if not paths:
        raise UsageError("Please enter one or more physical volume paths.", hint="vgcreate NAME DEVICE...")
    group = VolumeGroup(
        name=name,
        uuid=new_uuid(),
        extent_sectors=options.extent_size // SECTOR,
        max_lv=options.max_lv,
        max_pv=options.max_pv,
        allocation_policy="" if options.policy in ("normal", "inherit") else options.policy,
        profile=options.profile,
        system_id=session.environment.system_id if options.system_id is None else options.system_id,
        flags=[] if options.autoactivation else ["NOAUTOACTIVATE"],
    )
    change_tags(group.tags, options.tags, ())
    found = FoundGroup(group)
    _add_disks(session, found, paths, pv_options, confirm)
    set_metadata_copies(session, found, options.metadata_copies)
    session.commit(found, ())
    if not session.test:
        session.scan.groups.append(found)
        session.scan.orphans = [disk for disk in session.scan.orphans if disk not in found.disks.values()]
    return found


def extend_group(
    session: Session,
    found: FoundGroup,
    paths: Sequence[str],
    pv_options: PvOptions | None = None,
    *,
    confirm: Confirm = never,
) -> None:
    """Take further disks into the group."""
    if RESIZEABLE not in found.group.status:
        raise BusyError(
            f"Volume group {found.group.name} is not resizeable.", hint="vgchange --resizeable y first"
        )
    _add_disks(session, found, paths, pv_options, confirm)
    if found.group.metadata_copies:
        set_metadata_copies(session, found, found.group.metadata_copies)
    session.commit(found, ())


def _add_disks(
    session: Session, found: FoundGroup, paths: Sequence[str], pv_options: PvOptions | None, confirm: Confirm
) -> None:
    group = found.group
    chosen = _free_disks(session, group, paths)
    for disk in chosen:
        if disk.label is None or disk.label.used:
            create_pv(session, disk.path, pv_options, confirm=confirm)
            said = f'Physical volume "{disk.path}" successfully created.'
            session.note("pv", said, disk.path, "print")
            if session.test:
                continue
        pv = new_pv(disk, group.extent_sectors)
        if not pv.pe_count:
            raise UsageError(
                f"{disk.path} is too small to hold even one extent of volume group {group.name}",
                hint="use a larger disk or a smaller extent size",
            )
        group.pvs.append(pv)
        found.disks[pv.uuid] = disk
        found.copies += disk.copies


def _free_disks(session: Session, group: VolumeGroup, paths: Sequence[str]) -> list[Disk]:
    """The disks at *paths*, none of them in a group, and no more than *group* may have."""
    chosen: list[Disk] = []
    for path in paths:
        disk = session.find_disk(path)
        if disk in chosen:
            raise UsageError(f"Cannot use {path}: it was given twice", hint="name every disk once")
        chosen.append(disk)
        owner = session.scan.group_of(disk)
        if owner is not None:
            for said in (
                f"Physical volume '{path}' is already in volume group '{owner.group.name}'",
                f"Unable to add physical volume '{path}' to volume group '{owner.group.name}'",
            ):
                session.note("used", said, path, "error")
            raise BusyError(
                f"{path}: physical volume not initialized.", hint=f"vgreduce {owner.group.name} {path} first"
            )
    if group.max_pv and len(group.pvs) + len(chosen) > group.max_pv:
        raise NoSpaceError(
            f"No space for '{paths[-1]}' - volume group '{group.name}' holds max {group.max_pv} "
            f"physical volume(s).\nPV {paths[-1]} cannot be added to VG {group.name}.",
            hint="vgchange --maxphysicalvolumes raises the limit",
        )
    return chosen


def set_metadata_copies(session: Session, found: FoundGroup, copies: int) -> None:
    """Let *copies* metadata areas be used and the others ignored; 0 leaves the areas as they are.

    :data:`ALL_COPIES` uses all of them; as with LVM2, the group does not keep it for further disks.
    """
    group = found.group
    group.metadata_copies = 0 if copies == ALL_COPIES else copies
    if not copies:
        _use_an_area(found)
        return
    usable = [copy for copy in found.copies if not copy.problem]
    used = [copy for copy in usable if not copy.will_be_ignored]
    # Spread over the disks: every disk's first area before any disk's second.
    spare = [copy for copy in usable if copy.will_be_ignored]
    for copy in sorted(used, key=lambda copy: copy.number)[copies:]:
        copy.ignore_next = True
    for copy in sorted(spare, key=lambda copy: copy.number)[: max(copies - len(used), 0)]:
        copy.ignore_next = False


def _use_an_area(found: FoundGroup) -> None:
    """Use one metadata area where all of the group's are ignored."""
    usable = [copy for copy in found.copies if not copy.problem]
    if usable and all(copy.will_be_ignored for copy in usable):
        usable[0].ignore_next = False


# -- removing disks ----------------------------------------------------------------------------------


def reduce_group(session: Session, found: FoundGroup, pv: PhysicalVolume) -> None:
    """Take an unused disk out of the group; it stays a physical volume."""
    group = found.group
    if RESIZEABLE not in group.status:
        raise UsageError(
            f"Volume group {group.name} is not resizeable.", hint="vgchange --resizeable y lets disks go"
        )
    if group.used_ranges(pv):
        raise BusyError(
            f'Physical volume "{pv.device}" still in use', hint="move or remove the volumes on it first"
        )
    if len(group.pvs) == 1:
        raise UsageError(
            f'Can\'t remove final physical volume "{pv.device}" from volume group "{group.name}"',
            hint=f"vgremove {group.name} removes the whole group",
        )
    disk = detach_pv(found, pv)
    if not any(not copy.will_be_ignored and not copy.problem for copy in found.copies):
        _enable_an_area(found, pv)
    session.commit(found, ())
    if disk is not None:
        session.drop_disks([disk])
        session.scan.orphans.append(disk)


def detach_pv(found: FoundGroup, pv: PhysicalVolume) -> Disk | None:
    """Take a disk out of the group in memory; gives the disk, if it is there."""
    found.group.pvs.remove(pv)
    disk = found.disks.pop(pv.uuid, None)
    if disk is not None:
        found.copies = [copy for copy in found.copies if copy.disk is not disk]
        found.stale = [copy for copy in found.stale if copy.disk is not disk]
    return disk


def _enable_an_area(found: FoundGroup, pv: PhysicalVolume) -> None:
    for copy in found.copies:
        if not copy.problem:
            copy.ignore_next = False
            return
    raise UsageError(
        f'Cannot remove final metadata area on "{pv.device}" from "{found.group.name}"',
        hint="add a physical volume with a metadata area first",
    )


def remove_group(session: Session, found: FoundGroup, *, force: bool = False) -> None:
    """Take the group off its disks. Its volumes must have been removed, unless *force*."""
    group = found.group
    visible = [lv for lv in group.visible_lvs() if not lv.name.endswith("_pmspare")]
    if visible and not force:
        raise BusyError(
            f'Volume group "{group.name}" still contains {len(visible)} logical volume(s)',
            hint="remove them first, or pass -y or -f",
        )
    if found.missing and not force:
        count = len(found.missing)
        session.note("missing", f"WARNING: {count} physical volumes are currently missing from the system.")
        raise CorruptError(f'Volume group "{group.name}" not removed', hint="vgreduce --removemissing")
    outdated = announce_outdated(session, found)
    session.remove_group(found)
    session.drop_disks(outdated)
    if not session.test:
        session.scan.groups = [other for other in session.scan.groups if other is not found]
        session.scan.orphans += [*found.disks.values(), *outdated]


def announce_outdated(session: Session, found: FoundGroup) -> list[Disk]:
    """The disks that the group has removed while they were away, after saying that they will be wiped.

    A disk that may belong to a copy of the group is left as it is.
    """
    outdated = []
    for disk in found.outdated:
        if not found.shares_disks(disk):
            said = (
                f"WARNING: not wiping {disk.path}: its volume group has the name and UUID of "
                f"{found.group.name}, but none of its PVs, and may be a copy of it."
            )
            session.note("outdated", said, disk.path)
            session.note(
                "outdated", f"Use --devices to change either of the two groups named {found.group.name}."
            )
            continue
        session.note("outdated", f"WARNING: wiping mda on outdated PV {disk.path}", disk.path)
        session.note("outdated", f"WARNING: wiping header on outdated PV {disk.path}", disk.path)
        outdated.append(disk)
    return outdated


def refuse_outdated(found: FoundGroup) -> None:
    """Raise if a disk still has the group's text as it was when the disk was removed.

    With another name or UUID for the group, that text would be a group of its own again.
    """
    outdated = [disk for disk in found.outdated if found.shares_disks(disk)]
    if outdated:
        raise BusyError(
            f"Volume group {found.group.name} has outdated metadata on {outdated[0].path}, which would be "
            "a volume group of its own then.\nSee vgck --updatemetadata to clear outdated metadata.",
            hint=f"vgck --updatemetadata {found.group.name} wipes it",
        )


# -- changing ----------------------------------------------------------------------------------------


def rename_group(session: Session, found: FoundGroup, new: str) -> None:
    """Give the group another name."""
    group = found.group
    _check_new_name(new)
    if new == group.name:
        raise UsageError("New VG name must differ from the old VG name.", hint="choose another name")
    if session.scan.named(new):
        raise ExistsError(f'New VG name "{new}" already exists', hint="choose another name")
    refuse_outdated(found)
    for lv in group.lvs.values():
        if problem := length_problem(new, lv.name):
            raise UsageError(problem, hint="give the group a shorter name, or rename that volume first")
    old = group.name
    group.name = new
    session.commit(found)
    if not session.test:
        remove_backup(old, session.environment)
