# SPDX-License-Identifier: Apache-2.0
"""From ``--size`` and ``--extents`` to extents, as lvcreate and lvresize do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.lvm.operations.extent_ranges import free_in
from lamella.lvm.operations.sizes import percent_of, to_extents
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.operations.extent_ranges import PvRanges


def check_size_options(context: Context) -> None:
    """Raise :class:`BadCommand` where both are given."""
    args = context.args
    if args.has("size") and args.has("extents"):
        joint = "(not both)" if context.name == "lvcreate" else "but not both"
        raise BadCommand(f"Please specify either size or extents {joint}.")


def refuse_zero(args: Arguments, names: Sequence[str]) -> None:
    """Raise :class:`BadCommand` for those options whose value is zero."""
    if zero := [name for name in names if args.has(name) and _is_zero(args, name)]:
        raise BadCommand("\n".join(f"--{name} may not be zero." for name in zero))


def _is_zero(args: Arguments, name: str) -> bool:
    if name == "extents":
        return not args.extents().number
    return not (args.number(name) if name == "stripes" else args.size(name))


def named_ranges(context: Context, found: FoundGroup, names: list[str]) -> PvRanges | None:
    """The disks and extents that positional arguments restrict the command to; None without any."""
    if not names:
        return None
    from lamella.lvm.operations.extent_ranges import parse_pv_ranges

    return parse_pv_ranges(found, names, context.console.notice)


def extents_to_create(context: Context, group: VolumeGroup, ranges: PvRanges | None) -> tuple[int, bool]:
    """(extents, whether fewer will do) that lvcreate is asked for."""
    args = context.args
    if args.has("size"):
        return to_extents(args.size("size"), group.extent_size, say=context.console.print), False
    asked = args.extents()
    free = group.free_extents()
    match asked.of:
        case "":
            return asked.number, False
        case "VG":
            extents = percent_of(asked.number, group.extents)
            if extents > free:
                room = human(free * group.extent_size)
                context.console.print(f"Reducing {asked} to remaining free space {room} in VG.")
                extents = free
        case "FREE":
            extents = percent_of(asked.number, free)
        case "PVS":
            whole = free_in(group, ranges) if ranges else group.extents
            extents = percent_of(asked.number, whole)
        case _:
            raise Failed("Please express size as %FREE, %PVS or %VG.")
    if not extents:
        raise Failed("Calculated size of logical volume is 0 extents. Needs to be larger.")
    return extents, True


def extents_to_resize(
    context: Context, group: VolumeGroup, lv: LogicalVolume, ranges: PvRanges | None
) -> tuple[int, str, bool]:
    """(new length in extents, sign that was typed, whether less will do) for lvresize and its relatives."""
    args = context.args
    if args.has("size"):
        asked_size = args.signed_size("size")
        sign = _sign(context, asked_size.sign)
        amount = whole_extents(context, group, asked_size.size, sign)
        approximate = False
    else:
        asked = args.extents()
        sign = _sign(context, asked.sign)
        amount = asked.number
        approximate = asked.of == "FREE" or (asked.of in ("VG", "PVS") and not sign)
        if asked.of:
            whole = _whole(group, lv, asked.of, ranges)
            amount = percent_of(asked.number, whole, up=sign != "-")
            room = group.free_extents() + lv.extents
            if asked.of == "VG" and not sign and amount > room:
                shown = human(room * group.extent_size)
                context.console.print(f"Reducing {asked.number}%VG to remaining free space {shown} in VG.")
                amount = room
    now = lv.extents
    if sign == "+":
        return now + amount, sign, approximate
    if sign == "-":
        if amount >= now:
            raise Failed(f"Unable to reduce {group.name}/{lv.name} below 1 extent.")
        return now - amount, sign, approximate
    return amount, sign, approximate


def _sign(context: Context, typed: str) -> str:
    if typed == "-" and context.name == "lvextend":
        raise BadCommand("Negative argument not permitted - use lvreduce")
    if typed == "+" and context.name == "lvreduce":
        raise BadCommand("Positive sign not permitted - use lvextend")
    return typed


def whole_extents(context: Context, group: VolumeGroup, size: int, sign: str) -> int:
    """Rounded up, or down for what is to be removed."""
    extent = group.extent_size
    extents = size // extent if sign == "-" else -(-size // extent)
    if extents * extent != size:
        context.console.print(
            f"Rounding size to boundary between physical extents: {human(extents * extent)}."
        )
    return extents


def _whole(group: VolumeGroup, lv: LogicalVolume, of: str, ranges: PvRanges | None) -> int:
    match of:
        case "VG":
            return group.extents
        case "FREE":
            return group.free_extents()
        case "LV":
            return lv.extents
        case "PVS":
            return free_in(group, ranges) if ranges else group.extents
    thin = lv.thin
    origin = group.lvs.get(thin.origin or thin.external_origin) if thin is not None else None
    if origin is None:
        raise Failed("Specified LV does not have an origin LV.")
    return origin.extents
