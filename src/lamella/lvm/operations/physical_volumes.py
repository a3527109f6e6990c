# SPDX-License-Identifier: Apache-2.0
"""Create, remove, resize and change physical volumes: pvcreate and its relatives.

Every function works inside :meth:`lamella.lvm.session.session.Session.all_locked` (or ``editing`` for a disk
in a group). Messages are LVM2's. Questions are asked with *confirm*, which gets the whole question and
returns True for yes; the default says no.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import BusyError, ExistsError, MissingError, NotFoundError, UsageError
from lamella.lvm.disks.disk import Disk, MetadataCopy, is_claimed
from lamella.lvm.disks.kernel_active import refuse_active
from lamella.lvm.disks.pv_layout import MAX_COPIES, LayoutRequest, lay_out, topology
from lamella.lvm.disks.signatures import find_signatures, wipe_signature
from lamella.lvm.format.ids import is_uuid, new_uuid
from lamella.lvm.format.label import SCAN_BYTES, SCAN_SECTORS, Label
from lamella.lvm.format.metadata_area import IGNORED, AreaHeader, Slot
from lamella.lvm.format.names import is_valid_tag
from lamella.lvm.format.physical_volume import ALLOCATABLE, PhysicalVolume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.session.session import Session

Confirm = Callable[[str], bool]
"""Asks the user a question; True is yes."""

WIPE_AREA = 4096
"""Bytes at the start of a new metadata area that are cleared."""


def never(question: str) -> bool:
    """Answers every question with no."""
    return False


@dataclass(frozen=True, slots=True)
class PvOptions:
    """Options of pvcreate; sizes in bytes, 0 and None leave the choice to LVM's rules."""

    uuid: str = ""
    restore: VolumeGroup | None = None
    """The group of ``--restorefile``, in which ``uuid`` is looked up."""
    metadata_copies: int = 1
    metadata_size: int = 0
    metadata_ignore: bool = False
    data_alignment: int = 0
    data_alignment_offset: int = 0
    boot_size: int = 0
    size: int = 0
    """``--setphysicalvolumesize``."""
    zero: bool | None = None
    label_sector: int = 1
    force: int = 0
    """How often ``--force`` was given."""
    yes: bool = False


def create_pv(
    session: Session, path: str, options: PvOptions | None = None, *, confirm: Confirm = never
) -> Disk:
    """Make the disk at *path* a physical volume. Raises before anything is written if it may not be one."""
    options = options or PvOptions()
    _check_options(session, path, options)
    disk = session.find_disk(path)
    _check_free(session, disk, options, confirm)
    backup = _pv_in_backup(options)
    size = (options.size or (backup.dev_sectors * SECTOR if backup and options.size else 0)) or disk.size
    size = size // SECTOR * SECTOR
    smallest = session.environment.pv_min_size
    if disk.size < smallest:
        raise UsageError(
            f"Cannot use {path}: device is too small (pv_min_size)",
            hint=f"a physical volume needs {smallest} bytes at least",
        )
    if size < smallest:
        raise UsageError(
            f"{path}: Size must exceed minimum of {smallest // SECTOR} sectors.", hint="give a larger size"
        )
    if options.size > disk.size:
        session.note("size", f"WARNING: {path}: Overriding real size. You could lose data.", path)
    extent = options.restore.extent_size if options.restore is not None else 0
    request = LayoutRequest(
        size=size,
        copies=options.metadata_copies,
        metadata_size=options.metadata_size,
        alignment=options.data_alignment,
        alignment_offset=options.data_alignment_offset,
        boot_size=options.boot_size or (backup.ba_size * SECTOR if backup else 0),
        pe_start=backup.pe_start * SECTOR if backup else None,
        boot_start=backup.ba_start * SECTOR if backup else 0,
        data_end=backup.pe_start * SECTOR + backup.pe_count * extent if backup else 0,
    )
    layout = lay_out(request, path, default_alignment=topology(path))
    if backup is not None and request.data_end > size:
        raise UsageError(
            f"Physical extents ({request.data_end // SECTOR - 1} sectors) end beyond end of device "
            f"({size // SECTOR} sectors) {path}.",
            hint="the disk is smaller than the one that was lost; use a larger one",
        )
    if not session.test:
        _check_exclusive(session, disk)
        _wipe_signatures(session, disk, options, confirm)
    label = Label(
        uuid=options.uuid or new_uuid(),
        device_size=size,
        data_areas=[(layout.pe_start, 0)],
        metadata_areas=list(layout.areas),
        boot_areas=[(layout.boot_start, layout.boot_size)] if layout.boot_size else [],
        sector=options.label_sector,
    )
    zero = options.zero if options.zero is not None else not options.uuid
    if not session.test:
        _write_pv(disk, label, ignore=options.metadata_ignore, zero=zero)
    return disk


