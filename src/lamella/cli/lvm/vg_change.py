# SPDX-License-Identifier: Apache-2.0
"""``vgchange``, ``vgrename``, ``vgexport`` and ``vgimport``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import policy
from lamella.cli.lvm.names import require_group, skip_dev
from lamella.cli.lvm.processing import each_group
from lamella.cli.lvm.targets import choose_groups
from lamella.cli.lvm.vg_create import why_invalid
from lamella.cli.lvm.vg_options import metadata_copies, metadata_profile, new_system_id
from lamella.errors import LamellaError, UsageError
from lamella.lvm.format.ids import is_uuid, with_dashes, without_dashes
from lamella.lvm.format.model import RESIZEABLE
from lamella.lvm.format.names import MAX_GROUP_PATH, is_valid_name
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.operations.group_changes import GroupChanges


SAFE = ("addtag", "deltag", "metadataprofile", "profile", "detachprofile")
"""What ``vgchange`` changes while a physical volume is missing."""
CHANGES = (
    "logicalvolume", "maxphysicalvolumes", "resizeable", "uuid", "physicalextentsize", "alloc",
    "vgmetadatacopies", "setautoactivation", "systemid",
)  # fmt: skip
"""What it does not."""


def vgrename(context: Context) -> None:
    """Rename a group, given by its name or UUID."""
    from lamella.lvm.operations.volume_groups import rename_group

    old_text, new_text = context.args.positionals
    old, new = skip_dev(old_text), skip_dev(new_text)
    if is_uuid(old) and not context.session.scan.named(old):
        old = with_dashes(without_dashes(old))
    if not is_valid_name(new):
        raise Failed(f'{why_invalid(new)}\nNew volume group name "{new}" is invalid.')
    if len(new) > MAX_GROUP_PATH:
        raise Failed(f"New volume group path exceeds maximum length of {MAX_GROUP_PATH}!")
    if old == new:
        raise Failed("Old and new volume group names must differ")
    with context.session.all_locked():
        name = require_group(context.session, old).group.name
        if context.session.scan.named(new):
            raise Failed(f'New VG name "{new}" already exists')
        with context.editing(old, exported_ok=True) as found:
            rename_group(context.session, found, new)
    context.console.print(f'Volume group "{name}" successfully renamed to "{new}"')


def _groups_to_mark(context: Context, *, exported_ok: bool, missing_ok: bool) -> list[FoundGroup]:
    """The groups that vgexport or vgimport is asked for: named, or all with ``-a``, or by ``-S``."""
    args = context.args
    if not args.positionals and not args.has("all") and not args.has("select"):
        raise BadCommand("Please supply volume groups or use --select for selection or use -a for all.")
    names = [] if args.has("all") else args.positionals
    return choose_groups(context, names, exported_ok=exported_ok, missing_ok=missing_ok)


def vgexport(context: Context) -> None:
    """Mark groups so that no host uses them until ``vgimport``."""
    from lamella.lvm.operations.group_export import export_group

    for chosen in each_group(context, _groups_to_mark(context, exported_ok=False, missing_ok=False)):
        _each(context, chosen, lambda found: export_group(context.session, found), "exported")


def vgimport(context: Context) -> None:
    """Undo ``vgexport``."""
    from lamella.lvm.operations.group_export import import_group

    args = context.args
    if args.has("force"):
        context.console.warn("WARNING: Volume groups with missing PVs will be imported with --force.")
    for chosen in each_group(
        context, _groups_to_mark(context, exported_ok=True, missing_ok=args.has("force"))
    ):
        if not chosen.group.exported and args.has("all"):
            continue
        _each(
            context,
            chosen,
            lambda found: import_group(context.session, found),
            "imported",
            exported_ok=True,
            missing_ok=args.has("force"),
        )


def _each(
    context: Context, chosen: FoundGroup, change: Callable[[FoundGroup], None], word: str, **allowed: bool
) -> None:
    name = chosen.group.name
    try:
        with context.editing(name, chosen.group.uuid, **allowed) as found:
            change(found)
    except LamellaError as error:
        context.console.fail_with(error)
        return
    context.console.print(f'Volume group "{name}" successfully {word}')


def vgchange(context: Context) -> None:
    """Change properties of groups, or activate and deactivate their volumes."""
    args = context.args
    if args.has("activate"):
        event = args.text("autoactivation") == "event"
        if event and not context.config.flag("global/event_activation"):
            context.console.print("Skip vgchange for event and event_activation=0.")
            return
        _activate(context)
        return
    if args.has("refresh"):
        _refresh(context)
        return
    if args.has("lockstart") or args.has("lockstop"):
        context.console.warn("Using lock start and lock stop requires lvmlockd.")
        return
    if args.has("monitor") or args.has("poll"):
        for chosen in each_group(context, choose_groups(context, args.positionals)):
            if args.has("monitor"):
                _monitor(context, chosen)
        return
    if args.has("locktype"):
        if args.text("lockopt") == "force" and args.text("locktype") != "none":
            raise Failed('Lock type can only be forced to "none" for recovery.')
        raise Failed("Using lock type requires lvmlockd.")
    if not any(args.has(name) for name in (*SAFE, *CHANGES)):
        raise BadCommand("Need one or more command options.")
    metadata_profile(context)
    safe = not any(args.has(name) for name in CHANGES)
    for chosen in each_group(context, choose_groups(context, args.positionals, missing_ok=safe)):
        if chosen.group.exported and not args.positionals:
            continue
        try:
            _change(context, chosen)
        except LamellaError as error:
            context.console.fail_with(error)


def _change(context: Context, chosen: FoundGroup) -> None:
    from lamella.lvm.operations.group_changes import change_group

    safe = not any(context.args.has(option) for option in CHANGES)
    name = chosen.group.name
    with context.editing(name, chosen.group.uuid, missing_ok=safe) as found:
        if not change_group(context.session, found, _changes(context, found)):
            context.session.commit(found, ())  # as LVM2, which writes tags whether they are new or not
    context.console.print(f'Volume group "{name}" successfully changed')


def _changes(context: Context, found: FoundGroup) -> GroupChanges:
    from lamella.lvm.operations.group_changes import GroupChanges

    args, group = context.args, found.group
    wanted_policy = policy(context)
    if args.text("alloc") == "inherit":
        raise UsageError("Volume Group allocation policy cannot inherit from anything")
    if args.has("alloc") and wanted_policy == group.policy:
        raise UsageError(f"Volume group allocation policy is already {group.policy}")
    resizeable = args.yes("resizeable") if args.has("resizeable") else None
    if resizeable is not None and resizeable == (RESIZEABLE in group.status):
        raise UsageError(f'Volume group "{group.name}" is already {"" if resizeable else "not "}resizeable')
    extent = args.size("physicalextentsize") if args.has("physicalextentsize") else None
    if extent == 0:
        raise UsageError("Physical extent size may not be zero")
    system_id = None
    if args.has("systemid"):
        system_id = _confirmed_system_id(context, group)
    if extent == group.extent_size:
        context.console.warn(f"Physical extent size of VG {group.name} is already {human(extent)}.")
    copies = metadata_copies(context) if args.has("vgmetadatacopies") else None
    if copies == 0 and not group.metadata_copies:
        context.console.warn(f"Number of metadata copies for VG {group.name} is already unmanaged.")
    auto = args.yes("setautoactivation") if args.has("setautoactivation") else None
    if auto is not None and auto == ("NOAUTOACTIVATE" not in group.flags):
        raise UsageError(f"Volume group autoactivation is already {'yes' if auto else 'no'}.")
    return GroupChanges(
        max_lv=args.number("logicalvolume") if args.has("logicalvolume") else None,
        max_pv=args.number("maxphysicalvolumes") if args.has("maxphysicalvolumes") else None,
        extent_size=extent,
        policy=wanted_policy or None,
        resizeable=resizeable,
        new_identity=args.has("uuid"),
        add_tags=args.tags("addtag"),
        delete_tags=args.tags("deltag"),
        profile=metadata_profile(context),
        metadata_copies=copies,
        system_id=system_id,
        autoactivation=auto,
    )


def _confirmed_system_id(context: Context, group: VolumeGroup) -> str:
    """The new system ID, after asking where this host might no longer use the group."""
    own, ask = context.environment.system_id, context.console.ask
    try:
        wanted = new_system_id(context)
    except BadCommand as error:
        raise Failed(f"{error.message}\nUnable to set system ID.") from error
    if wanted == group.system_id:
        raise UsageError(f'Volume Group system ID is already "{wanted}".')
    if not wanted:
        context.console.warn("WARNING: Removing the system ID allows unsafe access from other hosts.")
        if not ask(f"Remove system ID {group.system_id} from volume group {group.name}? [y/n]: "):
            raise Failed(f"System ID of volume group {group.name} not changed.")
        return wanted
    if wanted == own:
        return wanted
    if not own:
        context.console.warn("WARNING: No local system ID is set.")
    else:
        context.console.warn(f"WARNING: Requested system ID {wanted} does not match local system ID {own}.")
    context.console.warn(f"WARNING: Volume group {group.name} might become inaccessible from this machine.")
    if not ask(f"Set foreign system ID {wanted} on volume group {group.name}? [y/n]: "):
        raise Failed(f"Volume group {group.name} system ID not changed.")
    return wanted


def _activate(context: Context) -> None:
    """``-a``: each group that is not exported."""
    from lamella.cli.lvm.activation import change_group_activation

    groups = choose_groups(context, context.args.positionals, exported_ok=False)
    for chosen in each_group(context, groups):
        try:
            change_group_activation(context, chosen)
        except LamellaError as error:
            context.console.fail_with(error)


def _monitor(context: Context, found: FoundGroup) -> None:
    """``--monitor``: register the pools with dmeventd, or unregister them; all active volumes count."""
    from lamella.cli.lvm.activation import active_count, monitor

    if context.activator is None or not active_count(context, found):
        return
    monitor(context, found, list(found.group.lvs.values()))
    count = len(context.activator.active_in(found))
    word = "monitored" if context.args.yes("monitor") else "unmonitored"
    context.console.print(f'{count} logical volume(s) in volume group "{found.group.name}" {word}')


def _refresh(context: Context) -> None:
    """``--refresh``: reload the tables of all active volumes."""
    from lamella.cli.lvm.activation import refresh

    groups = choose_groups(context, context.args.positionals, exported_ok=False)
    for chosen in each_group(context, groups):
        try:
            refresh(context, chosen, list(chosen.group.lvs.values()))
        except LamellaError as error:
            context.console.fail_with(error)
