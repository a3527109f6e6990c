# SPDX-License-Identifier: Apache-2.0
"""``pvscan``, ``vgscan``, ``lvscan`` and ``lvmdiskscan``: short lists."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella.block.sysfs import is_partition
from lamella.cli.lvm.errors import BadCommand
from lamella.cli.lvm.processing import each_group, each_volume, owned_disk
from lamella.cli.lvm.size_format import Sizes
from lamella.errors import LamellaError, NotFoundError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.report.view import GroupView

    _Line = tuple[str, FoundGroup | None, str, int, int]
    # device, group, UUID, size, free bytes (-1 outside groups)


ORPHANS = "#orphans_lvm2"
"""LVM2's name for the group of orphans; it counts for the width of a column."""


def pvscan(context: Context) -> None:
    """List physical volumes with their groups and free space; ``--cache -aay`` activates complete groups."""
    args = context.args
    if args.has("listvg") or args.has("listlvs"):
        if args.has("cache"):
            _renew_hints(context)
        _of_disk(context)
        return
    if args.has("cache"):
        _renew_hints(context)
        if args.has("activate"):
            _autoactivate(context)
        return
    sizes = Sizes(context.units)
    only_free, only_exported = args.has("novolumegroup"), args.has("exported")
    if only_free and only_exported:
        raise BadCommand("Options -e and -n are incompatible")
    if only_free:
        context.console.warn("WARNING: only considering physical volumes in no volume group")
    if only_exported:
        context.console.warn("WARNING: only considering physical volumes of exported volume group(s)")
    rows: list[_Line] = []
    in_use = free_space = free_count = 0
    if not only_free:
        for found in context.groups():
            group = found.group
            if only_exported and not group.exported:
                continue
            view = context.view(found)
            for pv in group.pvs:
                size = pv.pe_count * group.extent_size
                free = size - view.used.get(pv.uuid, 0) * group.extent_size
                rows.append((pv.path, found, pv.uuid, size, free))
                in_use += size
    if not only_exported:
        for disk in context.session.read_orphans():
            if disk.label is None:
                continue
            size = disk.label.device_size
            rows.append((disk.path, None, disk.label.uuid, size, -1))
            free_space += size
            free_count += 1
    if not rows:
        context.console.print("No matching physical volumes found")
        return
    _print_disks(context, sizes, rows)
    context.console.print(
        f"Total: {len(rows)} [{sizes.show(in_use + free_space)}] / in use: {len(rows) - free_count} "
        f"[{sizes.show(in_use)}] / in no VG: {free_count} [{sizes.show(free_space)}]"
    )


def _print_disks(context: Context, sizes: Sizes, rows: list[_Line]) -> None:
    widest = max(len(row[0]) for row in rows)
    widest_group = max(len(row[1].group.name) if row[1] else 0 for row in rows)
    widest_group = max(widest_group, len(ORPHANS)) + 6
    for name, found, uuid, size, free in rows:
        with owned_disk(context, found, name, uuid):
            _print_disk(context, sizes, (name, found, uuid, size, free), (widest, widest_group))


def _print_disk(context: Context, sizes: Sizes, row: _Line, widths: tuple[int, int]) -> None:
    name, found, uuid, size, free = row
    widest, widest_group = widths
    if context.args.has("short"):
        context.console.print(name)
        return
    shown = f"PV {name:<{widest}} with UUID {uuid}  " if context.args.has("uuid") else f"PV {name:<{widest}} "
    room = f" / {sizes.show(free)} free" if free >= 0 else ""
    if found is not None and found.group.exported:
        context.console.print(f"{shown}   is in exported VG {found.group.name} [{sizes.show(size)}{room}]")
        return
    where = f"VG {found.group.name}" if found is not None else ""
    context.console.print(f"{shown}  {where:<{widest_group}}lvm2 [{sizes.show(size)}{room}]")


def _renew_hints(context: Context) -> None:
    """Without disks, empty LVM2's hints; with them, let its next command write them again.

    LVM2 writes them at once in the first case. Only its commands read them, and the next one does.
    """
    from lamella.lvm.disks.hints import invalidated, renew

    environment = context.environment
    if not context.args.positionals:
        with invalidated(environment.hints_dir, context.name, lock=environment.lock_dir is not None):
            pass
        return
    disks = (context.session.scan.disk(path) for path in context.args.positionals)
    if any(disk is not None and disk.label is not None for disk in disks):
        renew(environment.hints_dir)


