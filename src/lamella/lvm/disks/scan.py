# SPDX-License-Identifier: Apache-2.0
"""Find the physical volumes among some disks, and assemble their volume groups.

Of all metadata copies of a group the newest valid one counts. What is missing, stale, damaged, duplicate or
foreign is reported as LVM2 reports it (lib/cache/lvmcache.c, lib/metadata/metadata.c) and never repaired
here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.block.sysfs import attribute, disk_names
from lamella.errors import CorruptError, LamellaError
from lamella.lvm.disks.disk import Disk, MetadataCopy, Opener, is_block_device, open_file
from lamella.lvm.disks.notice import Notice, Noting
from lamella.lvm.format.group_reader import READ_PREFIX, read_group
from lamella.lvm.format.ids import DM_PREFIX, without_dashes
from lamella.lvm.format.label import EXTENSION_VERSION
from lamella.lvm.format.model import MISSING, VolumeGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from lamella.block.device import BlockDevice
    from lamella.lvm.format.physical_volume import PhysicalVolume


ORPHAN_NOTICE = "used"
"""The kind of notices about physical volumes that belong to no group."""


@dataclass(slots=True, eq=False)
class FoundGroup(Noting):
    """A volume group together with its disks."""

    group: VolumeGroup
    disks: dict[str, Disk] = field(default_factory=dict)
    """The disks that are there, by physical volume UUID."""
    copies: list[MetadataCopy] = field(default_factory=list)
    """Every metadata area on these disks, damaged, stale and ignored ones included."""
    stale: list[MetadataCopy] = field(default_factory=list)
    """Areas whose text is older than the one that counts."""
    outdated: list[Disk] = field(default_factory=list)
    """Disks whose metadata says that they belong to the group, which has removed them."""
    reappeared: list[PhysicalVolume] = field(default_factory=list)
    """Marked missing in the text while extents on them are used, but there again."""
    notices: list[Notice] = field(default_factory=list)

    @property
    def missing(self) -> list[PhysicalVolume]:
        return [pv for pv in self.group.pvs if pv.missing]

    @property
    def partial(self) -> bool:
        """A disk is missing, or was and came back with old metadata."""
        return bool(self.missing or self.reappeared)

    def shares_disks(self, disk: Disk) -> bool:
        """Whether the text on an outdated *disk* names a physical volume that the group has now. If not, the
        disk may belong to a copy of the group.
        """
        members = {pv.uuid for pv in self.group.pvs}
        return any(
            pv.uuid in members for copy in disk.copies if copy.group is not None for pv in copy.group.pvs
        )

    def copies_of(self, pv: PhysicalVolume) -> list[MetadataCopy]:
        disk = self.disks.get(pv.uuid)
        return [] if disk is None else disk.copies

    @property
    def damaged(self) -> list[MetadataCopy]:
        return [copy for copy in self.copies if copy.problem]

    @property
    def mda_count(self) -> int:
        """Good metadata areas on all disks."""
        return sum(not copy.problem for copy in self.copies)

    @property
    def mda_used_count(self) -> int:
        return sum(not copy.problem and not copy.ignored for copy in self.copies)

    def partial_lvs(self) -> set[str]:
        """Names of the volumes that use, at any depth, a disk that is missing or came back."""
        bad = {pv.uuid for pv in (*self.missing, *self.reappeared)}
        if not bad:
            return set()
        group = self.group
        found = {
            lv.name
            for lv in group.lvs.values()
            if any(
                area.pv is not None and area.pv.uuid in bad
                for segment in lv.segments
                for area in segment.mapped
            )
        }
        users = group.users()
        todo = list(found)
        while todo:
            for lv, _segment, role in users.get(todo.pop(), ()):
                if role not in ("message", "merge", "merging_store") and lv.name not in found:
                    found.add(lv.name)
                    todo.append(lv.name)
        return found


@dataclass(slots=True, eq=False)
class Scan(Noting):
    """All that was found on some disks, in their order."""

    disks: list[Disk] = field(default_factory=list)
    groups: list[FoundGroup] = field(default_factory=list)
    orphans: list[Disk] = field(default_factory=list)
    """Physical volumes that belong to no group."""
    duplicates: list[Disk] = field(default_factory=list)
    """Disks with a UUID that another, preferred disk has too."""
    unreadable: list[tuple[str, LamellaError]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def named(self, name: str) -> list[FoundGroup]:
        return [found for found in self.groups if found.group.name == name]

    def group_of(self, disk: Disk) -> FoundGroup | None:
        """The group of the disk, if any; also of a disk that the group has removed while it was away."""
        return next(
            (found for found in self.groups if disk in found.disks.values() or disk in found.outdated), None
        )

    def is_outdated(self, disk: Disk) -> bool:
        """Whether the disk's group has removed it while it was away."""
        return any(disk in found.outdated for found in self.groups)

    def disk(self, path: str) -> Disk | None:
        """The disk that was scanned under *path*, or under another name of the same file."""
        for disk in self.disks:
            if disk.path == path:
                return disk
        return next((disk for disk in self.disks if same_file(disk.path, path)), None)

    def scan_notices(self) -> list[Notice]:
        """What LVM2 says when it looks at the disks, whatever the command then reads."""
        said: list[Notice] = []
        for disk in self.disks:
            said += disk.notices
        return said + [notice for notice in self.notices if notice.kind != ORPHAN_NOTICE]

    def orphan_notices(self) -> list[Notice]:
        """What LVM2 says when it reads the physical volumes that belong to no group."""
        return [notice for notice in self.notices if notice.kind == ORPHAN_NOTICE]

    def all_notices(self) -> list[Notice]:
        """Those of the disks, of the whole, and of each group, in LVM2's order."""
        said: list[Notice] = []
        for disk in self.disks:
            said += disk.notices
        said += self.notices
        for found in self.groups:
            said += found.notices
        return said

    def close(self) -> None:
        """Close every disk that the scan opened."""
        for disk in self.disks:
            disk.close()


