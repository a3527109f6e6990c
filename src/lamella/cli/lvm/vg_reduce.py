# SPDX-License-Identifier: Apache-2.0
"""``vgreduce`` and ``vgremove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.names import require_group, skip_dev
from lamella.cli.lvm.processing import each_group, each_pv
from lamella.cli.lvm.targets import choose_groups, disk_tags
from lamella.errors import LamellaError
from lamella.lvm.session.session import ForeignGroupError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume


def vgreduce(context: Context) -> None:
    """Remove unused disks from a group; ``--removemissing``: the missing ones."""
    args = context.args
    name = skip_dev(args.positionals[0])
    missing = args.has("removemissing")
    with context.session.all_locked():
        try:
            require_group(context.session, name)
            with context.editing(name, missing_ok=missing) as found:
                if missing:
                    _remove_missing(context, found)
                else:
                    _reduce(context, found)
        except ForeignGroupError as error:
            gone = [f"Cannot use PV {path} in foreign VG {name}." for path in args.positionals[1:]]
            raise Failed("\n".join((error.message, *gone))) from error
        except Failed as error:
            excluded = [
                (path, context.exclusion(path)) for path in args.positionals[1:] if not path.startswith("@")
            ]
            lost = [f"Cannot use {path}: {why}" for path, why in excluded if why]
            gone = [f'Failed to find physical volume "{path}".' for path, why in excluded if not why]
            raise Failed("\n".join((*lost, error.message, *gone))) from error


def _remove_missing(context: Context, found: FoundGroup) -> None:
    from lamella.lvm.operations.missing_pvs import remove_missing

    name = found.group.name
    force = context.args.has("force")
    if not remove_missing(context.session, found, force=force):
        context.console.print(f'Volume group "{name}" is already consistent.')
        return
    if found.partial:
        context.console.failures += 1
        return
    context.console.print(f"Wrote out consistent volume group {name}.")


def _reduce(context: Context, found: FoundGroup) -> None:
    from lamella.lvm.operations.volume_groups import reduce_group

    for pv in each_pv(context, found, _chosen(context, found)):
        try:
            path = pv.device
            reduce_group(context.session, found, pv)
        except LamellaError as error:
            context.console.fail_with(error)
            continue
        context.console.print(f'Removed "{path}" from volume group "{found.group.name}"')


def _chosen(context: Context, found: FoundGroup) -> list[PhysicalVolume]:
    args = context.args
    if args.has("all"):
        return list(found.group.pvs)
    disk_tags(args.positionals[1:])
    chosen = []
    for path in args.positionals[1:]:
        if path.startswith("@"):
            chosen += [pv for pv in found.group.pvs if path[1:] in pv.tags]
            continue
        disk = context.session.scan.disk(path)
        pv = found.group.pv_by_device(disk.path) if disk is not None else None
        if pv is not None:
            chosen.append(pv)
        elif disk is None:
            context.console.fail(f"Cannot use {path}: device not found")
        else:
            context.console.fail(f'Failed to find physical volume "{path}".')
    return chosen


def vgremove(context: Context) -> None:
    """Remove groups, after asking with all their volumes."""
    with context.session.all_locked():
        named = context.args.positionals
        groups = choose_groups(context, named, required=not context.args.has("select"))
        for chosen in each_group(context, groups):
            try:
                _remove(context, chosen)
            except LamellaError as error:
                context.console.fail_with(error)


def _remove(context: Context, chosen: FoundGroup) -> None:
    from lamella.cli.lvm.lv_remove import remove_all
    from lamella.lvm.operations.volume_groups import remove_group

    force = context.args.has("force")
    name = chosen.group.name
    with context.editing(name, chosen.group.uuid, missing_ok=True) as found:
        count = len(found.group.visible_lvs())
        gone = len(found.missing) + len(found.reappeared)
        if count and not force:
            if gone and not context.args.has("yes"):
                said = f"WARNING: {gone} physical volumes are currently missing from the system."
                context.console.warn(said)
            question = (
                f'Do you really want to remove volume group "{name}" containing {count} '
                "logical volumes? [y/n]: "
            )
            if not context.console.ask(question):
                raise Failed(f'Volume group "{name}" not removed')
        if count:
            remove_all(context, found)
        elif gone and not force and not context.args.has("yes"):
            raise Failed(
                f'Volume group "{name}" not found, is inconsistent or has PVs missing.\n'
                "Consider vgreduce --removemissing if metadata is inconsistent."
            )
        remove_group(context.session, found, force=True)
    context.console.print(f'Volume group "{name}" successfully removed')
