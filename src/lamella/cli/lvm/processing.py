# SPDX-License-Identifier: Apache-2.0
"""Go through groups, volumes and disks so that the command log has what is said about each of them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.targets import ChosenDisk, ChosenGroup
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.report.view import GroupView


def each_group(context: Context, groups: Iterable[FoundGroup]) -> Iterator[FoundGroup]:
    """The groups, one after the other."""
    for found in groups:
        with context.processing_group(found):
            yield found


def each_chosen(context: Context, groups: Iterable[ChosenGroup]) -> Iterator[ChosenGroup]:
    """Likewise groups with chosen volumes."""
    for chosen in groups:
        with context.processing_group(chosen.found):
            yield chosen


def each_volume(context: Context, found: FoundGroup, lvs: Iterable[LogicalVolume]) -> Iterator[LogicalVolume]:
    """Volumes of the group that is processed."""
    for lv in lvs:
        with context.processing_volume(found, lv):
            yield lv


def each_pv(context: Context, found: FoundGroup, pvs: Iterable[PhysicalVolume]) -> Iterator[PhysicalVolume]:
    """Physical volumes of the group that is processed."""
    for pv in pvs:
        with context.processing_disk(found, pv.device, pv.uuid):
            yield pv


def each_disk(context: Context, disks: Iterable[ChosenDisk]) -> Iterator[ChosenDisk]:
    """Physical volumes, within their groups or as orphans."""
    for chosen in disks:
        uuid = chosen.disk.label.uuid if chosen.disk.label is not None else ""
        with ExitStack() as held:
            held.enter_context(_owner(context, chosen.found))
            held.enter_context(context.processing_disk(chosen.found, chosen.disk.path, uuid))
            yield chosen


def each_shown(context: Context, view: GroupView) -> Iterator[PhysicalVolume]:
    """The physical volumes of a view that are to be shown."""
    vg = view.vg
    name = ("vg", vg.name, vg.uuid) if vg is not None else ("orphan", "lvm2")
    owner = {"group": vg.name, "group_uuid": vg.uuid} if vg is not None else {}
    with context.processing(*name):
        for pv in view.shown_pvs if view.shown_pvs is not None else vg.pvs if vg else view.orphans:
            with context.processing("pv", pv.device, pv.uuid, **owner):
                yield pv


def _owner(context: Context, found: FoundGroup | None) -> ExitStack:
    held = ExitStack()
    held.enter_context(
        context.processing("orphan", "lvm2") if found is None else context.processing_group(found)
    )
    return held


def log_reported(context: Context, kind: str, views: Iterable[GroupView]) -> None:
    """Log, as successes, the objects that a report of *kind* is about."""
    log = context.console.log
    if log is None:
        return
    for view in views:
        vg = view.vg
        name = ("vg", vg.name, vg.uuid) if vg is not None else ("orphan", "lvm2")
        owner = {"group": vg.name, "group_uuid": vg.uuid} if vg is not None else {}
        with context.processing(*name):
            if kind in ("lv", "seg") and vg is not None:
                for lv in view.shown_lvs if view.shown_lvs is not None else view.visible_lvs:
                    log.succeeded("lv", lv.name, lv.uuid, **owner)
            elif kind in ("pv", "pvseg"):
                disks = vg.pvs if vg is not None else view.orphans
                for pv in view.shown_pvs if view.shown_pvs is not None else disks:
                    log.succeeded("pv", pv.device, pv.uuid, **owner)