def same_file(one: str, other: str) -> bool:
    """Whether two paths lead to the same file or device; a path that leads nowhere equals only itself."""
    if one == other:
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def block_devices(sys_block: Path) -> list[str]:
    """Every disk and partition in the kernel that may be a physical volume.

    Left out are device-mapper devices of LVM, RAM disks, and loop devices without a file.
    """
    paths: list[str] = []
    for name in disk_names(sys_block):
        if name.startswith(("ram", "zram", "sr", "fd")):
            continue
        if name.startswith("loop") and not os.path.exists(f"{sys_block}/{name}/loop/backing_file"):
            continue
        disk = sys_block / name
        if name.startswith("dm-") and (
            not (disk / "dm" / "uuid").exists() or attribute(disk, "dm/uuid").startswith(DM_PREFIX)
        ):
            continue
        parts = sorted(part.parent.name for part in disk.glob(f"{name}*/partition"))
        paths += [f"/dev/{part}" for part in parts] or [f"/dev/{name}"]
    return [path for path in paths if is_block_device(path)]


def scan(
    paths: Iterable[str],
    *,
    opener: Opener = open_file,
    given: Mapping[str, BlockDevice] | None = None,
    min_size: int = 0,
    is_foreign: Callable[[VolumeGroup], bool] = lambda group: bool(group.system_id),
    device_id: Callable[[str], tuple[str, str]] | None = None,
) -> Scan:
    """Read every disk in *paths* and assemble the groups. Writes nothing.

    *given* holds devices that are open already, by path (a path in it need not be in *paths*); they are used
    as they are and stay open. Disks smaller than *min_size* bytes are no physical volumes. A disk that
    cannot be opened or read is listed in ``unreadable``. *device_id* gives the type and the identifier of the
    device at a path, where a devices file is used: of two copies of a physical volume, that with the
    identifier in the metadata is the right one.
    """
    result = Scan()
    given = given or {}
    seen: set[str] = set()
    for path in [*paths, *given]:
        if path in seen:
            continue
        seen.add(path)
        try:
            disk = Disk.open(path, opener, given.get(path))
        except LamellaError as error:
            result.unreadable.append((path, error))
            continue
        if disk.size < min_size:
            disk.label, disk.copies, disk.notices = None, [], []
        result.disks.append(disk)
    _read_groups(result)
    usable = _without_duplicates(result, device_id)
    _assemble(result, usable, is_foreign)
    return result


def _without_duplicates(
    result: Scan, device_id: Callable[[str], tuple[str, str]] | None = None
) -> dict[str, Disk]:
    """The disk to use for each UUID; the others are reported."""
    chosen: dict[str, Disk] = {}
    reasons: dict[str, str] = {}
    for disk in result.disks:
        if disk.label is None:
            continue
        uuid = disk.label.uuid
        first = chosen.get(uuid)
        if first is None:
            chosen[uuid] = disk
            continue
        first_fits = first.label is not None and first.size == first.label.device_size
        this_fits = disk.size == disk.label.device_size
        last = _last_seen(disk, uuid) or _last_seen(first, uuid)
        hint = last.device if last is not None else ""
        known = [one for one in (disk, first) if device_id is not None and _has_id(one, last, device_id)]
        if len(known) == 1:
            prefer_this, reasons[uuid] = known[0] is disk, "device id"
        elif this_fits != first_fits:
            prefer_this, reasons[uuid] = this_fits, "device size is correct"
        elif hint in (first.path, disk.path):
            prefer_this, reasons[uuid] = hint == disk.path, "device name matches previous"
        else:
            prefer_this, reasons[uuid] = False, "device was seen first"
        result.duplicates.append(first if prefer_this else disk)
        chosen[uuid] = disk if prefer_this else first
    for disk in result.duplicates:
        assert disk.label is not None
        line = f"WARNING: Not using device {disk.path} for PV {disk.label.uuid}."
        result.note("duplicate", line, disk.path)
    for disk in result.duplicates:
        assert disk.label is not None
        uuid = disk.label.uuid
        line = f"WARNING: PV {uuid} prefers device {chosen[uuid].path} because {reasons[uuid]}."
        result.note("duplicate", line, disk.path)
    return chosen


