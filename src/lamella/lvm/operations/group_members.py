# SPDX-License-Identifier: Apache-2.0
"""Move physical volumes, with the volumes on them, from one volume group to another (vgsplit, vgmerge).

Only in memory: the callers commit both groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import ExistsError, NoSpaceError, UsageError
from lamella.lvm.format.names import length_problem
from lamella.lvm.operations.pool_spare import spare_of
from lamella.lvm.operations.volume_groups import detach_pv

if TYPE_CHECKING:
    from collections.abc import Collection

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume


def check_compatible(target: VolumeGroup, source: VolumeGroup) -> None:
    """Raise LVM2's error if not all of *source* could become part of *target*."""
    pair = f'"{target.name}" and "{source.name}"'
    if target.extent_sectors != source.extent_sectors:
        raise UsageError(
            f"Extent sizes differ: {target.extent_sectors} ({target.name}) and "
            f"{source.extent_sectors} ({source.name})",
            hint="vgchange -s changes a group's extent size",
        )
    if target.max_pv and target.max_pv < len(target.pvs) + len(source.pvs):
        raise NoSpaceError(
            f"Maximum number of physical volumes ({target.max_pv}) exceeded  for {pair}",
            hint=f"vgchange -p raises the limit of {target.name}",
        )
    if target.max_lv and target.max_lv < len(target.visible_lvs()) + len(source.visible_lvs()):
        raise NoSpaceError(
            f"Maximum number of logical volumes ({target.max_lv}) exceeded  for {pair}",
            hint=f"vgchange -l raises the limit of {target.name}",
        )
    for name in source.lvs:
        if name in target.lvs:
            raise ExistsError(
                f'Duplicate logical volume name "{name}" in "{target.name}" and "{source.name}"',
                hint="lvrename one of them",
            )
    taken = {pv.uuid for pv in target.pvs} | {lv.uuid for lv in target.lvs.values()}
    for uuid in (*(pv.uuid for pv in source.pvs), *(lv.uuid for lv in source.lvs.values())):
        if uuid in taken:
            raise ExistsError(
                f"UUID {uuid} is in {pair}: one of them is a copy of the other",
                hint="vgimportclone gives a copy a name and UUIDs of its own",
            )


def connected(group: VolumeGroup) -> list[list[LogicalVolume]]:
    """The volumes of a group in sets that name each other at any depth, and so stay in one group."""
    parent = {name: name for name in group.lvs}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for lv in group.lvs.values():
        for segment in lv.segments:
            for _role, name in segment.references():
                if name in parent:
                    parent[root(name)] = root(lv.name)
    sets: dict[str, list[LogicalVolume]] = {}
    for lv in group.lvs.values():
        sets.setdefault(root(lv.name), []).append(lv)
    return list(sets.values())


def disks_of(volumes: Collection[LogicalVolume]) -> list[PhysicalVolume]:
    """The physical volumes that these volumes are mapped to, each once, in the order of the mapping."""
    found: dict[str, PhysicalVolume] = {}
    for lv in volumes:
        for segment in lv.segments:
            for area in (*segment.areas(), *segment.metadata_areas()):
                if area.pv is not None:
                    found.setdefault(area.pv.uuid, area.pv)
    return list(found.values())


def with_disks(group: VolumeGroup, moved: Collection[PhysicalVolume]) -> list[LogicalVolume]:
    """The volumes that go with the disks *moved*, and those on no disk. Raises :class:`UsageError` for one
    on others too.
    """
    uuids = {pv.uuid for pv in moved}
    going: list[LogicalVolume] = []
    for volumes in connected(group):
        used = {pv.uuid for pv in disks_of(volumes)}
        if used <= uuids:
            going += volumes
        elif used & uuids:
            raise UsageError(
                _split_message(volumes), hint="move it with pvmove, or split off its other disks too"
            )
    return going


def _split_message(volumes: list[LogicalVolume]) -> str:
    """LVM2's line for volumes that would be in two groups."""
    kinds = {segment.type for lv in volumes for segment in lv.segments}
    first = volumes[0].name
    if "thin-pool" in kinds:
        pool = next(lv.name for lv in volumes if lv.thin_pool is not None)
        return f"Can't split pool data and metadata {pool} between two Volume Groups."
    if "snapshot" in kinds:
        return f"Can't split snapshot {first} between two Volume Groups."
    if "mirror" in kinds:
        return f"Can't split mirror {first} between two Volume Groups."
    return f"Can't split Logical Volume {first} between two Volume Groups"


def move_members(
    source: FoundGroup,
    target: FoundGroup,
    pvs: Collection[PhysicalVolume],
    volumes: Collection[LogicalVolume],
) -> None:
    """Move *pvs* and *volumes* with what is found on the disks. Raises for names that become too long."""
    for lv in volumes:
        if problem := length_problem(target.group.name, lv.name):
            raise UsageError(problem, hint="give the volume or the group a shorter name first")
    for lv in volumes:
        target.group.lvs[lv.name] = source.group.lvs.pop(lv.name)
    names = {lv.name for lv in volumes}
    records = [one for one in source.group.historical if any(name in names for _, name in one.references())]
    kept = [one for one in source.group.historical if one not in records]
    source.group.historical, moved = kept, records
    target.group.historical += moved
    for pv in list(pvs):
        stale = [copy for copy in source.stale if copy in source.copies_of(pv)]
        copies = source.copies_of(pv)
        disk = detach_pv(source, pv)
        target.group.pvs.append(pv)
        if disk is not None:
            target.disks[pv.uuid] = disk
            target.copies += copies
            target.stale += stale


def note_older_areas(source: FoundGroup, target: FoundGroup) -> None:
    """Let the next commit of *target* report the areas of *source* as older, where LVM2 does."""
    if source.group.seqno < target.group.seqno:
        target.stale += [copy for copy in source.copies if not copy.ignored and not copy.problem]


def drop_smaller_spare(one: VolumeGroup, other: VolumeGroup) -> None:
    """A group has one spare for the metadata of its pools: of those of two, remove the smaller."""
    first, second = spare_of(one), spare_of(other)
    if first is not None and second is not None:
        if first.extents < second.extents:
            one.forget_lv(first)
        else:
            other.forget_lv(second)
