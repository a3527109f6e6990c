# SPDX-License-Identifier: Apache-2.0
"""``lvchange``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed, other_kind
from lamella.cli.lvm.lv_options import device_number, policy, read_ahead
from lamella.cli.lvm.processing import each_chosen, each_volume
from lamella.cli.lvm.syntax.parse import ArgumentFault
from lamella.cli.lvm.targets import choose_volumes, volumes_of
from lamella.cli.lvm.vg_options import metadata_profile
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.targets import ChosenGroup
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.operations.lv_changes import LvChanges

CHANGES = (
    "contiguous", "permission", "readahead", "setactivationskip", "zero", "persistent", "addtag", "deltag",
    "alloc", "detachprofile", "metadataprofile", "profile", "setautoactivation", "errorwhenfull",
    "discards",
)  # fmt: skip
"""Options that change metadata; the others change devices in the kernel."""
UNSUPPORTED = (
    "compression", "deduplication", "cachemode", "cachepolicy", "cachesettings", "minrecoveryrate",
    "maxrecoveryrate", "vdosettings", "writebehind", "writemostly", "resync", "syncaction", "rebuild",
)  # fmt: skip
"""For RAID, cache and VDO volumes, which only LVM2 changes."""


REQUIRED = {
    "raid": ("minrecoveryrate", "maxrecoveryrate"),
    "raid1": ("writemostly", "writebehind"),
    "cache cachepool writecache": ("cachemode", "cachepolicy", "cachesettings"),
    "thinpool": ("zero", "discards", "errorwhenfull"),
}
"""The kinds of volumes that options are for, in LVM2's words and order, and these options."""
NOT_PARTIAL = ("alloc", "zero", "discards", "cachemode", "cachepolicy", "cachesettings")
"""Options that are not for volumes of which a disk is missing."""
OF_VDO = ("compression", "deduplication")
OF_KERNEL = ("monitor", "poll")
EXCLUSIVE = (("contiguous", "alloc"), ("profile", "detachprofile"), ("metadataprofile", "detachprofile"))


def lvchange(context: Context) -> None:
    """Change properties of volumes."""
    args = context.args
    for one, other in EXCLUSIVE:
        if args.has(one) and args.has(other):
            raise ArgumentFault([f"  Command does not accept option combination: --{one}  with --{other} "])
    profile = metadata_profile(context)
    changing = any(args.has(name) for name in (*CHANGES, *UNSUPPORTED))
    if changing:
        _change_chosen(context, profile)
        if context.console.failures or not any(args.has(name) for name in ("activate", *OF_KERNEL)):
            return  # as LVM2, which changes devices after the metadata of all volumes, if none failed
        if args.has("activate"):
            context.console.warn("WARNING: Combining activation change with other commands is not advised.")
    for chosen in each_chosen(context, choose_volumes(context, args.positionals)):
        named = _by_name(context, chosen)
        lvs = [lv for lv in volumes_of(context, chosen) if not _passed_over(context, chosen.found, lv, named)]
        if lvs:
            _of_kernel(context, chosen.found, lvs)


def _change_chosen(context: Context, profile: str | None) -> None:
    """Change the metadata of the volumes that the arguments choose."""
    for chosen in each_chosen(context, choose_volumes(context, context.args.positionals)):
        names = [lv.name for lv in volumes_of(context, chosen)]
        if not names:
            continue
        named = _by_name(context, chosen)
        try:
            with context.editing(chosen.found.group.name, chosen.found.group.uuid, missing_ok=True) as found:
                for lv in each_volume(context, found, [found.group.lvs[name] for name in names]):
                    _change(context, found, lv, profile, named)
        except LamellaError as error:
            context.console.fail_with(error)


def _by_name(context: Context, chosen: ChosenGroup) -> bool:
    """Whether the volumes are named, and not those of a group or with a tag."""
    return chosen.lvs is not None and any(not text.startswith("@") for text in context.args.positionals)


def _passed_over(context: Context, found: FoundGroup, lv: LogicalVolume, named: bool) -> bool:
    """Whether an option is not for this kind of volume, which nobody named; says so."""
    faults = [] if named else _misplaced_options(context, found, lv)
    for fault in faults:
        context.console.warn(fault)
    return bool(faults)


def _check(context: Context, found: FoundGroup, lv: LogicalVolume) -> None:
    """Raise for options that are not for this kind of volume, and for hidden volumes."""
    args, group = context.args, found.group
    full = f"{group.name}/{lv.name}"
    refused = f"Command not permitted on LV {full}."
    if faults := _misplaced_options(context, found, lv):
        raise Failed("\n".join((*faults, refused)))
    if any(args.has(name) for name in UNSUPPORTED if name not in OF_VDO):
        raise other_kind(full, lv.kind)
    if args.has("permission") and lv.thin_pool is not None:
        raise Failed(f"Command on LV {full} uses options invalid with LV type thinpool.\n{refused}")
    if args.has("permission") and any(
        role == "external_origin" for *_, role in group.users().get(lv.name, ())
    ):
        properties = "invalid with LV properties: lv_is_external_origin ."
        raise Failed(f"Command on LV {full} uses options that are {properties}\n{refused}")
    roles = [role for _user, segment, role in group.users().get(lv.name, ()) if segment.kind == "thin-pool"]
    if not group.is_visible(lv) and "pool" not in roles:
        raise Failed(f"Operation not permitted on hidden LV {full}.")


