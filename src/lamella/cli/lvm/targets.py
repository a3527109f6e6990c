# SPDX-License-Identifier: Apache-2.0
"""The groups, volumes and disks that a command's arguments select: names, tags, ``-S``, or all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.names import Named, group_name, require_group, volume_name
from lamella.cli.lvm.selecting import Selector
from lamella.errors import LamellaError, NotFoundError
from lamella.lvm.format.history import PREFIX
from lamella.lvm.format.names import is_valid_tag
from lamella.lvm.session.session import SameNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.report.view import GroupView


CHANGING = ("vgchange", "vgremove")
"""Commands that leave exported groups out where a tag stands for them, and report them where a name does."""
MISSING_DISKS = (
    "Cannot change VG {} while PVs are missing.\nSee vgreduce --removemissing and vgextend --restoremissing."
)


@dataclass(slots=True, eq=False, repr=False)
class ChosenGroup:
    """A group, and the volumes in it that are selected; *lvs* None: all."""

    found: FoundGroup
    lvs: list[LogicalVolume] | None = None
    removed: list[str] = field(default_factory=list)
    """With *lvs*, the names of removed volumes that are selected as well."""


def choose_groups(
    context: Context,
    arguments: list[str],
    *,
    required: bool = False,
    exported_ok: bool = True,
    missing_ok: bool = True,
) -> list[FoundGroup]:
    """Groups named (or tagged) by *arguments*; without any, all that ``-S`` selects.

    What is not found is reported and counted as a failure. Without *exported_ok*, exported groups are left
    out, and named ones reported. Without *missing_ok*, and without names, every group that lacks disks is
    reported and left out, whether it would be selected or not: LVM2 reads them all so that they can be
    written.
    """
    chosen: list[FoundGroup] = []
    selector = None if context.name.startswith("lv") else Selector(context, "vg")
    if selector is not None:
        selector.check()
    tags = {one[1:] for one in arguments if one.startswith("@")}
    wanted: list[str] = []
    bad: list[str] = []
    for text in arguments:
        try:
            if not text.startswith("@"):
                wanted.append(group_name(text))
            elif not is_valid_tag(text[1:]):
                bad.append(f"Skipping invalid tag: {text}")
        except LamellaError as error:
            bad.append(error.message)
    if bad:
        raise BadCommand("\n".join(bad))
    every: list[FoundGroup] = []
    if tags or (not arguments and not required):
        every = [one for one in context.groups() if missing_ok or not _lacks_disks(context, one)]
    if not arguments:
        chosen = [one for one in every if exported_ok or not one.group.exported]
    for name in dict.fromkeys(wanted):
        found = _usable_group(context, name, exported_ok=exported_ok)
        if found is not None and found not in chosen:
            chosen.append(found)
    tagged = [one for one in every if tags & set(one.group.tags)]
    exported_ok = exported_ok and context.name not in CHANGING
    chosen += [one for one in tagged if one not in chosen and (exported_ok or not one.group.exported)]
    if selector is None:
        return chosen
    return [one for one in chosen if selector.group(context.view(one))]


def _lacks_disks(context: Context, found: FoundGroup) -> bool:
    """Whether the group cannot be written because disks of it are missing; reports it."""
    if not found.partial:
        return False
    name = found.group.name
    with context.processing_group(found):
        context.console.fail(f"{MISSING_DISKS.format(name)}\nCannot process volume group {name}")
    return True


def _usable_group(context: Context, name: str, *, exported_ok: bool = False) -> FoundGroup | None:
    """The group called *name*, or None after reporting why it cannot be used."""
    with context.processing("vg", name):
        return _usable(context, name, exported_ok=exported_ok)


def _usable(context: Context, name: str, *, exported_ok: bool) -> FoundGroup | None:
    try:
        found = require_group(context.session, name)
    except Failed as error:
        context.console.fail(error.message)
        return None
    except SameNameError as error:
        context.console.fail(error.message)
        return None
    except LamellaError as error:
        context.console.fail(f"{error.message}\nCannot process volume group {name}")
        return None
    try:
        context.session.check_owner(found, foreign_ok=context.args.has("foreign"))
    except LamellaError as error:
        context.console.fail_with(error)
        return None
    if not exported_ok and _exported(context, found):
        return None
    return found


def choose_volumes(context: Context, arguments: list[str]) -> list[ChosenGroup]:
    """Volumes named by *arguments*: ``vg``, ``vg/lv``, ``@tag``; without any, all of all groups.

    What is not found is reported and counted as a failure.
    """
    Selector(context, "lv").check()
    named: list[Named] = []
    bad: list[str] = []
    for text in arguments:
        if text.startswith("@") and not is_valid_tag(text[1:]):
            context.console.warn(f"Skipping invalid tag {text}.")
            continue
        try:
            named.append(volume_name(text, blank_ok=True))
        except LamellaError as error:
            bad.append(error.message)
    if bad:
        raise Failed("\n".join(bad))
    if arguments and not named and not context.name.startswith(SHOWING):
        if context.name == "lvremove":
            context.console.failures += 1
        return []  # not all volumes, which is what LVM2's lvremove takes
    if not named:
        return [ChosenGroup(found) for found in context.groups() if not found.group.exported]
    whole: dict[str, bool] = {}
    wanted: dict[str, list[str]] = {}
    for one in named:
        if one.tag:
            continue
        whole.setdefault(one.vg, False)
        if one.lv or one.blank:
            wanted.setdefault(one.vg, []).append(one.lv)
        else:
            whole[one.vg] = True
    chosen = []
    for name, all_of_it in whole.items():
        found = _usable_group(context, name)
        if found is not None:
            chosen.append(_in_group(context, found, all_of_it, wanted.get(name, [])))
    _tagged(context, {one.tag for one in named if one.tag}, chosen)
    return chosen


def _exported(context: Context, found: FoundGroup) -> bool:
    """Whether the group is exported, and so not used; reports it."""
    if found.group.exported:
        context.console.fail(f"Volume group {found.group.name} is exported")
    return found.group.exported


def _in_group(context: Context, found: FoundGroup, all_of_it: bool, names: list[str]) -> ChosenGroup:
    if all_of_it:
        return ChosenGroup(found)
    lvs, removed = [], []
    known = {PREFIX + record.name for record in found.group.historical} if with_history(context) else ()
    for name in dict.fromkeys(names):
        if name in known:
            removed.append(name.removeprefix(PREFIX))
            continue
        try:
            if not name:
                raise NotFoundError(f'Failed to find logical volume "{found.group.name}/"')
            lvs.append(found.group.find_lv(name))
        except NotFoundError as error:
            with (
                context.processing_group(found),
                context.processing("lv", name, group=found.group.name, group_uuid=found.group.uuid),
            ):
                context.console.fail(error.message)
    return ChosenGroup(found, lvs, removed)


SHOWING = ("lvs", "lvdisplay", "lvscan", "fullreport")
"""Commands that change nothing."""


def with_history(context: Context) -> bool:
    """Whether the command may be given removed volumes, as ``vg/-lv``."""
    return context.args.has("history") or context.name == "lvremove"


def _tagged(context: Context, tags: set[str], chosen: list[ChosenGroup]) -> None:
    if not tags:
        return
    for found in context.groups():
        there = next((one for one in chosen if one.found is found), None)
        if tags & set(found.group.tags):
            if there is None:
                chosen.append(ChosenGroup(found))
            else:
                there.lvs = None
            continue
        lvs = [lv for lv in found.group.lvs.values() if tags & set(lv.tags)]
        if not lvs:
            continue
        if there is None:
            chosen.append(ChosenGroup(found, lvs))
        elif there.lvs is not None:
            there.lvs += [lv for lv in lvs if lv not in there.lvs]


def volumes_of(context: Context, chosen: ChosenGroup, *, hidden: bool = False) -> list[LogicalVolume]:
    """The volumes themselves, those that ``-S`` selects, in the group's order."""
    view = context.view(chosen.found)
    lvs = shown_volumes(view, chosen)
    if lvs is None:
        lvs = [*(view.reportable_lvs if hidden else view.visible_lvs), *view.removed]
    selector = Selector(context, "lv")
    return [lv for lv in lvs if selector.lv(view, lv)]