def _has_id(disk: Disk, last: PhysicalVolume | None, device_id: Callable[[str], tuple[str, str]]) -> bool:
    """Whether the disk's device is the one that the metadata has the identifier of."""
    if last is None or not last.device_id:
        return False
    return device_id(disk.path) == (last.device_id_type, last.device_id)


def _last_seen(disk: Disk, uuid: str) -> PhysicalVolume | None:
    """The physical volume as the disk's own metadata last saw it."""
    for copy in disk.copies:
        if copy.group is not None:
            for pv in copy.group.pvs:
                if pv.uuid == uuid:
                    return pv
    return None


def _read_groups(result: Scan) -> None:
    """Parse every text once, however many copies of it there are."""
    known: dict[bytes, VolumeGroup | CorruptError] = {}
    for disk in result.disks:
        for copy in disk.copies:
            if not copy.text:
                continue
            parsed = known.get(copy.text)
            if parsed is None:
                try:
                    parsed = read_group(copy.text.rstrip(b"\0").decode("utf-8", "surrogateescape"))
                except CorruptError as error:
                    parsed = error
                else:
                    for line in parsed.remarks:
                        disk.note("metadata", line, disk.path)
                known[copy.text] = parsed
            if isinstance(parsed, CorruptError):
                disk.bad_text(copy, [parsed.message.removeprefix(READ_PREFIX)])
            else:
                copy.group = parsed
        if disk.label is not None and disk.copies and all(copy.problem for copy in disk.copies):
            plain = without_dashes(disk.label.uuid)
            line = f"WARNING: scan failed to get metadata summary from {disk.path} PVID {plain}"
            disk.note("metadata", line, disk.path)


def _assemble(result: Scan, usable: dict[str, Disk], is_foreign: Callable[[VolumeGroup], bool]) -> None:
    by_uuid: dict[str, list[MetadataCopy]] = {}
    for disk in usable.values():
        for copy in disk.copies:
            if copy.group is not None:
                by_uuid.setdefault(copy.group.uuid, []).append(copy)
    owned: set[str] = set()
    for copies in _separate(result, by_uuid):
        found = _newest(copies)
        group = found.group
        members = {pv.uuid for pv in group.pvs}
        for pv in group.pvs:
            disk_there = usable.get(pv.uuid)
            pv.missing = disk_there is None
            if disk_there is not None:
                pv.device = disk_there.path
                found.disks[pv.uuid] = disk_there
                found.copies += disk_there.copies
                owned.add(pv.uuid)
        removed: dict[str, MetadataCopy] = {}
        for copy in copies:
            label = copy.disk.label
            assert label is not None
            if label.uuid not in members and copy.disk not in found.outdated:
                owned.add(label.uuid)
                found.outdated.append(copy.disk)
                removed[copy.disk.path] = copy
        if not is_foreign(group):
            for pv in group.pvs:
                if pv.missing:
                    found.note("missing", f"WARNING: Couldn't find device with uuid {pv.uuid}.")
        for path, copy in removed.items():
            assert copy.group is not None
            found.note(
                "outdated",
                f"WARNING: outdated PV {path} seqno {copy.group.seqno} has been removed "
                f"in current VG {group.name} seqno {group.seqno}.",
                path,
            )
        if any(found.shares_disks(disk) for disk in found.outdated):
            found.note("outdated", "See vgck --updatemetadata to clear outdated metadata.")
        _check_disks(found, is_foreign(group))
        result.groups.append(found)
    for uuid, disk in usable.items():
        if uuid in owned:
            continue
        result.orphans.append(disk)
        if disk.label is not None and disk.label.used:
            line = f"WARNING: PV {disk.path} is marked in use but no VG was found using it."
            result.note(ORPHAN_NOTICE, line, disk.path)
            result.note(ORPHAN_NOTICE, f"WARNING: PV {disk.path} might need repairing.", disk.path)
    _same_names(result)


