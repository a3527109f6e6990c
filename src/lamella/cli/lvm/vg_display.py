# SPDX-License-Identifier: Apache-2.0
"""``vgdisplay``: volume groups, a line for each property."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.display_options import check_display_options
from lamella.cli.lvm.lv_display import show_volume
from lamella.cli.lvm.processing import each_group
from lamella.cli.lvm.reports import vgs
from lamella.cli.lvm.size_format import Sizes
from lamella.cli.lvm.targets import choose_groups
from lamella.lvm.format.model import RESIZEABLE, WRITE

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.report.view import GroupView


def vgdisplay(context: Context) -> None:
    """Show volume groups; ``-C`` as a table, ``-c`` for programs, ``-s`` in a line; ``-v`` with contents."""
    args = context.args
    check_display_options(args)
    if args.has("columns"):
        vgs(context)
        return
    sizes = Sizes(context.units)
    for found in each_group(context, choose_groups(context, args.positionals)):
        if args.has("activevolumegroups") and not _active(context, found):
            continue
        view = context.view(found)
        if args.has("colon"):
            _colon(context, view)
        elif args.has("short"):
            _short(context, sizes, view)
        else:
            _full(context, sizes, view)
            if context.console.verbosity > 0:
                for lv in view.reportable_lvs:
                    if view.visible(lv):
                        show_volume(context, sizes, view, lv)
                _disks(context, view)


def _active(context: Context, found: FoundGroup) -> bool:
    view = context.view(found)
    return any(view.active(lv) for lv in view.visible_lvs)


def _used(view: GroupView) -> int:
    return sum(view.used.values())


def _open(view: GroupView) -> int:
    return sum(state is not None and state.open for state in map(view.kernel, view.visible_lvs))


def _short(context: Context, sizes: Sizes, view: GroupView) -> None:
    group = view.group
    used = _used(view)
    extent = group.extent_size
    context.console.print(
        f'"{group.name}" {sizes.show(group.extents * extent):<9} [{sizes.show(used * extent):<9} used / '
        f"{sizes.show((group.extents - used) * extent)} free]"
    )


def _colon(context: Context, view: GroupView) -> None:
    group = view.group
    used = _used(view)
    parts: list[object] = [group.name, "r/w" if WRITE in group.status else "r"]
    parts += [
        768 | (4 if RESIZEABLE in group.status else 0) | (2 if group.exported else 0),
        -1,
        group.max_lv,
        len(view.visible_lvs),
        _open(view),
        -1,
    ]
    parts += [group.max_pv, len(group.pvs), len(group.pvs) - len(view.missing)]
    parts += [group.extents * group.extent_sectors // 2, group.extent_sectors // 2]
    parts += [group.extents, used, group.extents - used, group.uuid]
    context.console.print(":".join(str(part) for part in parts))


def _full(context: Context, sizes: Sizes, view: GroupView) -> None:
    group = view.group
    say = context.console.print
    used = _used(view)
    free = group.extents - used
    areas = sum(device.mda_count for device in view.devices.values())
    status = ("exported/" if group.exported else "") + (
        "resizable" if RESIZEABLE in group.status else "NOT resizable"
    )
    say("--- Volume group ---")
    say(f"VG Name               {group.name}")
    say(f"System ID             {group.system_id}")
    say(f"Format                {group.format}")
    say(f"Metadata Areas        {areas}")
    say(f"Metadata Sequence No  {group.seqno}")
    say(f"VG Access             {'read/write' if WRITE in group.status else 'read'}")
    say(f"VG Status             {status}")
    if group.clustered:
        say("Clustered             yes\n  Shared                no")
    say(f"MAX LV                {group.max_lv}")
    say(f"Cur LV                {len(view.visible_lvs)}")
    say(f"Open LV               {_open(view)}")
    say(f"Max PV                {group.max_pv}")
    say(f"Cur PV                {len(group.pvs)}")
    say(f"Act PV                {len(group.pvs) - len(view.missing)}")
    say(f"VG Size               {sizes.show(group.extents * group.extent_size)}")
    say(f"PE Size               {sizes.show(group.extent_size)}")
    say(f"Total PE              {group.extents}")
    say(f"Alloc PE / Size       {used} / {sizes.show(used * group.extent_size)}")
    say(f"Free  PE / Size       {free} / {sizes.show(free * group.extent_size)}")
    say(f"VG UUID               {group.uuid}")
    say(" ")


def _disks(context: Context, view: GroupView) -> None:
    say = context.console.print
    say("--- Physical volumes ---")
    for pv in view.group.pvs:
        free = pv.pe_count - view.used.get(pv.uuid, 0)
        say(f"PV Name               {pv.path}     ")
        say(f"PV UUID               {pv.uuid}")
        say(f"PV Status             {'' if pv.allocatable else 'NOT '}allocatable")
        say(f"Total PE / Free PE    {pv.pe_count} / {free}")
        say(" ")
