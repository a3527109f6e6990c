# SPDX-License-Identifier: Apache-2.0
"""Make, grow, shrink, rename, change, remove, restore and repair volume groups.

:func:`create_group` works inside :meth:`Session.creating`, the others inside
:meth:`Session.editing`; those that take in or let go of disks also inside :meth:`Session.all_locked`.
Each commits. Messages are LVM2's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import (
    BusyError,
    CorruptError,
    ExistsError,
    NoSpaceError,
    NotFoundError,
    UsageError,
)
from lamella.lvm.disks.notice import Notice
from lamella.lvm.disks.scan import FoundGroup
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.metadata_area import IGNORED, AreaHeader, Slot
from lamella.lvm.format.model import MISSING, RESIZEABLE, VolumeGroup
from lamella.lvm.format.names import name_problem
from lamella.lvm.format.segments import StripedSegment
from lamella.lvm.operations.physical_volumes import (
    Confirm,
    PvOptions,
    change_tags,
    create_pv,
    never,
    new_pv,
)
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
    system_id: str = ""
    autoactivation: bool = True


def check_extent_size(size: int) -> None:
    """Raise :class:`UsageError`, in LVM2's words, for an extent size that it does not allow."""
    if size <= 0:
        raise UsageError("Physical extent size may not be zero", hint="give -s 4m or so")
    if size < 1024 or (size & (size - 1) and size % MIN_ODD_EXTENT):
        raise UsageError(
            "Physical Extent size must be a multiple of 128.00 KiB when not a power of 2.",
            hint="give -s 4m or so",
        )
    if size // SECTOR >= 1 << 32:
        raise UsageError("Physical extent size is too large", hint="give -s 4m or so")


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
    if problem := name_problem(name, "name"):
        raise UsageError(
            f'New volume group name "{name}" is invalid: {problem}.',
            hint="use letters, digits and _+.- and no hyphen at the start",
        )
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
        system_id=options.system_id or session.environment.system_id,
        flags=[] if options.autoactivation else ["NOAUTOACTIVATE"],
    )
    change_tags(group.tags, options.tags, ())
    found = FoundGroup(group)
    _take_in(session, found, paths, pv_options, confirm)
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
    _take_in(session, found, paths, pv_options, confirm)
    if found.group.metadata_copies:
        set_metadata_copies(session, found, found.group.metadata_copies)
    session.commit(found, ())


def _take_in(
    session: Session,
    found: FoundGroup,
    paths: Sequence[str],
    pv_options: PvOptions | None,
    confirm: Confirm,
) -> None:
    group = found.group
    chosen: list[Disk] = []
    for path in paths:
        disk = session.find_disk(path)
        if disk in chosen:
            raise UsageError(f"Cannot use {path}: it was given twice", hint="name every disk once")
        chosen.append(disk)
        owner = session.scan.group_of(disk)
        if owner is not None:
            said = f"Physical volume '{path}' is already in volume group '{owner.group.name}'"
            session.say(Notice("used", said, path, "error"))
            session.say(
                Notice(
                    "used",
                    f"Unable to add physical volume '{path}' to volume group '{owner.group.name}'",
                    path,
                    "error",
                )
            )
            raise BusyError(
                f"{path}: physical volume not initialized.",
                hint=f"vgreduce {owner.group.name} {path} first",
            )
    if group.max_pv and len(group.pvs) + len(chosen) > group.max_pv:
        raise NoSpaceError(
            f"No space for '{paths[-1]}' - volume group '{group.name}' holds max {group.max_pv} "
            f"physical volume(s).\nPV {paths[-1]} cannot be added to VG {group.name}.",
            hint="vgchange --maxphysicalvolumes raises the limit",
        )
    for disk in chosen:
        if disk.label is None or disk.label.used:
            create_pv(session, disk.path, pv_options, confirm=confirm)
            said = f'Physical volume "{disk.path}" successfully created.'
            session.say(Notice("pv", said, disk.path, "print"))
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


def set_metadata_copies(session: Session, found: FoundGroup, copies: int) -> None:
    """Let *copies* metadata areas be used and the others ignored; 0 leaves the areas as they are."""
    group = found.group
    group.metadata_copies = copies
    if not copies:
        return
    usable = [copy for copy in found.copies if not copy.problem]
    used = [copy for copy in usable if not copy.will_be_ignored]
    # Spread over the disks: every disk's first area before any disk's second.
    spare = [copy for copy in usable if copy.will_be_ignored]
    for copy in sorted(used, key=lambda copy: copy.number)[copies:]:
        copy.ignore_next = True
    for copy in sorted(spare, key=lambda copy: copy.number)[: max(copies - len(used), 0)]:
        copy.ignore_next = False


