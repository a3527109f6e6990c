# SPDX-License-Identifier: Apache-2.0
"""``lvdisplay``: logical volumes, a line for each property."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.cli.lvm.display_options import check_display_options
from lamella.cli.lvm.processing import each_chosen, each_volume
from lamella.cli.lvm.reports import lvs
from lamella.cli.lvm.size_format import Sizes
from lamella.cli.lvm.targets import choose_volumes, volumes_of
from lamella.lvm.format.segments import VIRTUAL_TYPES, StripedSegment, ThinPoolSegment, ThinSegment
from lamella.lvm.report import lv_kinds
from lamella.lvm.report.ancestry import RemovedVolume, name_with_mark
from lamella.lvm.report.values import show_time

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.segments import Area, Segment
    from lamella.lvm.report.view import GroupView


def lvdisplay(context: Context) -> None:
    """Show volumes; ``-C`` as a table, ``-c`` for programs, ``-m`` with segments, ``-a`` hidden ones too."""
    args = context.args
    check_display_options(args)
    if args.has("columns"):
        lvs(context)
        return
    sizes = Sizes(context.units)
    for chosen in each_chosen(context, choose_volumes(context, args.positionals)):
        view = context.view(chosen.found)
        volumes = volumes_of(context, chosen, hidden=args.has("all"))
        for lv in each_volume(context, chosen.found, volumes):
            removed = isinstance(lv, RemovedVolume)
            if not (args.has("all") or removed or view.visible(lv)):
                continue
            if args.has("colon"):
                _colon(context, view, lv)
                continue
            if isinstance(lv, RemovedVolume):
                _show_removed(context, view, lv)
                continue
            show_volume(context, sizes, view, lv)
            if args.has("maps"):
                _maps(context, sizes, view, lv)


def _colon(context: Context, view: GroupView, lv: LogicalVolume) -> None:
    state = view.top_state(lv)
    removed = isinstance(lv, RemovedVolume)
    ahead = 0 if removed else -1 if lv.read_ahead is None else lv.read_ahead
    access = 0 if removed else 3 if lv.writable else 1
    parts: list[object] = [f"/dev/{view.group.name}/{lv.name}", view.group.name]
    parts += [access, 1 if state else 0, -1, state.open_count if state else 0]
    parts += [lv.extents * view.group.extent_sectors, lv.extents, -1, 0, ahead]
    parts += [state.major if state else -1, state.minor if state else -1]
    context.console.print(":".join(str(part) for part in parts))


def _show_removed(context: Context, view: GroupView, lv: RemovedVolume) -> None:
    say, layout = context.console.print, view.sources.time_format
    say("--- Historical Logical volume ---")
    say(f"LV Name                {name_with_mark(lv)}")
    say(f"VG Name                {view.group.name}")
    say(f"LV UUID                {lv.uuid}")
    say(f"LV Creation time       {show_time(lv.creation_time, layout)}")
    say(f"LV Removal time        {show_time(lv.removal_time, layout)}")
    say(" ")


def show_volume(context: Context, sizes: Sizes, view: GroupView, lv: LogicalVolume) -> None:
    """The block of lines about one volume."""
    say = context.console.print
    group = view.group
    visible = view.visible(lv) and lv.kind not in lv_kinds.POOL_KINDS
    say("--- Logical volume ---")
    if context.config.flag("global/lvdisplay_shows_full_device_path"):
        say(f"LV Name                /dev/{group.name}/{lv.name}")
    else:
        if visible:
            say(f"LV Path                /dev/{group.name}/{lv.name}")
        say(f"{'LV Name         ' if view.visible(lv) else 'Internal LV Name'}       {lv.name}")
    say(f"VG Name                {group.name}")
    say(f"LV UUID                {lv.uuid}")
    state = view.top_state(lv)
    access = "read/write" if lv.writable else "read only"
    if lv.writable and state is not None and state.read_only:
        access += " (activated read only)"
    say(f"LV Write Access        {access}")
    host = (
        f"{lv.creation_host}, {show_time(lv.creation_time, view.sources.time_format)}"
        if lv.creation_time
        else ", "
    )
    say(f"LV Creation host, time {host}")
    _relations(context, view, lv)
    if view.sources.activation:
        words = "NOT available" if state is None else "suspended" if state.suspended else "available"
        say(f"LV Status              {words}")
        if state is not None:
            say(f"# open                 {state.open_count}")
    store = view.snapshot_stores.get(lv.name)
    shown = view.group.lvs.get(store[0], lv) if store else lv
    say(f"LV Size                {sizes.show(shown.extents * group.extent_size)}")
    usage = view.sources.thin_usage(group, lv) if view.sources.activation else None
    if usage is not None and usage.metadata is not None:
        say(f"Allocated pool data    {usage.data or 0:.2f}%")
        say(f"Allocated metadata     {usage.metadata:.2f}%")
    elif usage is not None and usage.data is not None:
        say(f"Mapped size            {usage.data:.2f}%")
    say(f"Current LE             {shown.extents}")
    if store:
        say(f"COW-table size         {sizes.show(lv.extents * group.extent_size)}")
        say(f"COW-table LE           {lv.extents}")
        chunk = store[1].extra.get("chunk_size")
        say(f"Snapshot chunk size    {sizes.show(chunk * SECTOR if isinstance(chunk, int) else 0)}")
    if lv.kind in ("mirror", "raid1"):
        say(f"Mirrored volumes       {len(lv.segments[0].areas())}")
    say(f"Segments               {len(lv.segments)}")
    say(f"Allocation             {lv.allocation_policy or 'inherit'}")
    say(f"Read ahead sectors     {'auto' if lv.read_ahead is None else lv.read_ahead}")
    if lv.major is not None and lv.major >= 0 and lv.minor is not None:
        say(f"Persistent major       {lv.major}")
        say(f"Persistent minor       {lv.minor}")
    if state is not None:
        say(f"- currently set to     {max(state.read_ahead, 0) // SECTOR}")
        say(f"Block device           {state.major}:{state.minor}")
    say(" ")


def _relations(context: Context, view: GroupView, lv: LogicalVolume) -> None:
    """What it is a snapshot of, which pool it is in, or what it is made of."""
    say = context.console.print
    pool, thin = lv.thin_pool, lv.thin
    if lv.name in view.snapshot_origins:
        say("LV snapshot status     source of")
        for name in view.snapshot_origins[lv.name]:
            say(f"                       {name} [INACTIVE]")
    elif lv.name in view.snapshot_stores:
        say(f"LV snapshot status     INACTIVE destination for {view.snapshot_stores[lv.name][0]}")
    if thin is not None:
        say(f"LV Pool name           {thin.pool}")
        if thin.origin:
            say(f"LV Thin origin name    {thin.origin}")
        if thin.external_origin:
            say(f"LV External origin name {thin.external_origin}")
        if (merging := view.group.merging_snapshot(lv)) is not None:
            say(f"LV merged with         {merging.name}")
        if thin.merge:
            say(f"LV merging to          {thin.merge}")
    if pool is not None:
        say(f"LV Pool metadata       {pool.metadata}")
        say(f"LV Pool data           {pool.data}")


def _maps(context: Context, sizes: Sizes, view: GroupView, lv: LogicalVolume) -> None:
    say = context.console.print
    say("--- Segments ---")
    for segment in lv.segments:
        word = "Virtual" if isinstance(segment, ThinSegment) or lv_kinds.is_virtual(lv) else "Logical"
        say(f"{word} extents {segment.start_extent} to {segment.start_extent + segment.extent_count - 1}:")
        kind = "linear" if segment.kind == "striped" and len(segment.mapped) < 2 else segment.kind
        say(f"  Type\t\t{kind}")
        for line in _segment_lines(sizes, view, lv, segment):
            say("  " + line)
        if segment.kind not in VIRTUAL_TYPES:
            say(" ")
    say(" ")


def _place(area: Area, length: int, indent: str) -> list[str]:
    last = area.extent + length - 1
    if area.pv is not None:
        return [
            f"{indent}Physical volume\t{area.pv.path}",
            f"{indent}Physical extents\t{area.extent} to {last}",
        ]
    return [f"{indent}Logical volume\t{area.lv}", f"{indent}Logical extents\t{area.extent} to {last}"]


def _segment_lines(sizes: Sizes, view: GroupView, lv: LogicalVolume, segment: Segment) -> list[str]:
    if isinstance(segment, ThinPoolSegment):
        return [
            "Monitoring\t\t",
            f"Chunk size\t\t{sizes.show(segment.chunk_size)}",
            f"Discards\t\t{segment.discards}",
            f"Thin count\t\t{view.thin_counts.get(lv.name, 0)}",
            f"Transaction ID\t{segment.transaction_id}",
            f"Zero new blocks\t{'yes' if segment.zero else 'no'}",
        ]
    if isinstance(segment, ThinSegment):
        return [f"Device ID\t\t{segment.device_id}"] + (
            [f"Merging to\t\t{segment.merge}"] if segment.merge else []
        )
    if isinstance(segment, StripedSegment):
        if len(segment.mapped) == 1:
            return _place(segment.mapped[0], segment.area_extents, "")
        lines = [
            f"Stripes\t\t{len(segment.mapped)}",
            f"Stripe size\t\t{sizes.show(segment.stripe_size * SECTOR)}",
        ]
        for number, area in enumerate(segment.mapped):
            lines += [f"Stripe {number}:", *_place(area, segment.area_extents, "  ")]
        return lines
    if segment.kind.startswith("raid"):
        return _raid_lines(segment)
    if segment.kind == "mirror":
        return _mirror_lines(sizes, segment)
    if segment.kind in ("cache", "cache-pool"):
        return _cache_lines(sizes, view, segment)
    return []


def _raid_lines(segment: Segment) -> list[str]:
    from lamella.lvm.report.segment_values import area_extents

    lines = ["Monitoring\t\t"]
    for number, area in enumerate(segment.areas()):
        lines += [f"Raid Data LV {number}", *_place(area, area_extents(segment), "  ")]
    lines += [f"Raid Metadata LV {number}\t{area.lv}" for number, area in enumerate(segment.metadata_areas())]
    return lines


def _mirror_lines(sizes: Sizes, segment: Segment) -> list[str]:
    region = segment.extra.get("region_size")
    lines = ["Monitoring\t\t", f"Mirrors\t\t{len(segment.areas())}", f"Mirror size\t\t{segment.extent_count}"]
    log = segment.extra.get("mirror_log")
    if isinstance(log, str):
        lines.append(f"Mirror log volume\t{log}")
    lines.append(f"Mirror region size\t{sizes.show(region * SECTOR if isinstance(region, int) else 0)}")
    areas = segment.areas()
    lines += ["Mirror original:", *_place(areas[0], segment.extent_count, "  "), "Mirror destinations:"]
    for area in areas[1:]:
        lines += _place(area, segment.extent_count, "  ")
    return lines


def _cache_lines(sizes: Sizes, view: GroupView, segment: Segment) -> list[str]:
    source = segment
    pool = view.group.lvs.get(str(segment.extra.get("cache_pool", "")))
    if pool is not None and pool.segments:
        source = pool.segments[0]
    chunk = source.extra.get("chunk_size")
    lines = [f"Chunk size\t\t{sizes.show(chunk * SECTOR if isinstance(chunk, int) else 0)}"]
    for key, title in (("metadata_format", "Metadata format"), ("cache_mode", "Mode"), ("policy", "Policy")):
        if key in source.extra:
            lines.append(f"{title}{chr(9) * (1 if len(title) > 6 else 2)}{source.extra[key]}")
    return lines