def _misplaced_options(context: Context, found: FoundGroup, lv: LogicalVolume) -> list[str]:
    """What LVM2 says of options that are for other kinds of volumes, or not for one that lacks a disk."""
    command = f"Command on LV {found.group.name}/{lv.name} uses options that"
    said = [
        f"{command} require LV types {kinds} ."
        for kinds, names in REQUIRED.items()
        if any(map(context.args.has, names)) and (kinds != "thinpool" or lv.thin_pool is None)
    ]
    if any(context.args.has(name) for name in NOT_PARTIAL) and lv.name in found.partial_lvs():
        said.append(f"{command} are invalid with LV properties: lv_is_partial .")
    return said


def _change(context: Context, found: FoundGroup, lv: LogicalVolume, profile: str | None, named: bool) -> None:
    from lamella.lvm.operations.lv_changes import change_lv

    args = context.args
    full = f"{found.group.name}/{lv.name}"
    if args.yes("persistent") and lv.thin_pool is not None:
        said = f"Command on LV {full} with invalid LV type thinpool."
        if named:
            context.console.fail(f"{said}\nCommand not permitted on LV {full}.")
        else:
            context.console.warn(said)
        return
    if _passed_over(context, found, lv, named):
        return
    try:
        _check(context, found, lv)
        for name in OF_VDO:
            if args.has(name):  # the other changes are made all the same
                context.console.fail(f"Unable to change {name} for non VDO volume {full}.")
        changes = _changes(context, profile)
        moves = changes.minor is not None and context.session.is_active(found, lv.name)
        if moves:
            question = f"Logical volume {full} will be deactivated temporarily. Continue? [y/n]: "
            if not context.console.confirm(question):
                raise Failed(f"{full} device number not changed.")
            context.session.deactivate(found, [lv.name])
        changed = change_lv(context.session, found, lv, changes, context.console.fail_with)
        if moves:
            context.session.activate(found, [lv.name])
    except LamellaError as error:
        context.console.fail_with(error)
        return
    rewritten = ("addtag", "deltag", "setactivationskip", "metadataprofile", "detachprofile")
    if not changed and any(args.has(name) for name in rewritten):
        context.session.commit(found, ())  # as LVM2, which writes tags whether they are new or not
        changed = True
    if (changed or args.has("setautoactivation")) and not args.yes("persistent"):
        context.console.print(f"Logical volume {full} changed.")


def _changes(context: Context, profile: str | None) -> LvChanges:
    from lamella.lvm.operations.lv_changes import LvChanges

    args = context.args
    wanted = policy(context) or "inherit" if args.has("alloc") else None
    if args.has("contiguous"):
        wanted = "contiguous" if args.yes("contiguous") else "inherit"
    ahead = None
    if args.has("readahead"):
        sectors = read_ahead(context)
        ahead = -1 if sectors is None else sectors
    major, minor = None, None
    if args.has("persistent"):
        major, minor = device_number(context) if args.yes("persistent") else (None, -1)
    return LvChanges(
        args.text("permission") == "rw" if args.has("permission") else None,
        wanted,
        args.tags("addtag"),
        args.tags("deltag"),
        profile,
        ahead,
        minor,
        major,
        args.yes("setactivationskip") if args.has("setactivationskip") else None,
        args.yes("setautoactivation") if args.has("setautoactivation") else None,
        args.yes("zero") if args.has("zero") else None,
        args.text("discards") or None,
        args.yes("errorwhenfull") if args.has("errorwhenfull") else None,
    )


def _of_kernel(context: Context, found: FoundGroup, lvs: list[LogicalVolume]) -> None:
    """``-a``, ``--refresh``, ``--monitor`` and ``--poll``."""
    from lamella.cli.lvm.activation import change_activation, monitor, refresh

    args = context.args
    if args.has("activate"):
        change_activation(context, found, lvs)
        return
    if args.has("refresh"):
        refresh(context, found, lvs)
        return
    view = context.view(found)
    activating = context.config.flag("global/activation")
    if args.has("monitor"):
        monitor(context, found, lvs)
    for lv in lvs:
        active = view.active(lv) or context.session.has_device(found, lv.name)
        # Where there is no kernel, pools are used without being active.
        used = lv.thin_pool is not None and context.activator is None and activating
        if not active and (args.has("poll") or (args.has("monitor") and not used)):
            context.console.fail(f"Logical volume {found.group.name}/{lv.name} is not active.")