def _check_options(session: Session, path: str, options: PvOptions) -> None:
    if options.uuid:
        if not is_uuid(options.uuid):
            raise UsageError(f"Invalid uuid {options.uuid}.", hint="a UUID has 32 letters and digits")
        for other in session.scan.disks:
            if other.label is not None and other.label.uuid == options.uuid and other.path != path:
                raise ExistsError(
                    f'UUID {options.uuid} already in use on "{other.path}".', hint="give another --uuid"
                )
    if options.restore is not None and _pv_in_backup(options) is None:
        raise NotFoundError(
            f"Can't find uuid {options.uuid} in backup file", hint="give the file of the right group"
        )
    if not 0 <= options.metadata_copies <= MAX_COPIES:
        raise UsageError("Metadatacopies may only be 0, 1 or 2", hint="give --pvmetadatacopies 0, 1 or 2")
    if not 0 <= options.label_sector < SCAN_SECTORS:
        raise UsageError(f"labelsector must be less than {SCAN_SECTORS}.", hint="leave --labelsector out")


def _pv_in_backup(options: PvOptions) -> PhysicalVolume | None:
    if options.restore is None:
        return None
    return next((pv for pv in options.restore.pvs if pv.uuid == options.uuid), None)


def _check_free(session: Session, disk: Disk, options: PvOptions, confirm: Confirm) -> None:
    """Refuse a disk in a group, unless forced twice and confirmed."""
    path = disk.path
    owner = session.scan.group_of(disk)
    if any(disk is other for other in session.scan.duplicates):
        raise BusyError(
            f"Cannot use device {path} with duplicates.", hint="name the right device with --devices"
        )
    if owner is not None:
        group = owner.group
        if options.force < 2:
            session.note(
                "used",
                f'Can\'t initialize physical volume "{path}" of volume group "{group.name}" without -ff',
                path,
                "error",
            )
            raise BusyError(f"{path}: physical volume not initialized.", hint="vgreduce it first")
        question = f'Really INITIALIZE physical volume "{path}" of volume group "{group.name}" [y/n]? '
        if not options.yes and not confirm(question):
            raise BusyError(f"{path}: physical volume not initialized.", hint="vgreduce it first")
        refuse_active(group.name, group.uuid, session.environment.sys_block)
        return
    if disk.label is not None and disk.label.used:
        if options.force < 2:
            session.note("used", f"PV {path} is used by a VG but its metadata is missing.", path, "error")
            session.note("used", f"Can't initialize PV '{path}' without -ff.", path, "error")
            raise BusyError(
                f"{path}: physical volume not initialized.",
                hint="attach the group's other disks, or force it twice",
            )
        question = f'Really INITIALIZE physical volume "{path}" that is marked as belonging to a VG [y/n]? '
        if not options.yes and not confirm(question):
            raise BusyError(f"{path}: physical volume not initialized.", hint="leave it, or answer y")


def _check_exclusive(session: Session, disk: Disk) -> None:
    """Raise if the kernel uses the disk. Without an activator, opening it for writing checks that."""
    if session.activator is not None and is_claimed(disk.path):
        raise BusyError(
            f"Can't open {disk.path} exclusively.  Mounted filesystem?",
            hint=f"see what uses it: lsblk {disk.path}",
        )


