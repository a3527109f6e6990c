# SPDX-License-Identifier: Apache-2.0
"""Go through groups, volumes and disks so that the command log has what is said about each of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.targets import ChosenDisk, ChosenGroup
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.report.view import GroupView

ORPHAN = ("orphan", "lvm2")
"""The log's names for the group of disks in no group."""


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
        with owned_disk(context, chosen.found, chosen.disk.path, uuid):
            yield chosen


def each_shown(context: Context, view: GroupView) -> Iterator[PhysicalVolume]:
    """The physical volumes of a view that are to be shown."""
    name, owner = _names(view)
    with context.processing(*name):
        for pv in _shown(view):
            with context.processing("pv", pv.device, pv.uuid, **owner):
                yield pv


@contextmanager
def owned_disk(context: Context, found: FoundGroup | None, path: str, uuid: str) -> Iterator[None]:
    """What is said meanwhile is about a physical volume, within its group or as an orphan."""
    owner = context.processing(*ORPHAN) if found is None else context.processing_group(found)
    with owner, context.processing_disk(found, path, uuid):
        yield


def _names(view: GroupView) -> tuple[tuple[str, ...], dict[str, str]]:
    """The log's names for what a view is of, and for the group of what is in it."""
    vg = view.vg
    if vg is None:
        return ORPHAN, {}
    return ("vg", vg.name, vg.uuid), {"group": vg.name, "group_uuid": vg.uuid}


def _shown(view: GroupView) -> Iterable[PhysicalVolume]:
    if view.shown_pvs is not None:
        return view.shown_pvs
    return view.vg.pvs if view.vg is not None else view.orphans


def log_reported(context: Context, kind: str, views: Iterable[GroupView]) -> None:
    """Log, as successes, the objects that a report of *kind* is about."""
    log = context.console.log
    if log is None:
        return
    for view in views:
        name, owner = _names(view)
        with context.processing(*name):
            if kind in ("lv", "seg") and view.vg is not None:
                for lv in view.shown_lvs if view.shown_lvs is not None else view.visible_lvs:
                    log.succeeded("lv", lv.name, lv.uuid, **owner)
            elif kind in ("pv", "pvseg"):
                for pv in _shown(view):
                    log.succeeded("pv", pv.device, pv.uuid, **owner)
