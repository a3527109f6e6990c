# SPDX-License-Identifier: Apache-2.0
"""``vgcreate`` and ``vgextend``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.block.opening import is_remote
from lamella.cli.lvm.disks_to_scan import remember_files
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import policy
from lamella.cli.lvm.names import require_group, skip_dev
from lamella.cli.lvm.pv_options import pv_options, require_disks, scan_also, setting_up
from lamella.cli.lvm.vg_options import metadata_copies, metadata_profile, new_system_id
from lamella.lvm.format.names import is_valid_name
from lamella.lvm.report.units import human
from lamella.lvm.session.system_id import UNSAFE

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup

EMPTY = "Name is zero length."
DOTS = "Name starts with . or .. and has no following character(s)."
INVALID = "Name contains invalid character, valid set includes: [a-zA-Z0-9.-_+]."


def why_invalid(name: str) -> str:
    """LVM2's sentence for a name that no group can have."""
    return {"": EMPTY, ".": DOTS, "..": DOTS}.get(name, INVALID)


def check_new_group_name(text: str) -> str:
    """The name of a new group. Raises :class:`BadCommand`."""
    name = skip_dev(text)
    if not is_valid_name(name):
        raise BadCommand(f'{why_invalid(name)}\nNew volume group name "{name}" is invalid.')
    return name


def vgcreate(context: Context) -> None:
    """Create a group; disks become physical volumes where they are none yet."""
    from lamella.lvm.operations.volume_groups import DEFAULT_EXTENT, GroupOptions, create_group

    args, config = context.args, context.config
    name = check_new_group_name(args.positionals[0])
    disks = args.positionals[1:]
    _refuse_shared(context)
    extent = args.size("physicalextentsize", config.number("allocation/physical_extent_size") * 1024)
    if not extent:
        raise BadCommand("Physical extent size may not be zero")
    if extent // SECTOR >= 1 << 32:
        shown = human(((1 << 32) - 1) * SECTOR)
        raise BadCommand(f"Physical extent size must be smaller than {shown}.")
    if args.text("alloc") == "inherit":
        raise BadCommand("Volume Group allocation policy cannot inherit from anything")
    system_id = context.environment.system_id
    if args.has("systemid"):
        system_id = new_system_id(context)
        own = context.environment.system_id
        if not system_id:
            context.console.warn(UNSAFE)
        elif own and system_id != own:
            context.console.warn(
                f"VG with system ID {system_id} might become inaccessible as local system ID is {own}"
            )
    options = GroupOptions(
        extent_size=extent or DEFAULT_EXTENT,
        max_lv=args.number("maxlogicalvolumes"),
        max_pv=args.number("maxphysicalvolumes"),
        policy=policy(context),
        tags=args.tags("addtag"),
        metadata_copies=metadata_copies(context, config.number("metadata/vgmetadatacopies")),
        profile=metadata_profile(context) or "",
        system_id=system_id,
        autoactivation=args.yes("setautoactivation", default=True),
    )
    require_disks(context, disks)
    with context.session.creating(name), setting_up():
        create_group(context.session, name, disks, options, pv_options(context), confirm=context.console.ask)
    owner = f" with system ID {system_id}" if system_id else ""
    context.console.print(f'Volume group "{name}" successfully created{owner}')
    if not context.test:
        remember_files(args, disks)


def _refuse_shared(context: Context) -> None:
    """Raise :class:`BadCommand` for groups that hosts share, which LVM2 makes with daemons of its own."""
    args = context.args
    if args.has("clustered"):
        raise BadCommand("The clustered option is deprecated, see --shared.")
    if args.has("shared"):
        raise BadCommand("Using a shared lock type requires lvmlockd (lvm.conf use_lvmlockd.)")
    kind = args.text("locktype", "none")
    if kind in ("sanlock", "dlm", "idm"):
        raise BadCommand("Using a shared lock type requires lvmlockd.")
    if kind != "none":
        raise BadCommand(f"lock_type {kind} is invalid")


def vgextend(context: Context) -> None:
    """Add disks to a group, or with ``--restoremissing`` use missing ones again."""
    from lamella.lvm.operations.volume_groups import extend_group

    args = context.args
    name = skip_dev(args.positionals[0])
    disks = args.positionals[1:]
    options = pv_options(context)
    restoring = args.has("restoremissing")
    if restoring:
        scan_also(context, [path for path in disks if is_remote(path) or os.path.isfile(path)])
    else:
        require_disks(context, disks)
    with context.session.all_locked():
        require_group(context.session, name)
        with context.editing(name, missing_ok=True) as found:
            if restoring:
                _restore_missing(context, found, disks)
            else:
                with setting_up():
                    extend_group(context.session, found, disks, options, confirm=context.console.ask)
    context.console.print(f'Volume group "{name}" successfully extended')
    if not context.test:
        remember_files(args, disks)


def _restore_missing(context: Context, found: FoundGroup, paths: list[str]) -> None:
    """Use those of the disks again that were missing. Raises :class:`Failed` if none of them was."""
    from lamella.lvm.operations.missing_pvs import restore_missing

    back = []
    for path in paths:
        disk = context.session.scan.disk(path)
        pv = found.group.pv_by_device(disk.path) if disk is not None else None
        if pv is not None and pv in found.reappeared:
            back.append(pv)
            continue
        state = "not found in" if pv is None else "was not missing in"
        context.console.warn(f"WARNING: PV {path} {state} VG {found.group.name}")
    if not back:
        raise Failed("No PV has been restored.")
    restore_missing(context.session, found, back)
