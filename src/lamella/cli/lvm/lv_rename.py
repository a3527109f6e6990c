# SPDX-License-Identifier: Apache-2.0
"""``lvrename``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.names import skip_dev
from lamella.lvm.format.history import PREFIX
from lamella.lvm.format.names import is_valid_name, longest_volume_name, reserved_reason

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context

NO_GROUP = "Please provide a valid volume group name"


def lvrename(context: Context) -> None:
    """Rename a volume, or the record of a removed one: ``VG OLD NEW`` or ``VG/OLD VG/NEW``."""
    from lamella.lvm.operations.logical_volumes import rename_lv, rename_record

    group, old, new = _names(context)
    with context.editing(group) as found:
        if old.startswith(PREFIX):
            name = old.removeprefix(PREFIX)
            record = next((one for one in found.group.historical if one.name == name), None)
            if record is None:
                raise Failed(
                    f'Existing historical logical volume "{name}" not found in volume group "{group}"'
                )
            rename_record(context.session, found, record, new)
            context.console.print(f'Renamed "{old}" to "{PREFIX}{new}" in volume group "{group}"')
            return
        if new in found.group.lvs:
            raise Failed(f'Logical Volume "{new}" already exists in volume group "{group}"')
        lv = found.group.lvs.get(old)
        if lv is None:
            raise Failed(f'Existing logical volume "{old}" not found in volume group "{group}"')
        rename_lv(context.session, found, lv, new)
    context.console.print(f'Renamed "{old}" to "{new}" in volume group "{group}"')


def _names(context: Context) -> tuple[str, str, str]:
    """(group, old, new); *old* with a hyphen before the name of a record, *new* without it.

    Raises :class:`BadCommand` where they do not go together, in LVM2's order.
    """
    places = context.args.positionals
    group = _group(places[0]) if len(places) > 2 else ""
    old = skip_dev(places[-2])
    if not group:
        vg, slash, _lv = old.partition("/")
        if not slash:
            raise BadCommand(
                f'Path required for Logical Volume "{old}".\nPlease provide a valid volume group name'
            )
        if old.count("/") > 1:
            raise BadCommand(f'"{old}": Invalid path for Logical Volume.\n{NO_GROUP}')
        group = _group(vg)
    vg, slash, rest = old.partition("/")
    if slash:
        if vg != group:
            raise BadCommand(f'Please use a single volume group name ("{group}" or "{vg}")')
        old = rest
    vg, slash, new = skip_dev(places[-1]).partition("/")
    if not slash:
        new = vg
    elif vg != group:
        raise BadCommand(f'Logical volume names must have the same volume group ("{group}" or "{vg}")')
    if new.startswith(PREFIX):
        if not old.startswith(PREFIX):
            raise BadCommand("Old name references live LV while new name is for historical LV.")
        new = new.removeprefix(PREFIX)
    _check_new(group, new)
    if old.removeprefix(PREFIX) == new:
        raise BadCommand("Old and new logical volume names must differ")
    return group, old, new


def _group(text: str) -> str:
    name = skip_dev(text)
    if "/" not in name and not is_valid_name(name):
        raise BadCommand(NO_GROUP)
    return name


def _check_new(group: str, name: str) -> None:
    if not name:
        raise BadCommand("New logical volume name may not be blank")
    if len(name) > (longest := longest_volume_name(group) + 1):
        raise BadCommand(f'New logical volume name "{name}" may not exceed {longest} characters.')
    if not is_valid_name(name):
        raise BadCommand(f'New logical volume name "{name}" is invalid')
    if reason := reserved_reason(name):
        raise BadCommand(reason)