# -- letting disks go --------------------------------------------------------------------------------


def reduce_group(session: Session, found: FoundGroup, pv: PhysicalVolume) -> None:
    """Take an unused disk out of the group; it stays a physical volume."""
    group = found.group
    if group.used_ranges(pv):
        raise BusyError(
            f'Physical volume "{pv.device}" still in use', hint="move or remove the volumes on it first"
        )
    if len(group.pvs) == 1:
        raise UsageError(
            f'Can\'t remove final physical volume "{pv.device}" from volume group "{group.name}"',
            hint=f"vgremove {group.name} removes the whole group",
        )
    disk = _let_go(found, pv)
    if not any(not copy.will_be_ignored and not copy.problem for copy in found.copies):
        _use_an_area(found, pv)
    session.commit(found, ())
    if disk is not None:
        session.drop_disks([disk])
        session.scan.orphans.append(disk)


def _let_go(found: FoundGroup, pv: PhysicalVolume) -> Disk | None:
    found.group.pvs.remove(pv)
    disk = found.disks.pop(pv.uuid, None)
    if disk is not None:
        found.copies = [copy for copy in found.copies if copy.disk is not disk]
        found.stale = [copy for copy in found.stale if copy.disk is not disk]
    return disk


def _use_an_area(found: FoundGroup, pv: PhysicalVolume) -> None:
    for copy in found.copies:
        if not copy.problem:
            copy.ignore_next = False
            return
    raise UsageError(
        f'Cannot remove final metadata area on "{pv.device}" from "{found.group.name}"',
        hint="add a physical volume with a metadata area first",
    )


def remove_missing(session: Session, found: FoundGroup, *, force: bool = False) -> bool:
    """Drop disks that are missing; with *force* also every volume that lay on them.

    Returns whether anything was missing. Raises :class:`CorruptError` if volumes stand in the way.
    """
    group = found.group
    gone = [*found.missing, *found.reappeared]
    if not gone:
        return False
    partial = found.partial_lvs()
    if partial and not force:
        for name in sorted(partial):
            said = f"WARNING: Partial LV {name} needs to be repaired or removed. "
            session.say(Notice("missing", said))
        session.say(Notice("missing", f"There are still partial LVs in VG {group.name}.", level="error"))
        session.say(
            Notice(
                "missing",
                "To remove them unconditionally use: vgreduce --removemissing --force.",
                level="error",
            )
        )
        session.say(
            Notice(
                "missing",
                "To remove them unconditionally from mirror LVs use: vgreduce --removemissing "
                "--mirrorsonly --force.",
                level="error",
            )
        )
        session.say(Notice("missing", "WARNING: Proceeding to remove empty missing PVs."))
    elif partial:
        for name in sorted(partial):
            segment = group.lvs[name].segments[0]
            if segment.kind.startswith("raid") or segment.kind == "mirror":
                raise CorruptError(
                    f"volume {group.name}/{name} is a {segment.kind} with a missing disk",
                    hint="repair it with LVM2: lvconvert --repair",
                )
        session.deactivate(found, sorted(partial))
        for name in sorted(partial):
            session.say(Notice("missing", f"WARNING: Removing partial LV {group.name}/{name}."))
            del group.lvs[name]
        _drop_thin_messages(group)
    removed = [pv for pv in gone if not group.used_ranges(pv)]
    for pv in removed:
        _let_go(found, pv)
    if not group.pvs:
        raise UsageError("Volume Groups must always contain at least one PV.", hint=f"vgremove {group.name}")
    for pv in group.pvs:
        if pv.missing and MISSING not in pv.flags:
            pv.flags.append(MISSING)
    found.reappeared = [pv for pv in found.reappeared if pv in group.pvs]
    session.commit(found)
    return True


def _drop_thin_messages(group: VolumeGroup) -> None:
    for lv in group.lvs.values():
        pool = lv.thin_pool
        if pool is not None:
            pool.messages = [
                (verb, what)
                for verb, what in pool.messages
                if not (verb == "create" and isinstance(what, str) and what not in group.lvs)
            ]


def restore_missing(session: Session, found: FoundGroup, pv: PhysicalVolume) -> None:
    """Trust a disk again that was missing (vgextend --restoremissing)."""
    pv.flags = [flag for flag in pv.flags if flag != MISSING]
    pv.status = [flag for flag in pv.status if flag != MISSING]
    found.reappeared = [other for other in found.reappeared if other is not pv]
    session.commit(found)


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
        session.say(
            Notice(
                "missing",
                f"WARNING: {count} physical volumes are currently missing from the system.",
            )
        )
        raise CorruptError(f'Volume group "{group.name}" not removed', hint="vgreduce --removemissing")
    session.remove_group(found)
    if not session.test:
        session.scan.groups = [other for other in session.scan.groups if other is not found]
        session.scan.orphans += found.disks.values()