def _wipe_signatures(session: Session, disk: Disk, options: PvOptions, confirm: Confirm) -> None:
    try:
        found = find_signatures(disk.reader)
    except MissingError as error:
        session.note("signature", f"WARNING: {error.message}.", disk.path)
        return
    for signature in found:
        if signature.type.startswith("LVM") and signature.type.endswith("_member"):
            continue
        question = (
            f"WARNING: {signature.type} signature detected on {disk.path} at offset {signature.offset}. "
            "Wipe it? [y/n]: "
        )
        if not (options.yes or options.force) and not confirm(question):
            session.note("signature", f"Aborted wiping of {signature.type}.", disk.path, "error")
            left = "1 existing signature left on the device."
            session.note("signature", left, disk.path, "error")
            raise BusyError(f"{disk.path}: physical volume not initialized.", hint="wipefs it, or answer y")
        session.note("signature", f"Wiping {signature.type} signature on {disk.path}.", disk.path, "print")
        wipe_signature(disk.writer, signature)


def _write_pv(disk: Disk, label: Label, *, ignore: bool, zero: bool) -> None:
    """Areas first, label last: until it is there the disk is not a physical volume."""
    device = disk.writer
    if zero:
        device.write(0, bytes(SCAN_BYTES))
        device.flush()
    for start, size in label.metadata_areas:
        device.write(start, bytes(min(WIPE_AREA, size)))
    disk.label = None
    for copy_number, (start, size) in enumerate(label.metadata_areas, 1):
        header = AreaHeader(start, size, Slot(flags=IGNORED if ignore else 0))
        copy = MetadataCopy(disk, copy_number, start, size, header)
        disk.write_header(copy)
    device.flush()
    disk.label = label
    disk.write_label()
    disk.load()


def new_pv(disk: Disk, extent_sectors: int) -> PhysicalVolume:
    """The model's physical volume for a labelled disk that joins a group with that extent size."""
    label = disk.label
    if label is None or not label.data_areas:
        raise UsageError(f"{disk.path} is not a physical volume", hint=f"pvcreate {disk.path}")
    pv = PhysicalVolume(
        uuid=label.uuid,
        device=disk.path,
        status=[ALLOCATABLE],
        dev_sectors=(label.device_size or disk.size) // SECTOR,
        pe_start=label.data_areas[0][0] // SECTOR,
    )
    if label.boot_areas:
        pv.ba_start = label.boot_areas[0][0] // SECTOR
        pv.ba_size = label.boot_areas[0][1] // SECTOR
    pv.pe_count = extents_on(pv, label.metadata_areas, extent_sectors)
    return pv


