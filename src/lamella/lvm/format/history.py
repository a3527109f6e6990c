# SPDX-License-Identifier: Apache-2.0
"""Removed thin volumes that a group still remembers (``metadata/record_lvs_history``), and what they name.

A record's ``origin`` is a volume's name, or "-" and the name of another record; its ``descendants`` are
volumes, which name no origin themselves. LVM2 cannot read a group in which one of these names leads nowhere
(lib/format_text/import_vsn1.c), and drops records that no volume descends from any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamella.lvm.format.text import Section

PREFIX = "-"
"""Before the name of a record, where a volume's could stand."""


@dataclass(slots=True, eq=False)
class HistoricalVolume:
    """The record of a removed thin volume."""

    name: str
    uuid: str
    creation_time: int = 0
    removal_time: int = 0
    origin: str = ""
    descendants: list[str] = field(default_factory=list)
    extra: Section = field(default_factory=dict)

    def references(self) -> Iterator[tuple[str, str]]:
        """(key, name) of every volume and record that this record names."""
        if self.origin:
            yield "origin", self.origin
        for name in self.descendants:
            yield "descendants", name


def rename(records: Sequence[HistoricalVolume], old: str, new: str) -> None:
    """Let every record that names the volume *old* name *new*."""
    for record in records:
        record.origin = new if record.origin == old else record.origin
        record.descendants = [new if name == old else name for name in record.descendants]


def forget(records: Sequence[HistoricalVolume], name: str) -> None:
    """Take the removed volume *name* out of every record."""
    for record in records:
        record.origin = "" if record.origin == name else record.origin
        record.descendants = [other for other in record.descendants if other != name]


def add(records: list[HistoricalVolume], record: HistoricalVolume, volume: str = "") -> None:
    """Add the record of a volume that is removed: records that name it name the record from now on.

    *volume* is the name that they know it by, if that is not the record's.
    """
    volume = volume or record.name
    for other in records:
        other.origin = PREFIX + record.name if other.origin == volume else other.origin
        other.descendants = [name for name in other.descendants if name != volume]
    records.append(record)


def remove(records: list[HistoricalVolume], record: HistoricalVolume, *, join: bool) -> None:
    """Remove a record. With *join* what descends from it descends from its origin, but a volume cannot be
    said to descend from another one over a removed record: then the connection is lost, as with LVM2.
    """
    records.remove(record)
    for other in records:
        if other.origin == PREFIX + record.name:
            other.origin = record.origin if join else ""
        elif join and record.origin == PREFIX + other.name:
            other.descendants += record.descendants


def outdated(records: Sequence[HistoricalVolume], now: int, retention: int) -> list[HistoricalVolume]:
    """Records of volumes that were removed more than *retention* seconds before *now*; 0 or less: none."""
    if retention <= 0:
        return []
    return [record for record in records if now - record.removal_time > retention]


def above(records: Sequence[HistoricalVolume], name: str) -> str:
    """The record that the volume *name* descends from, as an origin; "" if there is none."""
    return next((PREFIX + record.name for record in records if name in record.descendants), "")


def without_descendants(records: Sequence[HistoricalVolume]) -> list[HistoricalVolume]:
    """The records from which, also through other records, no volume descends; in their order."""
    needed = {record.name for record in records if record.descendants}
    above = {record.name: record.origin.removeprefix(PREFIX) for record in records if _of_record(record)}
    todo = list(needed)
    while todo:
        origin = above.get(todo.pop())
        if origin is not None and origin not in needed:
            needed.add(origin)
            todo.append(origin)
    return [record for record in records if record.name not in needed]


def _of_record(record: HistoricalVolume) -> bool:
    return record.origin.startswith(PREFIX)
