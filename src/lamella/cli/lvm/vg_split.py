# SPDX-License-Identifier: Apache-2.0
"""``vgsplit`` and ``vgmerge``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from lamella.cli.lvm.console import error_lines
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import clinging
from lamella.cli.lvm.names import named_volume, skip_dev
from lamella.cli.lvm.vg_options import metadata_copies
from lamella.errors import LamellaError
from lamella.lvm.format.names import is_valid_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume

NEW_ONLY = ("maxlogicalvolumes", "maxphysicalvolumes", "alloc", "vgmetadatacopies")
"""Options of vgsplit that say what a new group is like."""


def vgsplit(context: Context) -> None:
    """Move disks, or those below a volume, to another group, which is created if there is none."""
    from lamella.lvm.operations.group_split import new_target, split_group
    from lamella.lvm.operations.volume_groups import GroupOptions

    args = context.args
    source_name, name = skip_dev(args.positionals[0]), skip_dev(args.positionals[1])
    if not is_valid_name(name):
        raise Failed(f"Invalid vg name {name}.")
    if name == source_name:
        raise Failed(f'Duplicate volume group name "{name}"')
    options = GroupOptions(
        max_lv=args.number("maxlogicalvolumes"),
        max_pv=args.number("maxphysicalvolumes"),
        policy=args.text("alloc"),
    )
    session = context.session
    with ExitStack() as held:
        held.enter_context(session.all_locked())
        existing = bool(session.scan.named(name))
        source, target = _locked(context, held, source_name, name, existing=existing)
        if target is not None and any(args.has(option) for option in NEW_ONLY):
            raise Failed(f'Volume group "{name}" exists, but new VG option specified')
        pvs = _moved(context, source, args.positionals[2:])
        copies = metadata_copies(context, 0)
        found = target if target is not None else new_target(source, name, options)
        spare = args.yes("poolmetadataspare", default=True)
        split_group(
            session, source, found, pvs, metadata_copies=copies, spare=spare, clinging=clinging(context)
        )
        gone = not source.group.pvs
    if gone and not context.test:
        from lamella.lvm.session.backup import remove_backup

        remove_backup(source_name, context.environment)
    state = "New" if target is None else "Existing"
    context.console.print(f'{state} volume group "{name}" successfully split from "{source_name}"')


def _locked(
    context: Context, held: ExitStack, source: str, target: str, *, existing: bool
) -> tuple[FoundGroup, FoundGroup | None]:
    """Both groups, locked in the order of their names as LVM2 does; no group for a target that is new."""
    found: dict[str, FoundGroup] = {}
    for name in sorted((source, target)):
        if name == target and not existing:
            held.enter_context(context.session.creating(name))
            continue
        try:
            found[name] = _edited(context, held, name)
        except LamellaError as error:
            lines = [*error_lines(error), f"Failed to read VG {target}."]
            raise Failed("\n".join(lines)) from error
    return found[source], found.get(target)


def _edited(context: Context, held: ExitStack, name: str) -> FoundGroup:
    """A group, locked to be changed. Raises :class:`Failed` for a name that no group can have."""
    if not is_valid_name(name):
        raise Failed(f'Volume group name "{name}" has invalid characters.')
    return held.enter_context(context.session.editing(name))


def _moved(context: Context, source: FoundGroup, arguments: Sequence[str]) -> list[PhysicalVolume]:
    """The disks that are named, or those below the volume of ``--name`` and of all that belongs to it."""
    from lamella.lvm.operations.group_members import connected, disks_of

    group = source.group
    if context.args.has("name"):
        given = context.args.text("name")
        try:
            vg, lv = named_volume(given, group.name)
        except BadCommand:
            vg, lv = "", ""
        if vg != group.name or lv not in group.lvs:
            raise Failed(f"Logical volume {given} not in volume group {group.name}")
        chosen = next(volumes for volumes in connected(group) if any(one.name == lv for one in volumes))
        return disks_of(chosen)
    moved: list[PhysicalVolume] = []
    for path in arguments:
        disk = context.session.scan.disk(path)
        pv = group.pv_by_device(disk.path) if disk is not None else None
        if pv is None or pv in moved:
            raise Failed(f"Physical volume {path} not in volume group {group.name}")
        moved.append(pv)
    return moved


def vgmerge(context: Context) -> None:
    """Move everything of a second, inactive group to the first."""
    from lamella.lvm.operations.group_merge import merge_groups

    args = context.args
    target_name, source_name = (skip_dev(text) for text in args.positionals)
    if target_name == source_name:
        raise Failed(f'Duplicate volume group name "{target_name}"')
    session = context.session
    with ExitStack() as held:
        held.enter_context(session.all_locked())
        found = {name: _edited(context, held, name) for name in sorted((target_name, source_name))}
        merge_groups(session, found[target_name], found[source_name])
    context.console.print(f'Volume group "{source_name}" successfully merged into "{target_name}"')
    if args.has("list"):
        from lamella.cli.lvm.vg_display import vgdisplay

        args.positionals[:] = [target_name]
        vgdisplay(context)
