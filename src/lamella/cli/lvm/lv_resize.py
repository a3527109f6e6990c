# SPDX-License-Identifier: Apache-2.0
"""``lvextend``, ``lvreduce`` and ``lvresize``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.cli.lvm import pool_options
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import policy
from lamella.cli.lvm.lv_sizes import check_size_options, extents_to_resize, named_ranges
from lamella.cli.lvm.names import one_volume
from lamella.errors import NoSpaceError
from lamella.lvm.disks.fsadm import FileSystem, check, find_file_system, grow, shrink
from lamella.lvm.format.names import dm_name
from lamella.lvm.format.segments import StripedSegment
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.operations.lv_resize import GrowRequest


def lvresize(context: Context) -> None:
    """Extend or reduce a volume; what lies after its new end is lost."""
    args = context.args
    group, name = one_volume(context, args.positionals[0])
    disks = args.positionals[1:]
    check_size_options(context)
    with context.editing(group) as found:
        lv = found.group.lvs.get(name)
        if lv is None:
            raise Failed(f"Logical volume {name} not found in volume group {group}.")
        if args.has("usepolicies"):
            changed = _by_policy(context, found, lv, disks)
        elif lv.thin_pool is not None:
            changed = _pool(context, found, lv, disks)
        else:
            changed = _volume(context, found, lv, disks)
        if changed:
            context.console.notices(pool_options.overprovisioning(context, found, lv))
            node = f"/dev/mapper/{dm_name(group, name)}"
    if changed:
        shown = name
        if (
            lv.thin_pool is not None
            and args.has("poolmetadatasize")
            and not (args.has("size") or args.has("extents"))
        ):
            shown = lv.thin_pool.metadata
        context.console.print(f"Logical volume {group}/{shown} successfully resized.")
        if args.has("resizefs") and not context.test:
            grow(find_file_system(node))


lvextend = lvreduce = lvresize
"""They refuse sizes in the other direction: see :func:`_check_direction`."""


def _request(context: Context, ranges: PvRanges | None, approximate: bool) -> GrowRequest:
    from lamella.lvm.operations.lv_resize import GrowRequest

    args = context.args
    stripes = args.number("stripes")
    size = args.size("stripesize")
    if stripes > 1 and not size:
        size = context.config.number("metadata/stripesize") * 1024
        context.console.print(f"Using default stripesize {human(size)}")
    tags = tuple(context.config.strings("allocation/cling_tag_list"))
    return GrowRequest(stripes, size, policy(context), ranges, approximate, tags)


def _file_system(context: Context, found: FoundGroup, lv: LogicalVolume) -> FileSystem | None:
    """The file system that ``--resizefs`` resizes, checked unless ``--nofsck``; None without the option."""
    if not context.args.has("resizefs"):
        return None
    if not context.session.is_active(found, lv.name):
        full = f"{found.group.name}/{lv.name}"
        raise Failed(f"Logical volume {full} must be activated before resizing filesystem.")
    if context.test:
        return None
    system = find_file_system(f"/dev/mapper/{dm_name(found.group.name, lv.name)}")
    if not context.args.has("nofsck"):
        check(system)
    return system


def _confirm_reduction(context: Context, found: FoundGroup, lv: LogicalVolume, wanted: int) -> None:
    """Warn of what reducing an active volume may do, and ask."""
    kernel = context.session.kernel(found)
    if kernel is None or not kernel.is_active(found, lv.name):
        return
    full = f"{found.group.name}/{lv.name}"
    opened = " and open" if kernel.is_open(found, lv.name) else ""
    context.console.warn(f"WARNING: Reducing active{opened} logical volume to {_shown(found, wanted)}.")
    context.console.warn("THIS MAY DESTROY YOUR DATA (filesystem etc.)")
    if not context.console.confirm(f"Do you really want to reduce {full}? [y/n]: "):
        raise Failed(f"Logical volume {full} NOT reduced.")


def _shown(found: FoundGroup, extents: int) -> str:
    return human(extents * found.group.extent_size)


def _volume(context: Context, found: FoundGroup, lv: LogicalVolume, disks: list[str]) -> bool:
    from lamella.lvm.operations.lv_resize import check_resizable, resize_lv

    args, group = context.args, found.group
    if args.has("poolmetadatasize"):
        raise Failed("--poolmetadatasize can be used only with thin pools.")
    check_resizable(group, lv)
    ranges = named_ranges(context, found, disks)
    now = lv.extents
    if args.has("size") or args.has("extents"):
        wanted, sign, approximate = extents_to_resize(context, group, lv, ranges)
    else:
        wanted, sign, approximate = now + _free_in(found, ranges), "+", True
    if wanted <= 0:
        raise Failed(f"New size of 0 not permitted for {group.name}/{lv.name}.")
    wanted = _on_stripes(context, lv, wanted)
    if wanted != now or not args.has("resizefs"):
        _check_direction(context, now, wanted, sign)
    system = _file_system(context, found, lv)
    if wanted < now and system is None:
        _confirm_reduction(context, found, lv, wanted)
    if approximate and wanted > now and lv.thin is None and not group.free_extents():
        raise NoSpaceError(f"Insufficient free space: {wanted - now} extents needed, but only 0 available")
    if wanted < now and system is not None:
        shrink(system, wanted * group.extent_size, confirm=context.console.confirm)
    resize_lv(context.session, found, lv, wanted, _request(context, ranges, approximate))
    _say_changed(context, found, lv.name, now, lv.extents)
    return True


def _free_in(found: FoundGroup, ranges: PvRanges | None) -> int:
    """Free extents in the named ranges: ``lvextend VG/LV PV`` takes all of them."""
    if ranges is None:
        return found.group.free_extents()
    total = 0
    for pv, runs in ranges:
        for start, count in found.group.free_ranges(pv):
            for first, length in runs:
                total += max(min(start + count, first + length) - max(start, first), 0)
    return total


def _on_stripes(context: Context, lv: LogicalVolume, wanted: int) -> int:
    """*wanted*, rounded up so that the last segment's stripes are equally long."""
    now = lv.extents
    last = lv.segments[-1]
    stripes = len(last.mapped) if last.kind == "striped" else 1
    if wanted > now:
        stripes = _stripes(context, lv)
    if stripes < 2 or wanted == now:
        return wanted
    if wanted > now and not context.args.has("stripesize") and not context.args.has("stripes"):
        size = last.stripe_size * SECTOR if isinstance(last, StripedSegment) else 0
        context.console.print(f"Using stripesize of last segment {human(size)}")
    rest = wanted % stripes
    if not rest:
        return wanted
    rounded = wanted + stripes - rest
    context.console.print(
        f"Rounding size ({wanted} extents) up to stripe boundary size for segment ({rounded} extents)."
    )
    return rounded