# -- changing ----------------------------------------------------------------------------------------


def rename_group(session: Session, found: FoundGroup, new: str) -> None:
    """Give the group another name."""
    group = found.group
    if problem := name_problem(new, "name"):
        raise UsageError(
            f'New volume group name "{new}" is invalid: {problem}.',
            hint="use letters, digits and _+.- and no hyphen at the start",
        )
    if new == group.name:
        raise UsageError("New VG name must differ from the old VG name.", hint="choose another name")
    if session.scan.named(new):
        raise ExistsError(f'New VG name "{new}" already exists', hint="choose another name")
    old = group.name
    group.name = new
    session.commit(found)
    if not session.test:
        remove_backup(old, session.environment)


@dataclass(frozen=True, slots=True)
class GroupChanges:
    """What vgchange changes; None leaves as it is. ``extent_size`` in bytes."""

    max_lv: int | None = None
    max_pv: int | None = None
    extent_size: int | None = None
    policy: str | None = None
    resizeable: bool | None = None
    new_identity: bool = False
    add_tags: Sequence[str] = ()
    delete_tags: Sequence[str] = ()
    profile: str | None = None
    metadata_copies: int | None = None
    system_id: str | None = None
    autoactivation: bool | None = None


def change_group(session: Session, found: FoundGroup, changes: GroupChanges) -> bool:
    """Apply *changes* and commit; False if there was nothing to do."""
    group = found.group
    before = _settings(group)
    if changes.max_lv is not None:
        if changes.max_lv and changes.max_lv < len(group.visible_lvs()):
            raise UsageError(
                f"MaxLogicalVolume is less than the current number {len(group.visible_lvs())} of LVs for "
                f"{group.name}",
                hint="give a larger number, or 0 for no limit",
            )
        group.max_lv = changes.max_lv
    if changes.max_pv is not None:
        if changes.max_pv and changes.max_pv < len(group.pvs):
            raise UsageError(
                f"MaxPhysicalVolumes is less than the current number {len(group.pvs)} of PVs for "
                f'"{group.name}"',
                hint="give a larger number, or 0 for no limit",
            )
        group.max_pv = changes.max_pv
    if changes.extent_size is not None and changes.extent_size != group.extent_size:
        _change_extent_size(found, changes.extent_size)
    if changes.policy is not None:
        group.allocation_policy = "" if changes.policy in ("normal", "inherit") else changes.policy
    if changes.resizeable is not None:
        _flag(group.status, RESIZEABLE, changes.resizeable)
    if changes.autoactivation is not None:
        _flag(group.flags, "NOAUTOACTIVATE", not changes.autoactivation)
    if changes.new_identity:
        session.refuse_active(found)
        group.uuid = new_uuid()
    change_tags(group.tags, changes.add_tags, changes.delete_tags)
    if changes.profile is not None:
        group.profile = changes.profile
    if changes.system_id is not None:
        group.system_id = changes.system_id
    if changes.metadata_copies is not None:
        set_metadata_copies(session, found, changes.metadata_copies)
    ignored = any(copy.ignore_next is not None for copy in found.copies)
    if _settings(group) == before and not ignored:
        return False
    session.commit(found, ())
    return True


def _settings(group: VolumeGroup) -> list[object]:
    return [
        group.uuid,
        group.max_lv,
        group.max_pv,
        group.extent_sectors,
        group.allocation_policy,
        list(group.status),
        list(group.flags),
        list(group.tags),
        group.profile,
        group.system_id,
        group.metadata_copies,
    ]


def _flag(words: list[str], word: str, present: bool) -> None:
    if present and word not in words:
        words.append(word)
    elif not present and word in words:
        words.remove(word)


def _change_extent_size(found: FoundGroup, size: int) -> None:
    """Recount everything in extents of another size; every boundary must fall on a whole new extent."""
    check_extent_size(size)
    group = found.group
    old, new = group.extent_sectors, size // SECTOR

    def convert(value: int, what: str) -> int:
        if value * old % new:
            raise UsageError(
                f"New size {value * old} for {what} not an exact number of new extents.",
                hint="choose a size that divides the present one",
            )
        return value * old // new

    if new > old and group.extents * old % new:
        raise UsageError("New extent size is not a perfect fit", hint="choose a smaller size")
    convert(group.extents, group.name)
    convert(group.free_extents(), f"{group.name} free space")
    for pv in group.pvs:
        convert(pv.pe_count, pv.device)
    for lv in group.lvs.values():
        convert(lv.extents, lv.name)
        for segment in lv.segments:
            segment.start_extent = convert(segment.start_extent, f"{lv.name} segment start")
            segment.extent_count = convert(segment.extent_count, f"{lv.name} segment length")
            if isinstance(segment, StripedSegment) and segment.extent_count % len(segment.stripes):
                raise UsageError(
                    f"New size for the stripes of {lv.name} not an exact number of new extents.",
                    hint="choose a size that divides the present one",
                )
            for area in segment.mapped:
                area.extent = convert(area.extent, f"{lv.name} PV segment start")
    for pv in group.pvs:
        pv.pe_count = convert(pv.pe_count, pv.device)
    group.extent_sectors = new


