# SPDX-License-Identifier: Apache-2.0
"""``pvdisplay``: physical volumes, a line for each property."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.cli.lvm.display_options import check_display_options
from lamella.cli.lvm.processing import each_shown
from lamella.cli.lvm.reports import disks_to_report, pvs
from lamella.cli.lvm.selecting import Selector
from lamella.cli.lvm.size_format import Sizes

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.report.view import GroupView

MISSING_PV = 0x800000
"""In the status that ``--colon`` shows: it is missing. Authority: lib/metadata/metadata-exported.h."""


def pvdisplay(context: Context) -> None:
    """Show physical volumes; ``-C`` as a table, ``-c`` for programs, ``-s`` only their free space."""
    args = context.args
    check_display_options(args)
    if args.has("columns"):
        pvs(context)
        return
    sizes = Sizes(context.units)
    selector = Selector(context, "pv")
    views = _chosen(context)
    for view in views:
        for pv in each_shown(context, view):
            if not selector.pv(view, pv):
                continue
            if view.vg is not None and view.vg.exported and not args.has("short"):
                context.console.print(
                    f'Physical volume "{pv.device}" of volume group "{view.vg.name}" is exported'
                )
            device = view.devices.get(pv.uuid)
            if device is not None and device.duplicate:
                _duplicate(context, sizes, pv)
                continue
            if view.vg is None and not args.has("short"):
                context.console.print(f'"{pv.device}" is a new physical volume of "{sizes.show(pv.size)}"')
            if args.has("colon"):
                _colon(context, view, pv)
            elif args.has("short"):
                _short(context, sizes, view, pv)
            else:
                _full(context, sizes, view, pv)
                if args.has("maps") and view.vg is not None:
                    _maps(context, view, pv)


def _chosen(context: Context) -> list[GroupView]:
    """What to show. Disks that cannot be shown are told directly, and not in the command log."""
    console = context.console
    log, console.log = console.log, None
    try:
        views, _bare = disks_to_report(context, context.args.positionals)
    finally:
        console.log = log
    if log is not None:
        log.failed_before = console.failures > 0
    return views


def _duplicate(context: Context, sizes: Sizes, pv: PhysicalVolume) -> None:
    """A disk with the UUID of another one that is preferred, as LVM2 shows it."""
    say = context.console.print
    if context.args.has("colon"):
        say(f"{pv.device}:(null):0:-1:0:0:-1:0:0:0:0:none")
    elif context.args.has("short"):
        say(f'Device "{pv.device}" has a capacity of {sizes.show(0)}')
    else:
        say("--- Physical volume ---")
        say(f"PV Name               {pv.device}")
        say("VG Name               (null)")
        say(f"PV Size               {sizes.show(0)}")
        say("Allocatable           NO")
        say(f"PE Size               {sizes.show(SECTOR).rstrip()}")
        for name in ("Total PE             ", "Free PE              ", "Allocated PE         "):
            say(f"{name} 0")
        say("PV UUID               none")
        say(" ")


def _free(view: GroupView, pv: PhysicalVolume) -> int:
    return pv.pe_count - view.used.get(pv.uuid, 0)


def _short(context: Context, sizes: Sizes, view: GroupView, pv: PhysicalVolume) -> None:
    room = pv.size if view.vg is None else _free(view, pv) * view.vg.extent_size
    context.console.print(f'Device "{pv.device}" has a capacity of {sizes.show(room)}')


def _colon(context: Context, view: GroupView, pv: PhysicalVolume) -> None:
    group = view.vg
    free = _free(view, pv) if group is not None else 0
    used = view.used.get(pv.uuid, 0)
    parts: list[object] = [pv.path, group.name if group else "", pv.dev_sectors, -1]
    allocatable = 8 if group and pv.allocatable else 0
    exported = 2 if group and group.exported else 0
    missing = MISSING_PV if group and pv in view.missing else 0
    parts += [allocatable | exported | missing, allocatable, -1]
    parts += [group.extent_sectors // 2 if group else 0, pv.pe_count if group else 0, free, used, pv.uuid]
    context.console.print(":".join(str(part) for part in parts))


def _full(context: Context, sizes: Sizes, view: GroupView, pv: PhysicalVolume) -> None:
    group = view.vg
    say = context.console.print
    name = "" if group is None else f"{group.name} (exported)" if group.exported else group.name
    say("--- NEW Physical volume ---" if group is None else "--- Physical volume ---")
    say(f"PV Name               {pv.path}")
    say(f"VG Name               {name}")
    if group is None:
        say(f"PV Size               {sizes.show(pv.size)}")
        say("Allocatable           NO")
        say(_extent_size(context, sizes, 0))
        free = used = count = 0
    else:
        whole = pv.pe_count * group.extent_size
        needed = whole + pv.pe_start * SECTOR
        # After pvresize, the recorded size may lack what is before the first extent.
        size, unusable = (pv.size, pv.size - whole) if pv.size > needed else (needed, needed - pv.size)
        say(f"PV Size               {sizes.show(size)} / not usable {sizes.show(unusable)}")
        free, used, count = _free(view, pv), view.used.get(pv.uuid, 0), pv.pe_count
        full = "yes (but full)" if not free else "yes "
        say(f"Allocatable           {full if pv.allocatable else 'NO'}")
        say(_extent_size(context, sizes, group.extent_size))
    say(f"Total PE              {count}")
    say(f"Free PE               {free}")
    say(f"Allocated PE          {used}")
    say(f"PV UUID               {pv.uuid}")
    say(" ")


def _maps(context: Context, view: GroupView, pv: PhysicalVolume) -> None:
    say = context.console.print
    say("--- Physical Segments ---")
    for start, count, lv, segment, _at in view.runs(pv):
        if not count:
            continue
        say(f"Physical extent {start} to {start + count - 1}:")
        if lv is None or segment is None:
            say("  FREE")
            continue
        say(f"  Logical volume\t/dev/{view.group.name}/{lv.name}")
        say(f"  Logical extents\t{segment.start_extent} to {segment.start_extent + segment.extent_count - 1}")
    say(" ")


def _extent_size(context: Context, sizes: Sizes, size: int) -> str:
    if context.config.flag("global/si_unit_consistency"):
        return f"PE Size               {sizes.show(size)}"
    return f"PE Size (KByte)       {size >> 10}"