def _stripes(context: Context, lv: LogicalVolume) -> int:
    """Stripes for what is added: those asked for, or those that all segments have."""
    if context.args.has("stripes"):
        return context.args.number("stripes")
    counts = {len(segment.mapped) for segment in lv.segments if segment.kind == "striped"}
    if len(counts) > 1:
        raise Failed("Please specify number of stripes (-i) and stripesize (-I)")
    return counts.pop() if counts else 1


def _check_direction(context: Context, now: int, wanted: int, sign: str) -> None:
    if wanted == now:
        raise Failed(f"New size ({wanted} extents) matches existing size ({now} extents).")
    if context.name == "lvextend" and wanted < now:
        raise Failed(f"New size given ({wanted} extents) not larger than existing size ({now} extents)")
    if context.name == "lvreduce" and wanted > now:
        raise Failed(f"New size given ({wanted} extents) not less than existing size ({now} extents)")


def _say_changed(context: Context, found: FoundGroup, name: str, old: int, new: int) -> None:
    extent = found.group.extent_size
    full = f"{found.group.name}/{name}"
    before = f"from {human(old * extent)} ({old} extents)"
    if old == new:
        context.console.print(f"Size of logical volume {full} unchanged {before}.")
    else:
        after = f"to {human(new * extent)} ({new} extents)"
        context.console.print(f"Size of logical volume {full} changed {before} {after}.")


def _say_parts_changed(context: Context, found: FoundGroup, before: list[tuple[LogicalVolume, int]]) -> None:
    for part, extents in before:
        if part.extents != extents:
            _say_changed(context, found, part.name, extents, part.extents)


