# SPDX-License-Identifier: Apache-2.0
"""``lvrename``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.names import group_name, volume_name
from lamella.lvm.format.names import is_valid_name, longest_volume_name, reserved_reason

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context


def lvrename(context: Context) -> None:
    """Rename a volume: ``lvrename VG OLD NEW`` or ``lvrename VG/OLD VG/NEW``."""
    from lamella.lvm.operations.logical_volumes import rename_lv

    group, old, new = _names(context)
    with context.editing(group) as found:
        if new in found.group.lvs:
            raise Failed(f'Logical Volume "{new}" already exists in volume group "{group}"')
        lv = found.group.lvs.get(old)
        if lv is None:
            raise Failed(f'Existing logical volume "{old}" not found in volume group "{group}"')
        rename_lv(context.session, found, lv, new)
    context.console.print(f'Renamed "{old}" to "{new}" in volume group "{group}"')


def _names(context: Context) -> tuple[str, str, str]:
    places = context.args.positionals
    if len(places) == 3:
        group = group_name(places[0])
        old_named, new_named = volume_name(places[1]), volume_name(places[2])
    else:
        old_named, new_named = volume_name(places[0]), volume_name(places[1])
        if not old_named.lv:
            raise BadCommand("Path required for Logical Volume")
        group = old_named.vg
    for named in (old_named, new_named):
        if named.lv and named.vg != group:
            raise BadCommand(
                f'Logical volume names must have the same volume group ("{group}" or "{named.vg}")'
            )
    old, new = (named.lv or named.vg for named in (old_named, new_named))
    if len(new) > (longest := longest_volume_name(group) + 1):
        raise BadCommand(f'New logical volume name "{new}" may not exceed {longest} characters.')
    if not is_valid_name(new):
        raise BadCommand(f'New logical volume name "{new}" is invalid')
    if reason := reserved_reason(new):
        raise BadCommand(reason)
    if old == new:
        raise BadCommand("Old and new logical volume names must differ")
    return group, old, new
