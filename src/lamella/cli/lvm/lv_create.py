# SPDX-License-Identifier: Apache-2.0
"""``lvcreate``: linear and striped volumes, thin pools, thin volumes and thin snapshots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lamella.cli.lvm import pool_options
from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.lv_create_request import requested
from lamella.cli.lvm.lv_options import clinging, device_number, policy, read_ahead
from lamella.cli.lvm.lv_sizes import extents_to_create, named_ranges
from lamella.cli.lvm.vg_options import metadata_profile
from lamella.errors import UnsupportedError
from lamella.lvm.format.segments import VIRTUAL_TYPES
from lamella.lvm.operations.sizes import stripe_boundary, to_extents

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.lv_create_request import LvRequested
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.operations.thin_volumes import ThinRequest


CREATED = ("striped", "thin", "thin-pool", "snapshot", *VIRTUAL_TYPES)


def lvcreate(context: Context) -> None:
    """Find out what to create, and in which group; then create it."""
    asked = requested(context)
    profile = metadata_profile(context) or ""
    if asked.kind not in CREATED:
        raise UnsupportedError(
            f"Lamella does not create logical volumes of type {asked.kind}.",
            hint="it creates linear, striped, thin, error and zero ones; LVM2 itself makes the others",
        )
    with context.editing(asked.group) as found:
        shared = _Shared(profile, read_ahead(context), *device_number(context))
        if asked.kind == "snapshot":
            lv = _snapshot(context, found, asked, shared)
        elif asked.kind == "thin":
            lv = _thin(context, found, asked, shared)
        elif asked.kind == "thin-pool":
            lv = _pool(context, found, asked, shared)
        else:
            lv = _plain(context, found, asked, shared)
    context.console.print(f'Logical volume "{lv.name}" created.')


@dataclass(frozen=True, slots=True)
class _Shared:
    """Options that all kinds share."""

    profile: str
    read_ahead: int | None
    major: int | None
    minor: int | None


def _activating(context: Context) -> bool:
    """Whether the new volume is to be activated; always True without a kernel."""
    args = context.args
    wanted = args.text("activate")
    if wanted.endswith("n") or (wanted == "ay" and not args.yes("setautoactivation", default=True)):
        return False
    return context.activator is None or not args.yes("setactivationskip") or args.has("ignoreactivationskip")


def _zeroing(context: Context) -> tuple[bool, bool]:
    """(zero the start, wipe signatures) of a new volume; neither where LVM2 could not.

    Without a kernel a volume that would be active is cleared too.
    """
    args, config = context.args, context.config
    wanted = args.text("activate")
    skipped = args.yes("setactivationskip") and not args.has("ignoreactivationskip")
    reasons = [
        "read-only " * (args.text("permission") == "r"),
        "inactive " * wanted.endswith("n"),
        "auto activated " * (wanted == "ay"),
        "skipped from activation " * skipped,
    ]
    if any(reasons):
        if args.yes("zero", default=args.yes("wipesignatures")):
            raise Failed(f"Cannot zero {''.join(reasons)}logical volume with option -Zy or -Wy.")
        return False, False
    zero = args.yes("zero", default=True)
    default = zero and config.flag("allocation/wipe_signatures_when_zeroing_new_lvs")
    return zero, args.yes("wipesignatures", default=default)


# -- linear, striped and virtual ------------------------------------------------------------------------


def _plain(context: Context, found: FoundGroup, asked: LvRequested, shared: _Shared) -> LogicalVolume:
    from lamella.lvm.operations.logical_volumes import LvRequest, check_new_name, create_lv

    args, group = context.args, found.group
    virtual = asked.kind in VIRTUAL_TYPES
    zero, wipe = (True, False) if virtual else _zeroing(context)
    ranges = named_ranges(context, found, asked.disks)
    extents, approximate = extents_to_create(context, group, ranges)
    if asked.name:
        check_new_name(group, asked.name)
    limit = group.free_extents() if approximate else None
    extents = stripe_boundary(
        extents, asked.stripes, group.extent_size, say=context.console.print, limit=limit
    )
    writable = args.text("permission") != "r"
    request = LvRequest(
        extents,
        asked.name,
        asked.stripes,
        asked.stripe_size,
        policy(context),
        ranges,
        approximate,
        args.tags("addtag"),
        writable,
        shared.read_ahead,
        shared.major,
        shared.minor,
        shared.profile,
        args.yes("setactivationskip"),
        args.yes("setautoactivation", default=True),
        zero,
        wipe,
        clinging(context),
        _activating(context),
        asked.kind,
    )
    if virtual and args.yes("zero", default=args.yes("wipesignatures")):
        said = f"Ignoring option -Zy or -Wy for unzeroable {asked.kind} volume."
        context.console.print(said)
    lv = create_lv(context.session, found, request, confirm=context.console.ask, yes=args.has("yes"))
    context.console.notices(pool_options.overprovisioning(context, found, None))
    if not zero:
        context.console.warn(f"WARNING: Logical volume {group.name}/{lv.name} not zeroed.")
    return lv


# -- thin ----------------------------------------------------------------------------------------------


def _pool(context: Context, found: FoundGroup, asked: LvRequested, shared: _Shared) -> LogicalVolume:
    from lamella.lvm.operations.thin_pools import create_pool

    group = found.group
    if asked.pool and asked.pool in group.lvs:
        raise Failed(f"Logical volume {asked.pool} already exists in Volume group {group.name}.")
    if asked.kind == "thin-pool" and shared.minor is not None:
        raise Failed("Persistent major and minor numbers are unsupported with pools.")
    if asked.kind == "thin" and context.args.has("readahead"):
        raise Failed("Ambigous --readahead parameter specified. Please use either with pool or volume.")
    ranges = named_ranges(context, found, asked.disks)
    extents, approximate = extents_to_create(context, group, ranges)
    own = asked.kind == "thin-pool"
    request = pool_options.pool_request(
        context, found, shared.profile, ranges, (asked.stripes, asked.stripe_size)
    )
    request = replace(
        request,
        read_ahead=shared.read_ahead if own else None,
        activation_skip=context.args.yes("setactivationskip"),
        activate=own and _activating(context),
    )
    if approximate and context.args.extents().of in ("FREE", "PVS"):
        extents = pool_options.leave_room(context, found, extents, request)
    limit = group.free_extents() if approximate else None
    extents = stripe_boundary(
        extents, request.stripes, group.extent_size, say=context.console.print, limit=limit
    )
    lv = create_pool(context.session, found, asked.pool, extents, request)
    context.console.notices(pool_options.overprovisioning(context, found, lv))
    return lv


def _thin(context: Context, found: FoundGroup, asked: LvRequested, shared: _Shared) -> LogicalVolume:
    from lamella.lvm.operations.logical_volumes import check_new_name
    from lamella.lvm.operations.thin_volumes import create_thin

    group, name = found.group, asked.name
    if asked.new_pool:
        if name:
            check_new_name(group, name)
        pool_lv = _pool(context, found, asked, shared)
    else:
        _refuse_pool_options(context, asked)
        pool_lv = _find_pool(found, asked.pool)
        if name:
            check_new_name(group, name)
        pool_options.check_room(context, found, pool_lv)
    extents = to_extents(context.args.size("virtualsize"), group.extent_size, say=context.console.print)
    request = _thin_request(context, name, shared)
    if asked.new_pool:
        request = replace(request, tags=())  # as in LVM2, they are the pool's
    lv = create_thin(context.session, found, pool_lv, extents, request)
    context.console.notices(pool_options.overprovisioning(context, found, lv))
    return lv


def _refuse_pool_options(context: Context, asked: LvRequested) -> None:
    for option in ("alloc", "contiguous"):
        if context.args.has(option):
            raise Failed(f"--{option} is only available when creating thin pool.")
    if asked.disks:
        raise Failed("Only specify Physical volumes when allocating thin pool.")


def _find_pool(found: FoundGroup, name: str) -> LogicalVolume:
    group = found.group
    lv = group.lvs.get(name)
    if lv is None:
        raise Failed(f"Pool {name} not found in Volume group {group.name}.")
    if lv.thin_pool is None:
        raise Failed(f"Logical volume {group.name}/{name} is not a thin pool.")
    return lv


def _thin_request(context: Context, name: str, shared: _Shared) -> ThinRequest:
    from lamella.lvm.operations.thin_volumes import ThinRequest

    args = context.args
    skip = args.yes("setactivationskip") if args.has("setactivationskip") else None
    if skip is None and not context.config.flag("activation/auto_set_activation_skip"):
        skip = False
    return ThinRequest(
        name,
        args.tags("addtag"),
        args.text("permission") != "r",
        shared.read_ahead,
        skip,
        args.yes("setautoactivation", default=True),
        shared.profile,
        major=shared.major,
        minor=shared.minor,
        activate=_activating(context),
        activate_skipped=args.has("ignoreactivationskip"),
    )


def _snapshot(context: Context, found: FoundGroup, asked: LvRequested, shared: _Shared) -> LogicalVolume:
    from lamella.lvm.operations.logical_volumes import check_new_name
    from lamella.lvm.operations.thin_volumes import create_external_snapshot, create_snapshot

    group, args = found.group, context.args
    lv = group.lvs.get(asked.origin)
    if lv is None:
        raise Failed(f"Snapshot origin LV {asked.origin} not found in Volume group {group.name}.")
    if args.has("size") or args.has("extents"):
        raise UnsupportedError(
            "Lamella does not create logical volumes of type snapshot.",
            hint="leave the size out for a thin snapshot; LVM2 itself makes the others",
        )
    pool_lv = _pool_of_snapshot(context, found, asked, lv)
    _refuse_pool_options(context, asked)
    if asked.name:
        check_new_name(group, asked.name)
    pool_options.check_room(context, found, pool_lv)
    request = _thin_request(context, asked.name, shared)
    if lv.thin is not None and lv.thin.pool == pool_lv.name:
        made = create_snapshot(context.session, found, lv, request)
    else:
        made = create_external_snapshot(context.session, found, lv, pool_lv, request)
    context.console.notices(pool_options.overprovisioning(context, found, made))
    return made


def _pool_of_snapshot(
    context: Context, found: FoundGroup, asked: LvRequested, origin: LogicalVolume
) -> LogicalVolume:
    """The pool that is named, or else the origin's own."""
    group = found.group
    if asked.pool:
        pool_lv = group.lvs.get(asked.pool)
        if pool_lv is None:
            raise Failed(f"Thin pool volume {asked.pool} not found in Volume group {group.name}.")
        if pool_lv.thin_pool is None:
            raise Failed(f"Logical volume {group.name}/{asked.pool} is not a thin pool volume.")
        return pool_lv
    if origin.thin is not None:
        return group.lvs[origin.thin.pool]
    args = context.args
    if args.has("snapshot") and args.text("type") != "thin":
        raise Failed("Please specify either size or extents with snapshots.")
    raise Failed(
        f"Logical volume {group.name}/{asked.origin} is not a thin volume. "
        "Thin snapshot supports only thin origins."
    )