def _pool(context: Context, found: FoundGroup, lv: LogicalVolume, disks: list[str]) -> bool:
    from lamella.lvm.operations.pool_resize import resize_pool

    args, group = context.args, found.group
    pool = lv.thin_pool
    assert pool is not None
    ranges = named_ranges(context, found, disks)
    data, metadata = group.lvs[pool.data], group.lvs[pool.metadata]
    data_wanted = metadata_wanted = None
    approximate = False
    if args.has("size") or args.has("extents") or not args.has("poolmetadatasize"):
        if args.has("size") or args.has("extents"):
            wanted, sign, approximate = extents_to_resize(context, group, lv, ranges)
        else:
            wanted, sign, approximate = lv.extents + _free_in(found, ranges), "+", True
        data_wanted = _on_stripes(context, data, wanted)
        if wanted < lv.extents:
            raise Failed(f"Thin pool volumes {group.name}/{data.name} cannot be reduced in size yet.")
        _check_direction(context, lv.extents, wanted, sign)
    if args.has("poolmetadatasize"):
        metadata_wanted = _metadata_extents(context, found, metadata)
    if args.has("resizefs"):
        full = f"{group.name}/{lv.name}"
        if context.session.is_active(found, lv.name):
            raise Failed(f"Thin pool {full} has no file system of its own: leave --resizefs out.")
        raise Failed(f"Logical volume {full} must be activated before resizing filesystem.")
    before = [(metadata, metadata.extents), (data, data.extents)]
    changed = resize_pool(
        context.session,
        found,
        lv,
        data_extents=data_wanted,
        metadata_extents=metadata_wanted,
        request=_request(context, ranges, approximate),
    )
    _say_parts_changed(context, found, before)
    return changed


def _metadata_extents(context: Context, found: FoundGroup, metadata: LogicalVolume) -> int:
    asked = context.args.signed_size("poolmetadatasize")
    extent = found.group.extent_size
    extents = -(-asked.size // extent)
    if extents * extent != asked.size:
        context.console.print(
            f"Rounding size to boundary between physical extents: {human(extents * extent)}."
        )
    if asked.sign == "-":
        raise BadCommand("Can't reduce size of metadata volume.")
    wanted = metadata.extents + extents if asked.sign == "+" else extents
    if wanted <= metadata.extents:
        raise Failed(f"New size ({wanted} extents) matches existing size ({metadata.extents} extents).")
    return wanted


def _usage(context: Context, found: FoundGroup, lv: LogicalVolume) -> tuple[tuple[int, int], tuple[int, int]]:
    """(used, total) of a pool's data and of its metadata: from the kernel, or from the metadata itself."""
    from lamella.lvm.disks.volume_device import open_lv
    from lamella.lvm.operations.thin_messages import live_status
    from lamella.lvm.report.thin_usage import read_usage

    full = f"{found.group.name}/{lv.name}"
    pool = lv.thin_pool
    assert pool is not None
    status = live_status(context.session, found, lv)
    if status is not None:
        if not status.total_data:
            raise Failed(f"Cannot see how full thin pool {full} is: it has failed.")
        return (status.used_data, status.total_data), (status.used_metadata, status.total_metadata)
    try:
        usage = read_usage(open_lv(found, pool.metadata, read_only=True))
    except ValueError as error:
        raise Failed(f"Cannot read the metadata of thin pool {full}: {error}.") from error
    return (usage.data_used, usage.data_total), (usage.metadata_used, usage.metadata_total)


def _by_policy(context: Context, found: FoundGroup, lv: LogicalVolume, disks: list[str]) -> bool:
    from lamella.lvm.operations.pool_resize import grow_by_policy

    pool = lv.thin_pool
    if pool is None:
        raise Failed("Policy-based resize is supported only for snapshot, thin pool and vdo pool volumes.")
    group = found.group
    data, metadata = group.lvs[pool.data], group.lvs[pool.metadata]
    before = [(metadata, metadata.extents), (data, data.extents)]
    used_data, used_metadata = _usage(context, found, lv)
    settings = pool_options.auto_extend(context, found, lv)
    ranges = named_ranges(context, found, disks)
    changed = grow_by_policy(
        context.session,
        found,
        lv,
        used_data=used_data,
        used_metadata=used_metadata,
        threshold=settings.threshold,
        percent=settings.percent,
        request=_request(context, ranges, False) if ranges else None,
    )
    _say_parts_changed(context, found, before)
    return changed
