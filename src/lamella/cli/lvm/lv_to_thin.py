# SPDX-License-Identifier: Apache-2.0
"""``lvconvert --type thin``: make a volume thin, with what it has as its external origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm import pool_options
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_to_pool import find_volume, make_pool, metadata_name
from lamella.cli.lvm.names import named_volume, volume_name, volume_to_convert
from lamella.cli.lvm.vg_options import metadata_profile
from lamella.errors import LamellaError
from lamella.lvm.format.names import is_valid_name
from lamella.lvm.operations.logical_volumes import check_new_name

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume


def to_thin(context: Context) -> None:
    """Make a volume thin in a pool; a plain volume that is named as the pool is made one first."""
    from lamella.lvm.operations.thin_conversion import check_convertible, convert_to_thin

    args = context.args
    group, name = volume_to_convert(args.positionals[0])
    named = volume_name(args.text("thinpool"))
    pool_name = named.lv or named.vg
    if named.lv and named.vg != group:
        raise Failed(f"VG name mismatch from position arg ({group}) and option arg ({named.vg}).")
    with context.editing(group) as found:
        lv = find_volume(found, name)
        check_convertible(context.session, found, lv)
        pool_lv = _convertible_pool(found, pool_name)
        if pool_name == name:
            raise Failed(f"Use a different LV for thin pool LV and thin LV {group}/{name}.")
        origin = _origin_name(context, found)
        if pool_lv.thin_pool is None:
            pool_lv = _made_pool(context, found, pool_lv)
        pool_options.check_room(context, found, pool_lv)

        def created(thin: LogicalVolume) -> None:
            context.console.notices(pool_options.overprovisioning(context, found, thin))
            context.console.print(f'Logical volume "{thin.name}" created.')

        thin = convert_to_thin(context.session, found, lv, pool_lv, origin, created=created)
    origin = f"{group}/{lv.name}"
    context.console.print(f"Converted {group}/{thin.name} to thin volume with external origin {origin}.")


def _convertible_pool(found: FoundGroup, name: str) -> LogicalVolume:
    """The pool called *name*, or a plain volume that can become one."""
    lv = found.group.lvs.get(name)
    if lv is None:
        raise Failed(f"Thin pool {name} not found.")
    if lv.thin_pool is None and lv.kind not in ("linear", "striped"):
        full = f"{found.group.name}/{name}"
        raise Failed(f"LV {full} with type {lv.kind} cannot be converted to a thin pool.")
    return lv


def _origin_name(context: Context, found: FoundGroup) -> str:
    """What ``--originname`` says; "" without it."""
    if not context.args.has("originname"):
        return ""
    try:
        name = named_volume(context.args.text("originname"), found.group.name)[1]
    except BadCommand as error:
        raise Failed(error.message) from error
    if not is_valid_name(name):
        raise Failed(f'Logical volume name "{name}" is invalid.')
    check_new_name(found.group, name)
    return name


def _made_pool(context: Context, found: FoundGroup, lv: LogicalVolume) -> LogicalVolume:
    """The thin pool that the plain volume *lv* becomes."""
    full = f"{found.group.name}/{lv.name}"
    try:
        profile = metadata_profile(context) or ""
        return make_pool(context, found, lv, metadata_name(context, found.group.name), profile, [])
    except LamellaError as error:
        raise Failed(f"{error.message}\nLV {full} could not be converted to a thin pool.") from error
