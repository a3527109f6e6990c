# SPDX-License-Identifier: Apache-2.0
"""``vgimportclone``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.targets import MISSING_DISKS

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context


def vgimportclone(context: Context) -> None:
    """Give copies of a group's disks a group and identifiers of their own."""
    from lamella.lvm.operations.group_clone import free_name, import_clone
    from lamella.lvm.session.session import Session

    args = context.args
    paths = list(dict.fromkeys(args.positionals))
    listed = context.system_devices
    if args.has("importdevices"):
        if listed is None or not listed.path.is_file():
            context.console.print("Devices file not enabled, ignoring importdevices.")
        else:  # they need not be in the file yet
            context.extra_devices += paths
    session = context.session
    session.unsaid = frozenset({"duplicate"})  # that is why the command is used
    with session.all_locked():
        chosen = []
        for path in paths:
            disk = session.scan.disk(path)
            if disk is None:
                raise Failed(f"Failed to find device {path}.")
            if disk.label is None:
                raise Failed(f"Failed to find PVID for device {path}.")
            if disk not in chosen:
                chosen.append(disk)
        with Session(
            [disk.path for disk in chosen],
            session.environment,
            opener=session.opener,
            test=context.test,
            say=session.say,
            locked=True,
        ) as copy:
            copy.unsaid = frozenset({"backup"})
            copy.device_id = session.device_id
            groups = copy.scan.groups
            if copy.scan.duplicates or len(groups) > 1 or (groups and copy.scan.orphans):
                raise Failed("Devices must be from the same VG.")
            if not groups:
                raise Failed(f"Failed to find a VG on device {chosen[0].path}.")
            old = groups[0].group
            if old.exported and not args.has("import"):
                raise Failed(
                    f"VG {old.name} is exported, use the --import option.\n"
                    "Failed to update VG on devices being imported."
                )
            own = {disk.path for disk in chosen}
            taken = {
                one.group.name
                for one in session.scan.groups
                if not one.disks or not {disk.path for disk in one.disks.values()} <= own
            }
            base = args.text("basevgname")
            name = free_name(old.name, base, taken)
            if copy.read(groups[0]).partial:
                raise Failed(
                    f"{MISSING_DISKS.format(old.name)}\n"
                    f"Failed to read VG {old.name} from devices being imported."
                )
            with copy.editing(old.name, exported_ok=True, active_ok=True) as found:
                import_clone(copy, found, name)
        session.rescan()  # with the new UUIDs, for the devices file
        if listed is not None and listed.path.is_file():
            context.extra_devices = paths
