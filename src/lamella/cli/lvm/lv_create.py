# SPDX-License-Identifier: Apache-2.0
"""``lvcreate``: linear and striped volumes, thin pools, thin volumes and thin snapshots."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.cli.lvm import pool_options
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import policy, read_ahead, stripe_options
from lamella.cli.lvm.lv_sizes import check_size_options, extents_to_create, named_ranges
from lamella.cli.lvm.names import Named, volume_name
from lamella.cli.lvm.vg_options import metadata_profile
from lamella.errors import NotFoundError, UnsupportedError
from lamella.lvm.format.names import is_valid_name, reserved_reason
from lamella.lvm.operations.sizes import stripe_boundary, to_extents

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.operations.thin_volumes import ThinRequest


def lvcreate(context: Context) -> None:
    """Find out what to create, and in which group; then create it."""
    args = context.args
    kind = _kind(context)
    group, name, pool, origin, disks = _names(context, kind)
    _refuse_kind(context, kind)
    check_size_options(context)
    if kind in ("linear", "striped") and args.has("stripes") and not args.number("stripes"):
        raise BadCommand("")
    profile = metadata_profile(context) or ""
    with context.editing(group) as found:
        if kind == "thin-snapshot":
            lv = _snapshot(context, found, origin, pool, name, profile)
        elif kind == "thin":
            lv = _thin(context, found, pool, name, profile, disks)
        elif kind == "thin-pool":
            lv = _pool(context, found, name or pool, profile, disks)
        else:
            lv = _plain(context, found, name, profile, disks)
    context.console.print(f'Logical volume "{lv.name}" created.')


# -- what is meant -----------------------------------------------------------------------------------


def _kind(context: Context) -> str:
    args = context.args
    kind = args.text("type")
    if args.has("snapshot") or kind == "snapshot":
        sized = args.has("size") or args.has("extents")
        return "snapshot" if sized and not args.has("thinpool") else "thin-snapshot"
    if kind in ("", "thin", "thin-pool") and (
        args.has("thin") or args.has("thinpool") or kind or args.has("virtualsize")
    ):
        if args.has("virtualsize"):
            return "thin"
        sized = args.has("size") or args.has("extents")
        return "thin-pool" if sized else "thin-snapshot"
    if kind:
        return kind
    for option, meant in (("mirrors", "raid1"), ("vdo", "vdo"), ("vdopool", "vdo"), ("cache", "cache")):
        if args.has(option):
            return meant
    if args.has("cachepool"):
        return "cache"
    return "striped" if args.number("stripes", 1) > 1 else "linear"


def _refuse_kind(context: Context, kind: str) -> None:
    if kind in ("linear", "striped", "thin", "thin-pool", "thin-snapshot"):
        return
    raise UnsupportedError(
        f"Lamella does not create logical volumes of type {kind}.",
        hint="it creates linear, striped and thin ones; LVM2 itself makes the others",
    )


def _names(context: Context, kind: str) -> tuple[str, str, str, str, list[str]]:
    """(group, new volume, pool, origin, disks). Raises :class:`BadCommand` where names disagree."""
    args = context.args
    group = name = pool = origin = ""
    rest = list(args.positionals)
    taken = []
    for option in ("name", "thinpool"):
        if not args.has(option):
            continue
        named = _volume_name(args.text(option))
        own = named.lv or named.vg
        taken.append(named.vg if named.lv else "")
        if option == "name":
            name = own
        else:
            pool = own
    if rest or not any(taken):
        named = _volume_name(rest.pop(0) if rest else os.environ.get("LVM_VG_NAME", ""))
        group = named.vg
        if named.lv and kind in ("thin-snapshot", "snapshot"):
            origin = named.lv
        elif named.lv:
            if pool and pool != named.lv:
                raise BadCommand(f'Ambiguous pool names specified, "{pool}" and "{named.lv}".')
            pool = named.lv
        elif kind == "thin-snapshot":
            raise BadCommand("Please specify a logical volume to act as the snapshot origin.")
    for other in filter(None, taken):
        if group and other != group:
            raise BadCommand(f'Inconsistent volume group names given: "{other}" and "{group}"')
        group = other
    if name:
        _check_name(name)
    if kind == "thin" and not pool and not (args.has("size") or args.has("extents")):
        raise BadCommand("Please specify name of existing thin pool.")
    return group, name, pool, origin, rest


def _volume_name(text: str) -> Named:
    try:
        return volume_name(text)
    except NotFoundError as error:
        raise BadCommand(error.message) from error


def _check_name(name: str) -> None:
    if not is_valid_name(name):
        raise BadCommand(f'Logical volume name "{name}" is invalid.')
    if reason := reserved_reason(name):
        raise BadCommand(reason)


# -- options that all kinds share ----------------------------------------------------------------------


def _minor(context: Context) -> tuple[int | None, int | None]:
    args = context.args
    if args.has("persistent") and args.yes("persistent") and not args.has("minor"):
        raise Failed("Please specify minor number with --minor when using -My.")
    if not args.has("minor") or (args.has("persistent") and not args.yes("persistent")):
        return None, None
    if args.has("major") and args.number("major"):
        major = args.number("major")
        context.console.warn(
            f"WARNING: Ignoring supplied major number {major} - kernel assigns major numbers dynamically. "
            "Using major number 0 instead."
        )
    return 0, args.number("minor")


def _activating(context: Context) -> bool:
    """Whether the new volume is to be activated; always True without a kernel."""
    args = context.args
    wanted = args.text("activate")
    if wanted.endswith("n") or (wanted == "ay" and not args.yes("setautoactivation", default=True)):
        return False
    return context.activator is None or not args.yes("setactivationskip") or args.has("ignoreactivationskip")


def _zeroing(context: Context) -> tuple[bool, bool]:
    """(zero the start, wipe signatures) of a new volume."""
    args, config = context.args, context.config
    active = _activating(context)
    if not active and context.activator is not None and (args.yes("zero") or args.yes("wipesignatures")):
        raise Failed("Cannot zero inactive logical volume with option -Zy or -Wy.")
    zero = args.yes("zero", default=active)
    default = zero and config.flag("allocation/wipe_signatures_when_zeroing_new_lvs")
    wipe = args.yes("wipesignatures", default=default) and active
    return zero and active, wipe


# -- linear and striped --------------------------------------------------------------------------------


def _plain(context: Context, found: FoundGroup, name: str, profile: str, disks: list[str]) -> LogicalVolume:
    from lamella.lvm.operations.logical_volumes import LvRequest, check_new_name, create_lv

    args, group = context.args, found.group
    if name:
        check_new_name(group, name)
    ranges = named_ranges(context, found, disks)
    extents, approximate = extents_to_create(context, group, ranges)
    stripes, stripe_size = stripe_options(context)
    limit = group.free_extents() if approximate else None
    extents = stripe_boundary(extents, stripes, group.extent_size, say=context.console.print, limit=limit)
    major, minor = _minor(context)
    zero, wipe = _zeroing(context)
    writable = args.text("permission") != "r"
    request = LvRequest(
        extents,
        name,
        stripes,
        stripe_size,
        policy(context),
        ranges,
        approximate,
        args.tags("addtag"),
        writable,
        read_ahead(context),
        major,
        minor,
        profile,
        args.yes("setactivationskip"),
        args.yes("setautoactivation", default=True),
        zero and writable,
        wipe and writable,
        tuple(context.config.strings("allocation/cling_tag_list")),
        _activating(context),
    )
    lv = create_lv(context.session, found, request, confirm=context.console.ask, yes=args.has("yes"))
    if not zero or not writable:
        context.console.warn(f"WARNING: Logical volume {group.name}/{lv.name} not zeroed.")
    context.console.notices(pool_options.overprovisioning(context, found, None))
    return lv


# -- thin ----------------------------------------------------------------------------------------------


def _pool(context: Context, found: FoundGroup, name: str, profile: str, disks: list[str]) -> LogicalVolume:
    from lamella.lvm.operations.logical_volumes import check_new_name
    from lamella.lvm.operations.thin_pools import create_pool

    group = found.group
    if name:
        _check_name(name)
        check_new_name(group, name)
    ranges = named_ranges(context, found, disks)
    extents, approximate = extents_to_create(context, group, ranges)
    request = pool_options.pool_request(context, found, profile, ranges)
    if approximate and context.args.extents().of in ("FREE", "PVS"):
        extents = pool_options.leave_room(found, extents, request)
    limit = group.free_extents() if approximate else None
    extents = stripe_boundary(
        extents, request.stripes, group.extent_size, say=context.console.print, limit=limit
    )
    lv = create_pool(context.session, found, name, extents, replace(request, activate=_activating(context)))
    context.console.notices(pool_options.overprovisioning(context, found, lv))
    return lv


def _thin(
    context: Context, found: FoundGroup, pool: str, name: str, profile: str, disks: list[str]
) -> LogicalVolume:
    from lamella.lvm.operations.logical_volumes import check_new_name
    from lamella.lvm.operations.thin_volumes import create_thin

    group = found.group
    if name:
        check_new_name(group, name)
    if context.args.has("size") or context.args.has("extents"):
        if pool and pool in group.lvs:
            raise Failed(f'Logical Volume "{pool}" already exists in volume group "{group.name}"')
        pool_lv = _pool(context, found, pool, profile, disks)
    else:
        pool_lv = _find_pool(found, pool)
        pool_options.check_room(context, found, pool_lv)
    size = context.args.size("virtualsize")
    if not size:
        raise BadCommand("--virtualsize may not be zero.")
    extents = to_extents(size, group.extent_size, say=context.console.print)
    lv = create_thin(context.session, found, pool_lv, extents, _thin_request(context, name, profile))
    context.console.notices(pool_options.overprovisioning(context, found, lv))
    return lv


def _find_pool(found: FoundGroup, name: str) -> LogicalVolume:
    group = found.group
    lv = group.lvs.get(name)
    if lv is None:
        raise Failed(f"Pool {name} not found in Volume group {group.name}.")
    if lv.thin_pool is None:
        raise Failed(f"Logical volume {group.name}/{name} is not a thin pool.")
    return lv


def _thin_request(context: Context, name: str, profile: str) -> ThinRequest:
    from lamella.lvm.operations.thin_volumes import ThinRequest

    args = context.args
    skip = args.yes("setactivationskip") if args.has("setactivationskip") else None
    if skip is None and not context.config.flag("activation/auto_set_activation_skip"):
        skip = False
    return ThinRequest(
        name,
        args.tags("addtag"),
        args.text("permission") != "r",
        read_ahead(context),
        skip,
        args.yes("setautoactivation", default=True),
        profile,
        activate=_activating(context),
        activate_skipped=args.has("ignoreactivationskip"),
    )


def _snapshot(
    context: Context, found: FoundGroup, origin: str, pool: str, name: str, profile: str
) -> LogicalVolume:
    from lamella.lvm.operations.logical_volumes import check_new_name
    from lamella.lvm.operations.thin_volumes import create_external_snapshot, create_snapshot

    group = found.group
    lv = group.lvs.get(origin)
    if lv is None:
        raise Failed(f"Snapshot origin LV {origin} not found in Volume group {group.name}.")
    if name:
        check_new_name(group, name)
    request = _thin_request(context, name, profile)
    own = group.lvs.get(pool or (lv.thin.pool if lv.thin is not None else ""))
    if own is not None and own.thin_pool is not None:
        pool_options.check_room(context, found, own)
    if pool:
        pool_lv = group.lvs.get(pool)
        if pool_lv is None or pool_lv.thin_pool is None:
            raise Failed(f"Thin pool volume {pool} not found in Volume group {group.name}.")
        if lv.thin is not None and lv.thin.pool == pool:
            made = create_snapshot(context.session, found, lv, request)
        else:
            made = create_external_snapshot(context.session, found, lv, pool_lv, request)
    elif lv.thin is None:
        if context.args.has("snapshot") and context.args.text("type") != "thin":
            raise Failed("Please specify either size or extents with snapshots.")
        raise Failed(
            f"Logical volume {group.name}/{origin} is not a thin volume. "
            "Thin snapshot supports only thin origins."
        )
    else:
        made = create_snapshot(context.session, found, lv, request)
    context.console.notices(pool_options.overprovisioning(context, found, made))
    return made