def shown_volumes(view: GroupView, chosen: ChosenGroup) -> list[LogicalVolume] | None:
    """The volumes that are chosen by name, and the removed ones; None for a whole group."""
    if chosen.lvs is None:
        return None
    return [
        *(lv for lv in view.reportable_lvs if lv in chosen.lvs),
        *(lv for lv in view.removed if lv.name in chosen.removed),
    ]


def in_foreign_group(context: Context, disk: Disk) -> bool:
    """Whether the disk belongs to a group of other hosts; then reports that it cannot be used."""
    found = context.session.scan.group_of(disk)
    if found is None:
        return False
    name = found.group.name
    if found.group.clustered:
        context.console.failures += 1  # that the group is skipped is said when the groups are read
        return True
    if found.group.shared and not context.args.has("shared"):
        context.console.fail(f"Cannot use PV {disk.path} in shared VG {name}.")
        return True
    if context.args.has("foreign") or not context.session.is_foreign(found.group):
        return False
    context.console.fail(
        f"{context.environment.foreign_group(found.group)}\n"
        f"Cannot use PV {disk.path} in foreign VG {found.group.name}."
    )
    return True


@dataclass(slots=True, eq=False, repr=False)
class ChosenDisk:
    """A physical volume, and the group that it belongs to, if any."""

    disk: Disk
    found: FoundGroup | None