def extents_on(pv: PhysicalVolume, areas: Sequence[tuple[int, int]], extent_sectors: int) -> int:
    """How many extents fit between the first one and a second metadata area or the disk's end.

    *areas* are the (start, size) of the disk's metadata areas, in bytes.
    """
    reserved = areas[1][1] // SECTOR if len(areas) > 1 else 0
    return max((pv.dev_sectors - pv.pe_start - reserved) // extent_sectors, 0)


# -- removing ----------------------------------------------------------------------------------------


def remove_pv(session: Session, path: str, *, force: int = 0, confirm: Confirm = never) -> None:
    """Wipe the label, which makes the disk no physical volume any more."""
    disk = session.find_disk(path)
    if disk.label is None:
        raise NotFoundError(f"No PV found on device {path}.", hint="pvs lists physical volumes")
    if any(disk is other for other in session.scan.duplicates):
        if force < 2:
            raise NotFoundError(f"No PV found on device {path}.", hint="another device has its UUID")
        raise BusyError(
            f"Cannot use device {path} with duplicates.", hint="name the right device with --devices"
        )
    owner = session.scan.group_of(disk)
    if owner is not None or disk.label.used:
        name = owner.group.name if owner is not None else "<unknown>"
        if force < 2:
            said = f"PV {path} is used by VG {name} so please use vgreduce first."
            if owner is None:
                said = f"PV {path} is used by a VG but its metadata is missing."
            session.note("used", said, path, "error")
            twice = "(If you are certain you need pvremove, then confirm by using --force twice.)"
            session.note("used", twice, path, "error")
            raise BusyError(
                f"{path}: physical volume label not removed.", hint=f"vgreduce GROUP {path} first"
            )
        session.note("used", f"WARNING: PV {path} is used by VG {name}.", path)
        if not confirm(f'Really WIPE LABELS from physical volume "{path}" of volume group "{name}" [y/n]? '):
            raise BusyError(f"{path}: physical volume label not removed.", hint="answer y, or pass --yes")
        if owner is not None:
            refuse_active(owner.group.name, owner.group.uuid, session.environment.sys_block)
        session.note(
            "used", f'WARNING: Wiping physical volume label from {path} of volume group "{name}".', path
        )
    if session.test:
        return
    _check_exclusive(session, disk)
    disk.writer.write(0, bytes(SCAN_BYTES))
    disk.writer.flush()
    disk.load()


# -- resizing ----------------------------------------------------------------------------------------


def resize_pv(session: Session, disk: Disk, found: FoundGroup | None, size: int = 0) -> bool:
    """Let LVM use *size* bytes of the disk (0: all of it). Commits the group it belongs to.

    Returns whether the size changed. Raises :class:`UsageError` where extents in use would be lost.
    """
    label = disk.label
    if label is None:
        raise NotFoundError(f"{disk.path} is not a physical volume", hint="pvs lists physical volumes")
    new_size = (size or disk.size) // SECTOR * SECTOR
    if new_size < session.environment.pv_min_size:
        raise UsageError(
            f"Size must exceed minimum of {session.environment.pv_min_size // SECTOR} sectors on PV "
            f"{disk.path}.",
            hint="give a larger --setphysicalvolumesize",
        )
    moved = _moved_area(disk, label, new_size)
    areas = [label.metadata_areas[0], moved] if moved is not None else label.metadata_areas
    noted = new_size
    if found is None:
        changed = new_size != label.device_size
    else:
        pv = next(pv for pv in found.group.pvs if pv.uuid == label.uuid)
        before = (pv.dev_sectors, pv.pe_count)
        _fit_extents(found, pv, areas, new_size)
        changed = before != (pv.dev_sectors, pv.pe_count)
        noted = pv.size
    if session.test:
        return changed
    # As LVM2 does it: the label is written only for a free disk, or where it has to tell of a moved area.
    if found is None or len(areas) > 1:
        label.device_size = noted
        if moved is not None:
            _move_area(disk, label, moved, found)
        disk.write_label()
    if found is not None:
        session.commit(found, ())
    return changed


def _moved_area(disk: Disk, label: Label, new_size: int) -> tuple[int, int] | None:
    """Where the second metadata area goes on a disk of another size; None without one, or if it stays."""
    if len(label.metadata_areas) < 2:
        return None
    request = LayoutRequest(
        size=new_size, copies=2, metadata_size=label.metadata_areas[1][1], pe_start=label.data_areas[0][0]
    )
    layout = lay_out(request, disk.path, default_alignment=topology(disk.path))
    return layout.areas[1] if layout.areas[1] != label.metadata_areas[1] else None


def _move_area(disk: Disk, label: Label, place: tuple[int, int], found: FoundGroup | None) -> None:
    """Create an empty area at the new place. The first area has the group until the next commit."""
    old = disk.copies[1]
    flags = IGNORED if old.ignored else 0
    copy = MetadataCopy(disk, 2, *place, AreaHeader(*place, Slot(flags=flags)))
    disk.writer.write(place[0], bytes(min(WIPE_AREA, place[1])))
    disk.write_header(copy)
    disk.writer.flush()
    label.metadata_areas[1] = place
    disk.copies[1] = copy
    if found is not None:
        found.copies = [copy if other is old else other for other in found.copies]
        found.stale = [other for other in found.stale if other is not old]


def _fit_extents(
    found: FoundGroup, pv: PhysicalVolume, areas: Sequence[tuple[int, int]], new_size: int
) -> None:
    """Set the number of extents, and the size that LVM2 notes for a resized member: its extents' room."""
    group = found.group
    reserved = pv.pe_start + (areas[1][1] // SECTOR if len(areas) > 1 else 0)
    room = new_size // SECTOR - reserved
    count = max(room, 0) // group.extent_sectors
    if not count:
        raise UsageError(
            f"Size must leave space for at least one physical extent of {group.extent_sectors} sectors on "
            f"PV {pv.device}.",
            hint="give a larger --setphysicalvolumesize",
        )
    runs = group.used_ranges(pv)
    allocated = sum(run[1] for run in runs)
    problem = ""
    if count < allocated:
        problem = f"{pv.device}: cannot resize to {count} extents as {allocated} are allocated."
    elif runs and runs[-1][0] + runs[-1][1] > count:
        problem = f"{pv.device}: cannot resize to {count} extents as later ones are allocated."
    if problem:
        raise UsageError(problem, hint="move or remove the volumes at the disk's end first")
    pv.dev_sectors = room
    pv.pe_count = count


# -- changing ----------------------------------------------------------------------------------------


def change_pv(
    session: Session,
    found: FoundGroup,
    pv: PhysicalVolume,
    *,
    allocatable: bool | None = None,
    add_tags: Sequence[str] = (),
    delete_tags: Sequence[str] = (),
    new_identity: bool = False,
    metadata_ignore: bool | None = None,
) -> bool:
    """Change a physical volume of a group and commit; False if nothing changed (LVM says so)."""
    changed = False
    if new_identity:
        session.refuse_active(found, f"Volume group containing {pv.device} has active logical volumes")
    if allocatable is not None:
        if allocatable == pv.allocatable:
            state = "allocatable" if allocatable else "unallocatable"
            said = f'Physical volume "{pv.device}" is already {state}.'
            session.note("pv", said, pv.device)
        else:
            pv.status = [word for word in pv.status if word != ALLOCATABLE]
            pv.status += [ALLOCATABLE] if allocatable else []
            changed = True
    changed |= change_tags(pv.tags, add_tags, delete_tags)
    if metadata_ignore is not None:
        _ignore_areas(found, pv, metadata_ignore)
        changed = True
    if new_identity:
        disk = found.disks[pv.uuid]
        assert disk.label is not None
        del found.disks[pv.uuid]
        pv.uuid = disk.label.uuid = new_uuid()
        found.disks[pv.uuid] = disk
        if not session.test:
            disk.write_label()
        changed = True
    if changed:
        session.commit(found, ())
    return changed


def _ignore_areas(found: FoundGroup, pv: PhysicalVolume, ignore: bool) -> None:
    """Use a disk's metadata areas no more, or again. Raises where that changes nothing, or leaves none."""
    copies = [copy for copy in found.copies_of(pv) if copy.ignored != ignore]
    if not copies:
        word = "ignored" if ignore else "marked as in-use"
        raise UsageError(
            f'Metadata areas on physical volume "{pv.device}" already {word}.', hint="nothing was changed"
        )
    others = [copy for copy in found.copies if copy not in copies and not copy.problem]
    if ignore and all(copy.will_be_ignored for copy in others):
        raise UsageError(
            f"Cannot disable all metadata areas in volume group {found.group.name}.",
            hint="leave at least one in use",
        )
    for copy in copies:
        copy.ignore_next = ignore


def change_tags(tags: list[str], add: Sequence[str], delete: Sequence[str]) -> bool:
    """Edit a list of tags in place ("@" before a tag is left out); returns whether it changed."""
    before = list(tags)
    for tag in add:
        plain = tag.removeprefix("@")
        if not is_valid_tag(plain):
            raise UsageError(
                f"Invalid tag {tag}.", hint="tags have letters, digits and _+.-/=!:&# and 1023 at most"
            )
        if plain not in tags:
            tags.append(plain)
    for tag in delete:
        plain = tag.removeprefix("@")
        if plain in tags:
            tags.remove(plain)
    return tags != before
