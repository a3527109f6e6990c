# SPDX-License-Identifier: Apache-2.0
"""What ``lvcreate`` is asked for, from its command line alone; LVM2 checks that before it looks at groups."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand
from lamella.cli.lvm.lv_options import contiguous_conflict, stripe_options
from lamella.cli.lvm.lv_sizes import check_size_options, refuse_zero
from lamella.cli.lvm.names import named_volume, skip_dev
from lamella.cli.lvm.pool_options import check_pool_options
from lamella.lvm.format.names import is_valid_name, reserved_reason
from lamella.lvm.format.segments import VIRTUAL_TYPES

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.syntax.parse import Arguments

NOT_ZERO = ("chunksize", "extents", "regionsize", "size", "stripes", "stripesize", "virtualsize")
OF_NEW_POOLS = ("poolmetadatasize", "poolmetadataspare", "chunksize", "discards", "errorwhenfull", "zero")
REFUSED = {
    "snapshot": ("snapshots", ("wipesignatures", "zero", "nosync")),
    "thin": ("thins", ("nosync",)),
    "thin-pool": ("thin pools", ("major", "minor", "wipesignatures", "errorwhenfull", "nosync")),
}
"""By type: options that LVM2's own grammar lets through, and that it refuses then."""


@dataclass(slots=True)
class LvRequested:
    """What is to be created, and the names that were given for it; "" for those that were not."""

    kind: str
    """"striped" (linear too), "error", "zero", "thin-pool", "thin", "snapshot", or a type that only LVM2
    creates.
    """
    new_pool: bool = False
    """A thin pool is created, for itself or for the thin volume."""
    group: str = ""
    name: str = ""
    pool: str = ""
    origin: str = ""
    disks: list[str] = field(default_factory=list)
    stripes: int = 1
    stripe_size: int = 64 << 10
    """Bytes on each stripe before the next."""


def requested(context: Context) -> LvRequested:
    """Raise :class:`BadCommand` where options or names exclude each other, in LVM2's order."""
    args = context.args
    asked = LvRequested(_first_kind(args))
    _check_options(args, asked)
    _find_names(context, asked)
    _check_numbers(context, asked)
    if asked.new_pool and asked.pool:
        check_name(asked.pool)
    if asked.kind == "thin" and not asked.new_pool and not asked.pool and not asked.origin:
        raise BadCommand("Please specify name of existing pool.")
    return asked


def check_name(name: str) -> None:
    """Raise :class:`BadCommand` for a name that no new volume may have."""
    if not is_valid_name(name):
        raise BadCommand(f'Logical volume name "{name}" is invalid.')
    if reason := reserved_reason(name):
        raise BadCommand(reason)


def _first_kind(args: Arguments) -> str:
    """The type that the options stand for; which of a thin volume, pool or snapshot, is seen later."""
    kind = args.text("type")
    if kind:
        return "striped" if kind == "linear" else kind
    if args.has("snapshot"):
        return "snapshot"
    if args.has("cache") or args.has("cachepool"):
        return "cache"
    if args.has("thin") or args.has("thinpool"):
        return "thin"
    if args.has("vdo") or args.has("vdopool"):
        return "vdo"
    if args.has("virtualsize"):
        return "thin"
    if args.number("mirrors"):
        return "raid10" if args.number("stripes", 1) > 1 else "raid1"
    return "striped"


def _sized(args: Arguments) -> bool:
    return args.has("size") or args.has("extents")