def _autoactivate(context: Context) -> None:
    """Activate the groups of the disks that are named (all without names), once all their disks are there."""
    from lamella.cli.lvm.activation import change_group_activation

    if not context.config.flag("global/event_activation"):
        return
    scan = context.session.scan
    own = f"pvscan[{os.getpid()}]"
    named: list[FoundGroup] = []
    for path in context.args.positionals:
        disk = scan.disk(path)
        found = scan.group_of(disk) if disk is not None else None
        if found is None:
            continue
        state = f"incomplete (need {len(found.missing)})" if found.partial else "is complete"
        context.console.print(f"{own} PV {path} online, VG {found.group.name} {state}.")
        named.append(found)
    for found in context.groups():
        if context.args.positionals and found not in named:
            continue
        if found.partial or found.group.exported or context.session.is_foreign(found.group):
            continue
        context.console.print(f"{own} VG {found.group.name} run autoactivation.")
        try:
            change_group_activation(context, found)
        except LamellaError as error:
            context.console.fail_with(error)


def _of_disk(context: Context) -> None:
    """``--listvg`` and ``--listlvs``: the group and volumes on a disk."""
    for path in context.args.positionals:
        disk: Disk | None = context.session.scan.disk(path)
        found = context.session.scan.group_of(disk) if disk is not None else None
        if disk is None or disk.label is None:
            raise NotFoundError(f'Failed to find physical volume "{path}".')
        if found is None:
            continue
        if context.args.has("listvg"):
            context.console.print(f"VG {found.group.name}")
            continue
        uuid = disk.label.uuid
        names = [lv.name for _start, _count, lv, _segment in found.group.extent_map().get(uuid, ())]
        for name in dict.fromkeys(names):
            context.console.print(f"{found.group.name}/{name}")


def vgscan(context: Context) -> None:
    """List volume groups, and with ``--mknodes`` do what ``vgmknodes`` does.

    With ``--notifydbus`` nothing, as there is no service to tell.
    """
    if context.args.has("notifydbus"):
        return
    for found in each_group(context, context.groups()):
        kind = "exported volume group" if found.group.exported else "volume group"
        context.console.print(f'Found {kind} "{found.group.name}" using metadata type {found.group.format}')
    if context.args.has("mknodes"):
        from lamella.cli.lvm.vg_mknodes import vgmknodes

        vgmknodes(context)


def lvscan(context: Context) -> None:
    """List logical volumes."""
    sizes = Sizes(context.units)
    for found in each_group(context, context.groups()):
        if found.group.exported:
            continue
        view = context.view(found)
        lvs = view.reportable_lvs if context.args.has("all") else view.visible_lvs
        for lv in each_volume(context, found, lvs):
            context.console.print(_volume_line(sizes, view, lv))


def _volume_line(sizes: Sizes, view: GroupView, lv: LogicalVolume) -> str:
    state = "ACTIVE  " if view.active(lv) else "inactive"
    role = "        "
    if lv.name in view.snapshot_origins:
        role = "Original"
    elif lv.name in view.snapshot_stores:
        role = "Snapshot"
    size = sizes.show(lv.extents * view.group.extent_size)
    policy = lv.allocation_policy or "inherit"
    return f"{state:<9}{role} '/dev/{view.group.name}/{lv.name}' [{size}] {policy}"


def lvmdiskscan(context: Context) -> None:
    """List every scanned disk, and which ones are physical volumes."""
    sizes = Sizes(context.units)
    only = context.args.has("lvmpartition")
    if only:
        context.console.warn("WARNING: only considering LVM devices")
    session = context.session
    session.unsaid = frozenset({"duplicate"})  # each is listed anyway
    disks = [disk for disk in session.scan.disks if not only or disk.label is not None]
    widest = max((len(disk.path) for disk in disks), default=0)
    counts = [0, 0, 0, 0]
    for disk in disks:
        mark = "LVM physical volume" if disk.label is not None else ""
        context.console.print(f"{disk.path:<{widest}} [{sizes.show(disk.size):>15}] {mark}")
        whole = not is_partition(disk.path) and not disk.path.startswith("/dev/loop")
        if disk.label is None:
            counts[0 if whole else 1] += 1
        else:
            counts[2 if whole else 3] += 1
    if not only:
        context.console.print(f"{counts[0]} disk{'' if counts[0] == 1 else 's'}")
        context.console.print(f"{counts[1]} partition{'' if counts[1] == 1 else 's'}")
    context.console.print(f"{counts[2]} LVM physical volume whole disk{'' if counts[2] == 1 else 's'}")
    context.console.print(f"{counts[3]} LVM physical volume{'' if counts[3] == 1 else 's'}")
