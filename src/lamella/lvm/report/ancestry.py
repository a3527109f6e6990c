# SPDX-License-Identifier: Apache-2.0
"""Which volumes descend from which, over removed ones that the group remembers, and stand-ins for those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.lvm.format.history import PREFIX, above
from lamella.lvm.format.model import LogicalVolume
from lamella.lvm.format.segments import Segment

if TYPE_CHECKING:
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.report.view import GroupView

SEGMENT = "historical"
"""The type of the one segment that reports show of a removed volume."""


@dataclass(slots=True, eq=False)
class RemovedVolume(LogicalVolume):
    """A removed volume, as reports and selections look at it: without extents."""

    removal_time: int = 0
    """Seconds since 1970."""


def removed_volumes(group: VolumeGroup) -> list[RemovedVolume]:
    """The removed volumes that the group has records of, in its order."""
    return [
        RemovedVolume(
            record.name,
            record.uuid,
            [],
            creation_time=record.creation_time,
            segments=[Segment(SEGMENT, 0, 0)],
            removal_time=record.removal_time,
        )
        for record in group.historical
    ]


def name_with_mark(lv: LogicalVolume) -> str:
    """The volume's name, after "-" if it was removed."""
    return PREFIX + lv.name if isinstance(lv, RemovedVolume) else lv.name


def ancestors(view: GroupView, lv: LogicalVolume, *, over_removed: bool = True) -> list[str]:
    """What the volume was made of, and what that was made of.

    *over_removed* goes on over removed volumes, which are themselves among the names only if the view shows
    them.
    """
    group = view.group
    records = group.historical if over_removed else []
    origins = {PREFIX + record.name: record.origin for record in records}
    found: list[str] = []
    name = name_with_mark(lv)
    while name and name not in found:
        found.append(name)
        if name in origins:
            name = origins[name]
        else:
            other = group.lvs.get(name)
            name = (view.origin_of(other) if other is not None else "") or above(records, name)
    return _shown(view, found[1:])


def descendants(view: GroupView, lv: LogicalVolume, *, over_removed: bool = True) -> list[str]:
    """What was made of the volume, each followed by what was made of that; as :func:`ancestors`."""
    below = {name: [child.name for child in children] for name, children in view.children.items()}
    for record in view.group.historical if over_removed else ():
        below.setdefault(record.origin, []).append(PREFIX + record.name)
        below.setdefault(PREFIX + record.name, []).extend(record.descendants)
    found: list[str] = []
    waiting = [name_with_mark(lv)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            waiting += reversed(below.get(name, ()))
    return _shown(view, found[1:])


def _shown(view: GroupView, names: list[str]) -> list[str]:
    return names if view.with_history else [name for name in names if not name.startswith(PREFIX)]
