# SPDX-License-Identifier: Apache-2.0
"""``vgimportdevices``: enter the devices of volume groups in LVM2's devices file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.lvm_devices import NOT_ENABLED
from lamella.lvm.format.ids import without_dashes

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context


def vgimportdevices(context: Context) -> None:
    """Enter the devices of the groups that are named, or of all, wherever they are; see
    :func:`lamella.cli.lvm.disks_to_scan.find_devices`.

    The groups are written too, as LVM2 does it: their text then holds what each device is recognised by.
    Nothing is entered if a physical volume is missing.
    """
    from lamella.cli.lvm.targets import choose_groups

    listed, session = context.system_devices, context.session
    if listed is None:
        raise Failed(NOT_ENABLED)
    listed.find(context.environment.sys_block)
    session.device_id = listed.device_id
    everything = context.args.has("all") or context.args.has("select")
    with session.all_locked():
        groups = choose_groups(context, context.args.positionals, required=not everything)
        if context.console.failures:
            raise Failed
        for found in groups:
            missing = next(iter(found.missing), None)
            if missing is not None:
                plain = without_dashes(missing.uuid)
                raise Failed(f"Not importing devices for VG {found.group.name} with missing PV {plain}.")
        paths = [disk.path for found in groups for disk in found.disks.values()]
        if not paths:
            context.console.print("No devices to add.")
            return
        for found in groups:
            group = found.group
            if session.is_foreign(group):
                continue  # another host's, which is only read
            with session.editing(group.name, uuid=group.uuid, exported_ok=True, active_ok=True) as mine:
                session.commit(mine, ())
        context.extra_devices += paths
        context.console.print(f"Added {len(paths)} devices to devices file.")
