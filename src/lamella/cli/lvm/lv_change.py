# SPDX-License-Identifier: Apache-2.0
"""``lvchange``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.lv_options import read_ahead
from lamella.cli.lvm.targets import choose_volumes, volumes_of
from lamella.cli.lvm.vg_options import metadata_profile
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.operations.lv_changes import LvChanges

CHANGES = (
    "contiguous", "permission", "readahead", "setactivationskip", "zero", "persistent", "addtag", "deltag",
    "alloc", "detachprofile", "metadataprofile", "profile", "setautoactivation", "errorwhenfull",
    "discards",
)  # fmt: skip
"""Options that change metadata; the others change devices in the kernel."""
OF_POOLS = ("zero", "discards", "errorwhenfull")
UNSUPPORTED = (
    "compression", "deduplication", "cachemode", "cachepolicy", "cachesettings", "minrecoveryrate",
    "maxrecoveryrate", "vdosettings", "writebehind", "writemostly", "resync", "syncaction", "rebuild",
)  # fmt: skip
"""For RAID, cache and VDO volumes, which only LVM2 changes."""


def lvchange(context: Context) -> None:
    """Change properties of volumes."""
    args = context.args
    profile = metadata_profile(context)
    for chosen in choose_volumes(context, args.positionals):
        lvs = volumes_of(context, chosen)
        if not lvs:
            continue
        if not any(args.has(name) for name in (*CHANGES, *UNSUPPORTED)):
            _of_kernel(context, chosen.found, lvs)
            continue
        names = [lv.name for lv in lvs]
        try:
            with context.editing(chosen.found.group.name, missing_ok=True) as found:
                for name in names:
                    _change(context, found, found.group.lvs[name], profile)
        except LamellaError as error:
            context.console.fail_with(error)


def _change(context: Context, found: FoundGroup, lv: LogicalVolume, profile: str | None) -> None:
    from lamella.lvm.operations.lv_changes import change_lv

    args = context.args
    full = f"{found.group.name}/{lv.name}"
    try:
        if any(args.has(name) for name in UNSUPPORTED):
            raise Failed(
                f"Command on LV {full} does not accept LV type {lv.kind}.\n"
                f"Command not permitted on LV {full}."
            )
        if any(args.has(name) for name in OF_POOLS) and lv.thin_pool is None:
            raise Failed(
                f"Command on LV {full} uses options that require LV types thinpool .\n"
                f"Command not permitted on LV {full}."
            )
        changes = _changes(context, full, lv, profile)
        moves = changes.minor is not None and context.session.is_active(found, lv.name)
        if moves:
            question = f"Logical volume {full} will be deactivated temporarily. Continue? [y/n]: "
            if not context.console.confirm(question):
                raise Failed(f"{full} device number not changed.")
            context.session.deactivate(found, [lv.name])
        changed = change_lv(context.session, found, lv, changes)
        if moves:
            context.session.activate(found, [lv.name])
    except LamellaError as error:
        context.console.fail_with(error)
        return
    repeated = (
        "addtag", "deltag", "setactivationskip", "setautoactivation", "metadataprofile", "detachprofile",
    )  # fmt: skip
    if not changed and any(args.has(name) for name in repeated):
        context.session.commit(found, ())  # as LVM2, which writes tags whether they are new or not
        changed = True
    if changed:
        context.console.print(f"Logical volume {full} changed.")


def _changes(context: Context, full: str, lv: LogicalVolume, profile: str | None) -> LvChanges:
    from lamella.lvm.operations.lv_changes import LvChanges

    args = context.args
    policy = args.text("alloc") or None
    if args.has("contiguous"):
        policy = "contiguous" if args.yes("contiguous") else "inherit"
    writable = None
    if args.has("permission"):
        writable = args.text("permission") == "rw"
        if writable == lv.writable:
            raise Failed(f'Logical volume "{full}" is already {"writable" if writable else "read only"}.')
    ahead = None
    if args.has("readahead"):
        sectors = read_ahead(context)
        if sectors == lv.read_ahead:
            shown = "auto" if sectors is None else "none" if sectors == 0 else str(sectors)
            raise Failed(f"Read ahead is already {shown} for {full}.")
        ahead = -1 if sectors is None else sectors
    minor = None
    if args.has("persistent"):
        minor = args.number("minor") if args.yes("persistent") else -1
    return LvChanges(
        writable,
        policy,
        args.tags("addtag"),
        args.tags("deltag"),
        profile,
        ahead,
        minor,
        args.number("major") if args.has("major") else 0,
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
    if args.has("monitor"):
        monitor(context, found, lvs)
    for lv in lvs:
        active = view.active(lv)
        if (args.has("poll") and not active) or (args.has("monitor") and not active and lv.thin_pool is None):
            context.console.fail(f"Logical volume {found.group.name}/{lv.name} is not active.")