def disk_tags(arguments: list[str]) -> set[str]:
    """The tags among the arguments for disks. Raises :class:`BadCommand` for what can be none."""
    tags = [one[1:] for one in arguments if one.startswith("@")]
    if bad := [f"Skipping invalid tag {tag}." for tag in tags if not is_valid_tag(tag)]:
        raise BadCommand("\n".join(bad))
    return set(tags)


def reads_all(context: Context, arguments: list[str], wanted: list[Disk], gone: list[str]) -> bool:
    """Whether LVM2 reads every group: for tags, for all disks, or to look for one that is in no group."""
    every = not arguments or bool(gone) or any(one.startswith("@") for one in arguments)
    return every or any(context.session.scan.group_of(disk) is None for disk in wanted)


def named_disks(
    context: Context, arguments: list[str], refuse: Callable[[str], object]
) -> tuple[list[Disk], list[str]]:
    """The disks that are named, and the names of those that are no physical volumes.

    *refuse* is told of those that may not be used at all; :func:`in_foreign_group` of those of other hosts.
    """
    wanted: list[Disk] = []
    gone = []
    scan = context.session.scan
    for path in dict.fromkeys(arguments):
        if path.startswith("@"):
            continue
        disk = scan.disk(path)
        if excluded := context.exclusion(path):
            refuse(f"Cannot use {path}: {excluded}")
        elif disk is None or disk.label is None or scan.is_outdated(disk):
            gone.append(path)
        elif disk not in wanted and not in_foreign_group(context, disk):
            wanted.append(disk)
    return wanted, gone


def choose_disks(context: Context, arguments: list[str], *, select: bool = False) -> list[ChosenDisk]:
    """Physical volumes to change, named (or tagged) by *arguments*, first those of groups; without any, all.

    What is not found, or belongs to an exported group, is reported and counted as a failure. So is every
    group that lacks disks, whether one of its disks would be chosen or not: LVM2 reads all to be written.
    """
    selector = Selector(context, "pv") if select else None
    if selector is not None:
        selector.check()
    scan = context.session.scan
    tags = disk_tags(arguments)
    wanted, gone = named_disks(context, arguments, context.console.fail)
    chosen = []
    groups = []
    for found in context.groups(foreign_said=reads_all(context, arguments, wanted, gone)):
        if _lacks_disks(context, found):
            gone += [path for path in arguments if scan.disk(path) in found.disks.values()]
        else:
            groups.append(found)
    for path in sorted(gone, key=arguments.index):  # after what is said about the groups
        context.console.fail(f'Failed to find physical volume "{path}".')
    for found in groups:
        view = context.view(found)
        for pv in found.group.pvs:
            disk = found.disks.get(pv.uuid)
            if disk is None or (arguments and disk not in wanted and not tags & set(pv.tags)):
                continue
            if selector is not None and not selector.pv(view, pv):
                continue
            if found.group.exported:
                if arguments:
                    context.console.fail(f"Cannot use PV {disk.path} in exported VG {found.group.name}.")
                continue
            chosen.append(ChosenDisk(disk, found))
    orphans = [disk for disk in context.session.read_orphans() if not arguments or disk in wanted]
    if selector is not None:
        orphans = _selected_orphans(context, selector, orphans)
    return chosen + [ChosenDisk(disk, None) for disk in orphans]


def _selected_orphans(context: Context, selector: Selector, disks: list[Disk]) -> list[Disk]:
    from lamella.lvm.report.sources import orphan_view

    view = orphan_view(disks, context.sources)
    held = {pv.uuid for pv in view.orphans if selector.pv(view, pv)}
    return [disk for disk in disks if disk.label is not None and disk.label.uuid in held]
