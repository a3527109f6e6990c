# SPDX-License-Identifier: Apache-2.0
"""Removed thin volumes that a group remembers: the records that LVM2 2.03.16 makes in the guest, where
tests/guest/test_lvm_conversions.py compares them with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.lvm.format import history
from lamella.lvm.operations.thin_merge import merge_snapshot
from lamella.lvm.operations.thin_pools import create_pool
from lamella.lvm.operations.thin_volumes import ThinRequest, create_snapshot, create_thin, remove_any
from tests.lvm.memory_groups import find_lv

if TYPE_CHECKING:
    from tests.lvm.memory_groups import Edit


@pytest.fixture
def family(edit: Edit) -> Edit:
    """Volumes a, b of a, c of b, d of c, and e of a."""
    session, found = edit
    pool = create_pool(session, found, "pool", 64)
    create_thin(session, found, pool, 8, ThinRequest("a"))
    for name, origin in (("b", "a"), ("c", "b"), ("d", "c"), ("e", "a")):
        create_snapshot(session, found, find_lv(found, origin), ThinRequest(name))
    session.environment.record_history = True
    return session, found


def records(edit: Edit) -> dict[str, tuple[str, list[str]]]:
    """(origin, descendants) of each record by its name, as the disks have them."""
    session, found = edit
    session.rescan()
    read = session.find(found.group.name)
    return {record.name: (record.origin, record.descendants) for record in read.group.historical}


def test_removed_volumes_are_recorded(family: Edit) -> None:
    session, found = family
    uuid, now = find_lv(found, "b").uuid, session.environment.now()
    for name in ("b", "c", "a"):
        remove_any(session, found, find_lv(found, name))
    assert records(family) == {"b": ("-a", []), "c": ("-b", ["d"]), "a": ("", ["e"])}
    record = found.group.historical[0]
    assert (record.uuid, record.removal_time) == (uuid, now)


def test_records_without_descendants_go(family: Edit) -> None:
    session, found = family
    for name in ("c", "e"):
        remove_any(session, found, find_lv(found, name))
    assert records(family) == {"c": ("b", ["d"])}
    said = [notice.message for notice in session.notices if notice.kind == "history"]
    assert said == ["Automatically removing historical logical volume vg/-e."]
    session.environment.record_history = False
    remove_any(session, found, find_lv(found, "b"))
    assert records(family) == {"c": ("", ["d"])}
    remove_any(session, found, find_lv(found, "d"))
    assert records(family) == {}


def test_a_merge_records_what_the_origin_was(family: Edit) -> None:
    session, found = family
    merge_snapshot(session, found, find_lv(found, "b"))
    assert records(family) == {"b": ("", ["e", "a"])}
    assert [lv.name for lv in found.group.lvs.values()][-1] == "e"


@pytest.mark.parametrize(("join", "expected"), [(True, {"b": ("a", ["d"])}), (False, {"b": ("a", [])})])
def test_outdated_records_are_not_read(
    family: Edit, join: bool, expected: dict[str, tuple[str, list[str]]]
) -> None:
    """Without records (``metadata/record_lvs_history=0``), LVM2 connects nothing over them."""
    session, found = family
    for name in ("b", "c"):
        remove_any(session, found, find_lv(found, name))
    found.group.historical[0].removal_time += 1
    session.commit(found, ())
    session.environment.now = lambda: 1795341835 + 100
    session.environment.record_history = join
    session.environment.history_retention = 99
    assert records(family) == expected
    session.environment.history_retention = -1
    assert len(records(family)) == 2


def test_removing_a_record_of_a_volume_with_a_live_origin() -> None:
    """The text has no place for a live volume that descends from another over a removed one."""
    kept = [history.HistoricalVolume("b", "", origin="a", descendants=["c"])]
    kept.append(history.HistoricalVolume("x", "", origin="-b", descendants=["y"]))
    history.remove(kept, kept[0], join=True)
    assert [(record.name, record.origin, record.descendants) for record in kept] == [("x", "a", ["y"])]
