# SPDX-License-Identifier: Apache-2.0
"""``lvremove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.names import volume_name
from lamella.cli.lvm.processing import each_chosen
from lamella.cli.lvm.targets import choose_volumes, volumes_of
from lamella.errors import LamellaError, NotFoundError
from lamella.lvm.format import history
from lamella.lvm.format.history import PREFIX
from lamella.lvm.operations.logical_volumes import check_removable
from lamella.lvm.report.ancestry import name_with_mark
from lamella.lvm.report.view import pools_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.history import HistoricalVolume
    from lamella.lvm.format.model import LogicalVolume


def lvremove(context: Context) -> None:
    """Remove volumes; a thin pool only after asking, with all that is in it."""
    if context.args.has("nohistory"):
        context.environment.record_history = False
    by_group = None if context.args.has("select") else _named(context.args.positionals)
    if by_group is not None:
        for group, names in by_group.items():
            _remove_from(context, group, names)
        return
    for chosen in each_chosen(context, choose_volumes(context, context.args.positionals)):
        whole = chosen.lvs is None and not context.args.has("select")
        names = [name_with_mark(lv) for lv in volumes_of(context, chosen)]
        if names:
            _remove_from(context, chosen.found.group.name, names, chosen.found.group.uuid, whole=whole)


def _named(arguments: list[str]) -> dict[str, list[str]] | None:
    """Volumes by group where all *arguments* are ``VG/LV``: then no scan is needed beforehand."""
    found: dict[str, list[str]] = {}
    for text in arguments:
        try:
            named = volume_name(text)
        except NotFoundError:
            return None
        if not named.lv:
            return None
        found.setdefault(named.vg, []).append(named.lv)
    return found


def _remove_from(
    context: Context, group: str, names: list[str], uuid: str = "", *, whole: bool = False
) -> None:
    """Remove the volumes, and the records of removed ones; with *whole* all records at the end."""
    try:
        with context.editing(group, uuid, missing_ok=True) as found:
            known = {*found.group.lvs, *(PREFIX + record.name for record in found.group.historical)}
            for name in [name for name in names if name not in known]:
                with context.processing("lv", name, group=group, group_uuid=found.group.uuid):
                    context.console.fail(f'Failed to find logical volume "{group}/{name}"')
            context.session.keep_history = whole
            remove_named(context, found, list(dict.fromkeys(names)), records=None if whole else names)
    except LamellaError as error:
        context.console.fail_with(error)


def remove_all(context: Context, found: FoundGroup) -> None:
    """Remove every visible volume of the group, for vgremove, which has asked already."""
    remove_named(context, found, [lv.name for lv in found.group.visible_lvs()], asked=True)


def remove_named(
    context: Context,
    found: FoundGroup,
    names: list[str],
    *,
    asked: bool = False,
    records: Sequence[str] | None = (),
) -> None:
    """Remove these volumes, those that others need last. Plain ones go in one commit, as with LVM2, and with
    them the records of removed volumes that *records* has as ``-NAME`` (None: all).
    """
    group = found.group
    waiting = [lv.name for lv in pools_first(group.lvs[name] for name in names if name in group.lvs)]
    plain: list[LogicalVolume] = []
    while waiting:
        name = _next(found, waiting)
        waiting.remove(name)
        lv = group.lvs.get(name)
        if lv is None:
            continue
        try:
            _remove_readers(context, found, lv, asked)
            if lv.thin is None and lv.thin_pool is None:
                with context.processing_volume(found, lv):
                    check_removable(group, lv)
                    _deactivate(context, found, lv, asked)
                    group.forget_lv(lv)
                    plain.append(lv)
                continue
            _finish(context, found, plain)
            with context.processing_volume(found, lv):
                _remove(context, found, lv, asked)
        except LamellaError as error:
            context.console.fail_with(error)
    old = [one for one in group.historical if records is None or PREFIX + one.name in records]
    for record in old:
        history.remove(group.historical, record, join=context.environment.record_history)
    _finish(context, found, plain, old)


def _finish(
    context: Context, found: FoundGroup, plain: list[LogicalVolume], records: Sequence[HistoricalVolume] = ()
) -> None:
    """Commit the removal of these volumes and records, and report it."""
    if not plain and not records:
        return
    context.session.commit(found, ())
    for lv in plain:
        with context.processing_volume(found, lv):
            context.console.print(f'Logical volume "{lv.name}" successfully removed.')
    for record in records:
        with context.processing("lv", "", group=found.group.name, group_uuid=found.group.uuid):
            context.console.print(f'Historical logical volume "{record.name}" successfully removed.')
    plain.clear()


def _deactivate(context: Context, found: FoundGroup, lv: LogicalVolume, asked: bool) -> None:
    """Deactivate the volume if it is active: after asking, and not while it is in use."""
    session = context.session
    kernel = session.kernel(found)
    if kernel is None or not session.is_active(found, lv.name):
        return
    full = f"{found.group.name}/{lv.name}"
    kernel.check_unused(found, lv.name)
    question = f"Do you really want to remove active logical volume {full}? [y/n]: "
    if (merging := found.group.merging_snapshot(lv)) is not None:
        question = (
            f"Do you really want to remove active merging origin logical volume {full} "
            f"with snapshot {found.group.name}/{merging.name}? [y/n]: "
        )
    if not asked and found.group.is_visible(lv) and not context.console.confirm(question):
        raise Failed(f"Logical volume {full} not removed.")
    session.deactivate(found, [lv.name])


def _next(found: FoundGroup, waiting: list[str]) -> str:
    """The first volume that is not the external origin of another one to be removed."""
    lvs = [found.group.lvs[name] for name in waiting if name in found.group.lvs]
    needed = {lv.thin.external_origin for lv in lvs if lv.thin is not None}
    return next((lv.name for lv in lvs if lv.name not in needed), waiting[0])


def _confirm_dependent(context: Context, what: str, full: str, count: int) -> None:
    """Ask before volumes that were not named are removed too. Raises :class:`Failed`."""
    question = f"Removing {what} will remove {count} dependent volume(s). Proceed? [y/n]: "
    if not context.console.confirm(question):
        raise Failed(f"Logical volume {full} not removed.")


def _remove_readers(context: Context, found: FoundGroup, lv: LogicalVolume, asked: bool) -> None:
    """Remove the thin volumes that read from the external origin *lv*, and cannot be without it."""
    group = found.group
    readers = [user for user, _segment, role in group.users().get(lv.name, ()) if role == "external_origin"]
    if not readers:
        return
    full = f"{group.name}/{lv.name}"
    if not asked:
        _confirm_dependent(context, f"external origin {full}", full, len(readers))
    for reader in readers:
        if reader.name in group.lvs:
            _remove_readers(context, found, reader, True)
            _remove(context, found, reader, asked)


def _remove(context: Context, found: FoundGroup, lv: LogicalVolume, asked: bool) -> None:
    from lamella.lvm.operations.thin_volumes import remove_any

    group = found.group
    if lv.thin_pool is not None:
        inside = group.thin_volumes(lv)
        if inside and not asked:
            _confirm_dependent(
                context, f"pool {group.name}/{lv.name}", f"{group.name}/{lv.name}", len(inside)
            )
        for one in (*inside, lv):
            _deactivate(context, found, one, asked)
        names = [one.name for one in inside]
        remove_any(context.session, found, lv)
        for name in names:
            context.console.print(f'Logical volume "{name}" successfully removed.')
    else:
        _deactivate(context, found, lv, asked)
        remove_any(context.session, found, lv)
    context.console.print(f'Logical volume "{lv.name}" successfully removed.')