# -- restoring and repairing -------------------------------------------------------------------------


def restore_group(session: Session, backup: VolumeGroup, *, force: bool = False) -> FoundGroup:
    """Write a group as a backup has it onto the disks with the right UUIDs (vgcfgrestore)."""
    scan = session.scan
    existing = [found for found in scan.groups if found.group.name == backup.name]
    if any(found.group.uuid != backup.uuid for found in existing):
        raise ExistsError(
            f"another volume group called {backup.name} exists (its UUID differs from the backup's)",
            hint="vgrename one of them first",
        )
    if any(lv.thin_pool is not None for lv in backup.lvs.values()) and not force:
        session.say(
            Notice(
                "thin",
                f"Consider using option --force to restore Volume Group {backup.name} with thin volumes.",
            )
        )
        raise UsageError("Restore failed.", hint="thin pools may have moved on since the backup: --force")
    by_uuid = {disk.label.uuid: disk for disk in scan.disks if disk.label is not None}
    found = FoundGroup(backup)
    missing = 0
    for pv in backup.pvs:
        disk = by_uuid.get(pv.uuid)
        pv.missing = disk is None
        if disk is None:
            missing += 1
            said = f"Couldn't find device with uuid {pv.uuid}."
            session.say(Notice("missing", said, level="warn"))
            continue
        owner = scan.group_of(disk)
        if owner is not None and owner.group.uuid != backup.uuid:
            raise BusyError(
                f"{disk.path} belongs to volume group {owner.group.name} now", hint="vgreduce it first"
            )
        if disk.size < pv.pe_start * SECTOR + pv.pe_count * backup.extent_size:
            raise UsageError(
                f"{disk.path} is too small for the extents of volume group {backup.name}",
                hint="restore onto a disk of the old size",
            )
        pv.device = disk.path
        found.disks[pv.uuid] = disk
        for copy in disk.copies:
            if copy.problem == "header":
                copy.header = AreaHeader(copy.start, copy.size)
            copy.problem = ""
            found.copies.append(copy)
    if missing:
        raise NotFoundError(
            f"Cannot restore Volume Group {backup.name} with {missing} PVs marked as missing.",
            hint="attach them, or make new ones: pvcreate --uuid UUID --restorefile FILE",
        )
    left_out: list[Disk] = []
    for other in existing:
        session.refuse_active(other, f"Volume group {backup.name} has active volumes.")
        backup.seqno = max(backup.seqno, other.group.seqno)
        left_out += [disk for uuid, disk in other.disks.items() if uuid not in found.disks]
    session.commit(found, ())
    session.drop_disks(left_out)
    if not session.test:
        scan.groups = [other for other in scan.groups if other not in existing] + [found]
        scan.orphans = [disk for disk in scan.orphans if disk not in found.disks.values()]
    return found


def update_metadata(session: Session, found: FoundGroup) -> None:
    """Write the newest text into every area, damaged ones too, and wipe outdated disks
    (vgck --updatemetadata)."""
    group = found.group
    for copy in found.damaged:
        said = f"WARNING: repairing bad metadata in mda{copy.number} at {copy.start} on {copy.disk.path}."
        session.say(Notice("metadata", said, copy.disk.path))
        if copy.header is None:
            copy.header = AreaHeader(copy.start, copy.size)
        elif copy.problem == "text":
            flags = copy.header.committed.flags & IGNORED
            copy.header = AreaHeader(copy.start, copy.header.size, Slot(flags=flags))
        copy.problem = ""
    for disk in found.outdated:
        session.say(Notice("outdated", f"WARNING: wiping mda on outdated PV {disk.path}", disk.path))
        session.say(Notice("outdated", f"WARNING: wiping header on outdated PV {disk.path}", disk.path))
    session.commit(found, ())
    if found.outdated:
        session.drop_disks(found.outdated)
        session.scan.orphans += found.outdated
        found.outdated = []
    found.notices = [notice for notice in found.notices if notice.kind not in ("stale", "outdated")]
    for pv in group.pvs:
        pv.missing = pv.uuid not in found.disks
