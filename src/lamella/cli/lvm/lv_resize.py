# SPDX-License-Identifier: Apache-2.0
"""``lvextend``, ``lvreduce`` and ``lvresize``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.cli.lvm import pool_options
from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.lv_options import clinging, policy
from lamella.cli.lvm.lv_sizes import (
    check_size_options,
    extents_to_resize,
    named_ranges,
    refuse_zero,
    whole_extents,
)
from lamella.cli.lvm.names import one_volume
from lamella.errors import NoSpaceError
from lamella.lvm.disks.fsadm import FileSystem, check, find_file_system, grow, shrink
from lamella.lvm.format.names import dm_name
from lamella.lvm.format.segments import VIRTUAL_TYPES, StripedSegment
from lamella.lvm.operations.extent_ranges import free_in
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.operations.lv_resize import GrowRequest


NOT_ZERO = ("extents", "poolmetadatasize", "size", "stripes", "stripesize")


def lvresize(context: Context) -> None:
    """Extend or reduce a volume; what lies after its new end is lost."""
    args = context.args
    refuse_zero(args, NOT_ZERO)
    group, name = one_volume(args.positionals[0])
    disks = args.positionals[1:]
    if args.has("usepolicies"):
        if args.has("size") or args.has("extents"):
            context.console.print("Ignoring size parameters with --use-policies.")
    else:
        check_size_options(context)
    with context.editing(group) as found:
        lv = found.group.lvs.get(name)
        if lv is None:
            raise Failed(f"Logical volume {name} not found in volume group {group}.")
        pool_lv = _pool_of_data(found, lv)
        if args.has("usepolicies"):
            changed = _by_policy(context, found, lv, disks)
        elif _is_pool_metadata(found, lv):
            changed = _pool_metadata(context, found, lv, disks)
        elif pool_lv.thin_pool is not None:
            changed = _pool(context, found, pool_lv, disks)
        else:
            changed = _volume(context, found, lv, disks)
        if changed:
            context.console.notices(pool_options.overprovisioning(context, found, pool_lv))
            node = f"/dev/mapper/{dm_name(group, name)}"
    if changed:
        shown = pool_lv.name
        if (
            lv.thin_pool is not None
            and args.has("poolmetadatasize")
            and not (args.has("size") or args.has("extents"))
        ):
            shown = lv.thin_pool.metadata
        context.console.print(f"Logical volume {group}/{shown} successfully resized.")
        if args.has("resizefs") and not context.test and pool_lv.thin_pool is None:
            grow(find_file_system(node))


def _pool_of_data(found: FoundGroup, lv: LogicalVolume) -> LogicalVolume:
    """The thin pool whose data volume *lv* is, as which it is resized; or else *lv* itself."""
    for user, segment, role in found.group.users().get(lv.name, ()):
        if segment.kind == "thin-pool" and role == "pool":
            return user
    return lv


def _is_pool_metadata(found: FoundGroup, lv: LogicalVolume) -> bool:
    users = found.group.users().get(lv.name, ())
    return any(segment.kind == "thin-pool" and role == "metadata" for _user, segment, role in users)


lvextend = lvreduce = lvresize
"""They refuse sizes in the other direction: see :func:`_check_direction`."""


def _request(
    context: Context, ranges: PvRanges | None, approximate: bool, stripes: tuple[int, int] = (0, 0)
) -> GrowRequest:
    from lamella.lvm.operations.lv_resize import GrowRequest

    return GrowRequest(
        *stripes, policy(context), ranges, approximate, clinging(context), _asked_kind(context)
    )


def _asked_kind(context: Context) -> str:
    return context.args.text("type").replace("linear", "striped")


MIXABLE = ("striped", *VIRTUAL_TYPES)
"""Types of segments that one volume may have."""


def _check_kind(context: Context, found: FoundGroup, lv: LogicalVolume, *, mixed_ok: bool = False) -> None:
    """Refuse ``--type`` and ``--mirrors`` of something else than the volume has."""
    args = context.args
    kind, own = _asked_kind(context), lv.segments[-1].kind
    if mixed_ok and kind and kind != own and {kind, own} <= set(MIXABLE):
        said = f"Logical volume {found.group.name}/{lv.name} is using mixing segment types {own} and {kind}."
        context.console.print(said)
    elif kind and kind != own:
        raise Failed(f"VolumeType does not match ({args.text('type')}).")
    if args.number("mirrors"):
        raise Failed("Cannot vary number of mirrors in LV yet.")


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
    _check_kind(context, found, lv, mixed_ok=True)
    now = lv.extents
    wanted, sign, approximate, ranges = _wanted(context, found, lv, disks)
    if wanted <= 0:
        raise Failed("New size of 0 not permitted.")
    if wanted != now or not args.has("resizefs"):
        _check_direction(context, now, wanted, sign)
    stripes = _stripes(context, found, lv) if wanted > now else (0, 0)
    if wanted < now:
        _ignore_options(context, disks)
    wanted = _on_stripes(context, lv, wanted, stripes[0])
    if wanted == now and not args.has("resizefs"):
        raise Failed(f"New size ({wanted} extents) matches existing size ({now} extents)")
    system = _file_system(context, found, lv)
    if wanted < now and system is None:
        _confirm_reduction(context, found, lv, wanted)
    virtual = (_asked_kind(context) or lv.segments[-1].kind) in (*VIRTUAL_TYPES, "thin")
    if approximate and wanted > now and not virtual and not group.free_extents():
        raise NoSpaceError(f"Insufficient free space: {wanted - now} extents needed, but only 0 available")
    if wanted < now and system is not None:
        shrink(system, wanted * group.extent_size, confirm=context.console.confirm)
    resize_lv(context.session, found, lv, wanted, _request(context, ranges, approximate, stripes))
    _say_changed(context, found, lv.name, now, lv.extents)
    return True


def _wanted(
    context: Context, found: FoundGroup, lv: LogicalVolume, disks: list[str]
) -> tuple[int, str, bool, PvRanges | None]:
    """(new length in extents, sign, whether less will do, disks to use)."""
    ranges = named_ranges(context, found, disks)
    if context.args.has("size") or context.args.has("extents"):
        return *extents_to_resize(context, found.group, lv, ranges), ranges
    return lv.extents + free_in(found.group, ranges), "+", True, ranges


def _ignore_options(context: Context, disks: list[str]) -> None:
    """Say which options have no meaning when a volume is reduced."""
    if any(context.args.has(name) for name in ("stripes", "stripesize", "mirrors")):
        context.console.print("Ignoring stripes, stripesize and mirrors arguments when reducing.")
    if disks:
        context.console.print("Ignoring PVs on command line when reducing.")


def _on_stripes(context: Context, lv: LogicalVolume, wanted: int, stripes: int) -> int:
    """*wanted*, rounded up so that the stripes of the last segment are equally long.

    What is added has *stripes*; what is left after a reduction has those of its segment.
    """
    start = lv.extents
    if wanted < start:
        start = 0
        for segment in lv.segments:
            stripes = len(segment.mapped) if segment.kind == "striped" else 1
            if start + segment.extent_count >= wanted:
                break
            start += segment.extent_count
    if stripes < 2 or not (wanted - start) % stripes:
        return wanted
    rounded = start + -(-(wanted - start) // stripes) * stripes
    context.console.print(
        f"Rounding size ({wanted} extents) up to stripe boundary size for segment ({rounded} extents)."
    )
    return rounded


def _stripes(context: Context, found: FoundGroup, lv: LogicalVolume) -> tuple[int, int]:
    """(stripes, bytes on each) for what is added: those asked for, or those that all segments have.

    0 bytes stand for the size that the last segment has.
    """
    args = context.args
    striped = [segment for segment in lv.segments if isinstance(segment, StripedSegment)]
    counts = {len(segment.mapped) for segment in striped}
    sizes = {segment.stripe_size for segment in striped if segment.stripe_size}
    asked = args.size("stripesize") if args.has("stripesize") else 0
    if (len(counts) > 1 and not args.has("stripes")) or (len(sizes) > 1 and not asked):
        raise Failed("Please specify number of stripes (-i) and stripesize (-I)")
    stripes = args.number("stripes") if args.has("stripes") else max(counts, default=1)
    if stripes < 2:
        return stripes, 0
    extent = found.group.extent_size
    if asked & (asked - 1):
        raise Failed("Stripe size must be power of 2.")
    if asked > extent:
        context.console.print(
            f"Reducing stripe size {human(asked)} to maximum, physical extent size {human(extent)}."
        )
        asked = extent
    if asked:
        return stripes, asked
    if sizes:
        own = max(sizes) * SECTOR
        context.console.print(f"Using stripesize of last segment {human(own)}")
        return stripes, own
    default = context.config.number("metadata/stripesize") * 1024
    context.console.print(f"Using default stripesize {human(default)}")
    return stripes, default


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


def _pool(context: Context, found: FoundGroup, lv: LogicalVolume, disks: list[str]) -> bool:
    from lamella.lvm.operations.pool_resize import resize_pool

    args, group = context.args, found.group
    pool = lv.thin_pool
    assert pool is not None
    data, metadata = group.lvs[pool.data], group.lvs[pool.metadata]
    data_wanted = metadata_wanted = None
    approximate, stripes = False, (0, 0)
    _check_kind(context, found, data)
    ranges = named_ranges(context, found, disks)
    if args.has("poolmetadatasize"):
        asked = args.signed_size("poolmetadatasize")
        metadata_wanted = whole_extents(context, group, asked.size, "")
        if asked.sign:
            metadata_wanted += metadata.extents
        _check_metadata(context, metadata, metadata_wanted)
    if args.has("size") or args.has("extents") or not args.has("poolmetadatasize"):
        wanted, sign, approximate, ranges = _wanted(context, found, lv, disks)
        _check_direction(context, lv.extents, wanted, sign)
        if wanted < lv.extents:
            raise Failed(f"Thin pool volumes {group.name}/{data.name} cannot be reduced in size yet.")
        stripes = _stripes(context, found, data)
        data_wanted = _on_stripes(context, data, wanted, stripes[0])
    if args.has("resizefs"):
        context.console.print(
            f"Ignoring --resizefs as volume {group.name}/{lv.name} does not have a filesystem."
        )
    if metadata_wanted == metadata.extents:
        _say_changed(context, found, metadata.name, metadata_wanted, metadata_wanted)
    changed = resize_pool(
        context.session,
        found,
        lv,
        data_extents=data_wanted,
        metadata_extents=metadata_wanted,
        request=_request(context, ranges, approximate, stripes),
        grown=_grown(context, found),
    )
    return changed or metadata_wanted is not None


def _grown(context: Context, found: FoundGroup) -> Callable[[LogicalVolume, int], None]:
    """What tells of each part of a pool that has been extended."""
    return lambda part, before: _say_changed(context, found, part.name, before, part.extents)


def _check_metadata(context: Context, metadata: LogicalVolume, wanted: int) -> None:
    now = metadata.extents
    if wanted >= now:
        return
    if context.name == "lvextend":
        raise Failed(f"New size given ({wanted} extents) not larger than existing size ({now} extents)")
    raise Failed("Thin pool metadata volumes cannot be reduced.")


def _pool_metadata(context: Context, found: FoundGroup, lv: LogicalVolume, disks: list[str]) -> bool:
    """The hidden metadata volume of a pool, named itself."""
    from lamella.lvm.operations.pool_resize import resize_pool

    group = found.group
    _check_kind(context, found, lv)
    wanted, sign, approximate, ranges = _wanted(context, found, lv, disks)
    _check_direction(context, lv.extents, wanted, sign)
    _check_metadata(context, lv, wanted)
    pool_lv = next(user for user, _segment, role in group.users()[lv.name] if role == "metadata")
    return resize_pool(
        context.session,
        found,
        pool_lv,
        metadata_extents=wanted,
        request=_request(context, ranges, approximate),
        grown=_grown(context, found),
    )


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
    used_data, used_metadata = _usage(context, found, lv)
    settings = pool_options.auto_extend(context, found, lv)
    ranges = named_ranges(context, found, disks)
    return grow_by_policy(
        context.session,
        found,
        lv,
        used_data=used_data,
        used_metadata=used_metadata,
        threshold=settings.threshold,
        percent=settings.percent,
        request=_request(context, ranges, False) if ranges else None,
        grown=_grown(context, found),
    )