def _check_options(args: Arguments, asked: LvRequested) -> None:
    """Refuse options that the kind of volume has no use for, and settle what kind it is."""
    first = asked.kind
    if first in REFUSED:
        word, names = REFUSED[first]
        for name in names:
            if args.has(name):
                raise BadCommand(f"Option --{name} is unsupported with {word}.")
    if first == "thin":
        asked.new_pool = _sized(args)
        if not asked.new_pool:
            for name in OF_NEW_POOLS:
                if args.has(name):
                    raise BadCommand(f"--{name} is supported only with thin pool creation.")
        if not args.has("virtualsize"):
            if asked.new_pool and args.has("type"):
                raise BadCommand("Thin segment type requires --virtualsize.")
            asked.kind = "thin-pool" if asked.new_pool else "snapshot"
    elif first == "thin-pool":
        if args.text("permission") == "r":
            raise BadCommand("Cannot create read-only thin pool.")
        asked.new_pool = True
    if args.has("nosync") and first in ("striped", *VIRTUAL_TYPES):
        raise BadCommand("--nosync is supported only with mirrors or raids.")
    if args.number("mirrors") and first == "striped":
        raise BadCommand("--mirrors is supported only with mirrors or raids")


# -- names ---------------------------------------------------------------------------------------------


def _find_names(context: Context, asked: LvRequested) -> None:
    args = context.args
    if args.has("name"):
        asked.group, asked.name = named_volume(args.text("name"), asked.group)
        check_name(asked.name)
    if args.has("thinpool"):
        asked.group, asked.pool = named_volume(args.text("thinpool"), asked.group)
    rest = list(args.positionals)
    first = rest.pop(0) if rest else None
    asked.disks = rest
    if asked.kind == "snapshot":
        if first is None:
            raise BadCommand("Please specify a logical volume to act as the snapshot origin.")
        asked.group, asked.origin = named_volume(first, asked.group)
        _default_group(asked, "origin")
    elif first is not None and asked.kind in ("thin", "thin-pool") and "/" in skip_dev(first):
        asked.group, pool = named_volume(first, asked.group)
        if asked.pool and asked.pool != pool:
            raise BadCommand(f"Ambiguous {asked.kind} name specified, {pool} and {asked.pool}.")
        asked.pool = pool
        _default_group(asked, asked.kind)
    elif first is not None:
        name = skip_dev(first)
        if "/" in name:
            raise BadCommand("Volume group name expected (no slash)")
        if asked.group and name != asked.group:
            raise BadCommand(f'Inconsistent volume group names given: "{asked.group}" and "{name}"')
        asked.group = name
    elif not asked.group:
        asked.group = os.environ.get("LVM_VG_NAME", "")
    if first is None and not asked.group:
        raise BadCommand("Please provide a volume group name")
    _name_the_pool(asked)
    if not is_valid_name(asked.group):
        raise BadCommand(f"Volume group name {asked.group} has invalid characters")


def _default_group(asked: LvRequested, what: str) -> None:
    asked.group = asked.group or os.environ.get("LVM_VG_NAME", "")
    if not asked.group:
        raise BadCommand(f"The {what} name should include the volume group.")


def _name_the_pool(asked: LvRequested) -> None:
    """``--name`` names a pool where nothing else is created."""
    if asked.kind == "thin-pool" and asked.name:
        if asked.pool and asked.pool != asked.name:
            raise BadCommand(f"Ambiguous thin-pool name specified, {asked.name} and {asked.pool}.")
        asked.pool, asked.name = asked.name, ""
    if asked.pool and asked.pool == asked.name:
        raise BadCommand(f"Logical volume name {asked.name} and pool name must be different.")


# -- sizes and numbers -----------------------------------------------------------------------------------


def _check_numbers(context: Context, asked: LvRequested) -> None:
    args = context.args
    refuse_zero(args, NOT_ZERO)
    check_size_options(context)
    asked.stripes, asked.stripe_size = stripe_options(context)
    if asked.new_pool:
        check_pool_options(context)
    if asked.kind == "striped" and args.has("mirrors") and args.text("type") != "linear":
        context.console.print("Redundant mirrors argument: default is 0")
    if args.text("type") == "linear" and asked.stripes > 1:
        raise BadCommand("Cannot use stripes with linear type.")
    if contiguous_conflict(args):
        raise BadCommand("Conflicting contiguous and alloc arguments.")