def _separate(result: Scan, by_uuid: dict[str, list[MetadataCopy]]) -> Iterator[list[MetadataCopy]]:
    """The copies of each group. Two groups may have one UUID, as after a copy of disks: then they differ in
    name, and neither knows the other's disks.
    """
    for uuid, copies in by_uuid.items():
        names: list[str] = []
        while copies:
            newest = max(copies, key=lambda copy: copy.group.seqno if copy.group is not None else 0).group
            assert newest is not None
            members = {pv.uuid for pv in newest.pvs}
            own: list[MetadataCopy] = []
            others: list[MetadataCopy] = []
            for copy in copies:
                assert copy.group is not None
                assert copy.disk.label is not None
                mine = copy.group.name == newest.name or copy.disk.label.uuid in members
                (own if mine else others).append(copy)
            yield own
            names.append(newest.name)
            copies = others
        for name in names[1:]:
            line = f"WARNING: fix duplicate VGID {uuid} for VGs {names[0]} and {name} (see vgchange -u)."
            result.note("name", line)


def _newest(copies: list[MetadataCopy]) -> FoundGroup:
    best = copies[0]
    assert best.group is not None
    found = FoundGroup(best.group)
    for copy in copies[1:]:
        assert copy.group is not None
        assert best.group is not None
        if copy.group.seqno == best.group.seqno:
            if copy.text != best.text:
                found.note(
                    "mismatch",
                    f"WARNING: Scanning {copy.disk.path} mda{copy.number} found mismatch with "
                    "other metadata.",
                    copy.disk.path,
                )
                found.stale.append(copy)
            continue
        older, newer = (copy, best) if copy.group.seqno < best.group.seqno else (best, copy)
        assert older.group is not None
        assert newer.group is not None
        found.note(
            "stale",
            f"WARNING: ignoring metadata seqno {older.group.seqno} on {older.disk.path} for seqno "
            f"{newer.group.seqno} on {newer.disk.path} for VG {newer.group.name}.",
            older.disk.path,
        )
        best = newer
    assert best.group is not None
    found.group = best.group
    for copy in copies:
        assert copy.group is not None
        if copy.group.seqno < best.group.seqno:
            found.stale.append(copy)
    if any(notice.kind == "stale" for notice in found.notices):
        found.note("stale", f"WARNING: Inconsistent metadata found for VG {best.group.name}.")
        found.note("stale", "See vgck --updatemetadata to correct inconsistency.")
    return found


def _check_disks(found: FoundGroup, foreign: bool) -> None:
    """Missing, returned and shrunk disks, as LVM2 reports them when it reads a group."""
    group = found.group
    used = group.extent_map()
    for pv in group.pvs:
        if pv.missing:
            if not foreign:
                hint = f" (last written to {pv.device})" if pv.device else ""
                line = f"WARNING: VG {group.name} is missing PV {pv.uuid}{hint}."
                found.note("missing", line)
        elif MISSING in pv.flags or MISSING in pv.status:
            line = f"WARNING: VG {group.name} was previously updated while PV {pv.device} was missing."
            found.note("reappeared", line, pv.device)
            if used[pv.uuid]:
                found.reappeared.append(pv)
                line = f"WARNING: VG {group.name} was missing PV {pv.device} {pv.uuid}."
            else:
                pv.flags = [flag for flag in pv.flags if flag != MISSING]
                pv.status = [flag for flag in pv.status if flag != MISSING]
                line = f"WARNING: VG {group.name} has unused reappeared PV {pv.device} {pv.uuid}."
            found.note("reappeared", line, pv.device)
    shrunk = False
    for pv in group.pvs:
        disk = found.disks.get(pv.uuid)
        if disk is not None and disk.size < pv.size:
            shrunk = True
            found.note(
                "size",
                f"WARNING: Device {disk.path} has size of {disk.size // 512} sectors which is smaller "
                f"than corresponding PV size of {pv.dev_sectors} sectors. Was device resized?",
                disk.path,
            )
    for disk in found.disks.values():
        if disk.label is not None and disk.label.extension_version < EXTENSION_VERSION:
            line = f"PV {disk.path} in VG {group.name} is using an old PV header, modify the VG to update."
            found.note("header", f"WARNING: {line}", disk.path)
    if shrunk:
        found.note("size", f"WARNING: One or more devices used as PVs in VG {group.name} have changed sizes.")


def _same_names(result: Scan) -> None:
    first: dict[str, VolumeGroup] = {}
    for found in result.groups:
        group = found.group
        other = first.setdefault(group.name, group)
        if other is not group:
            line = f"WARNING: VG name {group.name} is used by VGs {group.uuid} and {other.uuid}."
            result.note("name", line)
            result.note("name", "Fix duplicate VG names with vgrename uuid, a device filter, or system IDs.")
