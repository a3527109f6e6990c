# SPDX-License-Identifier: Apache-2.0
"""Splitting and merging groups: pools stay whole, a power cut loses nothing. LVM2's answers are compared in
tests/lvm/differential.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError, ExistsError, UsageError
from lamella.lvm.disks.scan import scan
from lamella.lvm.operations.extent_ranges import parse_pv_ranges
from lamella.lvm.operations.group_merge import merge_groups
from lamella.lvm.operations.group_split import new_target, split_group
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.thin_messages import opened_pool
from lamella.lvm.operations.thin_pools import PoolRequest, create_pool
from lamella.lvm.operations.thin_volumes import ThinRequest, create_thin
from lamella.lvm.operations.volume_groups import GroupOptions
from tests.lvm.crash_invariants import check_areas
from tests.lvm.memory_groups import find_lv, group_on, memory_disks, session_on
from tests.support.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.lvm.disks.scan import FoundGroup


def filled(disks: Mapping[str, BlockDevice]) -> None:
    """A pool with a thin volume on the first two disks, and a linear volume on the third."""
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        first = parse_pv_ranges(found, ["disk0", "disk1"], lambda notice: None)
        last = parse_pv_ranges(found, ["disk2"], lambda notice: None)
        pool = create_pool(session, found, "pool", 10, PoolRequest(ranges=first))
        create_thin(session, found, pool, 20, ThinRequest("thin"))
        create_lv(session, found, LvRequest(5, "lin", ranges=last))
        with opened_pool(found, pool) as engine:
            engine.open_volume(1, 4096).write(0, b"kept".ljust(4096))
            engine.commit()


def split(disks: Mapping[str, BlockDevice], *names: str) -> None:
    with session_on(disks) as session, ExitStack() as held:
        held.enter_context(session.creating("new"))
        found = held.enter_context(session.editing("vg"))
        pvs = [pv for pv in found.group.pvs if pv.device in names]
        split_group(session, found, new_target(found, "new", GroupOptions()), pvs)


def merge(disks: Mapping[str, BlockDevice]) -> None:
    with (
        session_on(disks) as session,
        session.all_locked(),
        session.editing("new") as source,
        session.editing("vg") as target,
    ):
        merge_groups(session, target, source)


def groups(disks: Mapping[str, BlockDevice]) -> dict[str, FoundGroup]:
    return {found.group.name: found for found in scan([], given=disks).groups}


def content(found: FoundGroup) -> bytes:
    with opened_pool(found, find_lv(found, "pool"), read_only=True) as engine:
        return engine.open_volume(1, 4096, read_only=True).read(0, 4)


def test_a_pool_moves_with_its_disks_and_back() -> None:
    disks = memory_disks(3)
    filled(disks)
    split(disks, "disk0", "disk1")
    there = groups(disks)
    assert set(there["vg"].group.lvs) == {"lin"}
    assert {"pool", "pool_tdata", "pool_tmeta", "thin"} < set(there["new"].group.lvs)
    assert content(there["new"]) == b"kept"
    merge(disks)
    (whole,) = groups(disks).values()
    assert {"lin", "pool", "thin"} < set(whole.group.lvs)
    assert [pv.device for pv in whole.group.pvs] == ["disk2", "disk0", "disk1"]
    assert content(whole) == b"kept"


@pytest.mark.parametrize("name", ["disk0", "disk1"])
def test_a_pool_is_not_torn(name: str) -> None:
    """LVM2 2.03.16 takes the disk with the metadata, and leaves a group that it cannot write."""
    disks = memory_disks(3)
    filled(disks)
    before = {path: disk.read(0, disk.size) for path, disk in disks.items()}
    with pytest.raises(UsageError, match="Can't split pool data and metadata pool between two Volume Groups"):
        split(disks, name)
    assert {path: disk.read(0, disk.size) for path, disk in disks.items()} == before


def test_copies_are_not_merged() -> None:
    """Two groups with one volume's UUID: LVM2's text could hold only one of the volumes."""
    disks = memory_disks(4)
    filled({name: disks[name] for name in ("disk0", "disk1", "disk2")})
    group_on({"disk3": disks["disk3"]}, "new")
    with session_on(disks) as session, session.editing("new") as found:
        create_lv(session, found, LvRequest(3, "other"))
        found.group.lvs["other"].uuid = session.find("vg").group.lvs["lin"].uuid
        session.commit(found)
    with pytest.raises(ExistsError, match="one of them is a copy"):
        merge(disks)


def test_the_last_metadata_area_is_not_taken() -> None:
    disks = memory_disks(3)
    filled(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        for copy in found.copies[:2]:
            copy.problem = "header"
        with pytest.raises(UsageError, match="Cannot remove final metadata areas from vg"):
            split_group(session, found, new_target(found, "new", GroupOptions()), found.group.pvs[2:])


def test_not_resizeable() -> None:
    disks = memory_disks(3)
    filled(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        found.group.status.remove("RESIZEABLE")
        session.commit(found)
    with pytest.raises(BusyError, match=r"^Volume group vg is not resizeable\.$"):
        split(disks, "disk2")


@pytest.mark.parametrize("moved", [("disk2",), ("disk0", "disk1"), ("disk0", "disk1", "disk2")])
def test_a_power_cut_while_splitting(tmp_path: Path, moved: tuple[str, ...]) -> None:
    """No volume is ever in no group, and a group that is not complete yet is exported: nothing uses it."""
    plain: dict[str, BlockDevice] = dict(memory_disks(3))
    filled(plain)
    names = set(groups(plain)["vg"].group.lvs)
    recording = Recording(tmp_path)
    split(recording.wrap_all(plain, atomic=512), *moved)
    wanted = {name: set(found.group.lvs) for name, found in groups(plain).items()}
    recording.mark(wanted)
    seen = set()
    for crash in recording.crashes(random.Random(1), subsets=2):
        there = groups(crash.devices)
        check_areas(crash.devices, crash.what, held=False)
        usable = {name for name, found in there.items() if not found.group.exported}
        seen.add((frozenset(there), frozenset(usable)))
        assert names - {"lvol0_pmspare"} <= {lv for found in there.values() for lv in found.group.lvs}, (
            crash.what
        )
        listed = {name: set(found.group.lvs) for name, found in there.items()}
        assert listed == wanted or not crash.finished, crash.what
    assert len(seen) > 1
    recording.close()


def test_a_power_cut_while_merging(tmp_path: Path) -> None:
    plain: dict[str, BlockDevice] = dict(memory_disks(3))
    filled(plain)
    split(plain, "disk2")
    names = {lv for found in groups(plain).values() for lv in found.group.lvs}
    recording = Recording(tmp_path)
    merge(recording.wrap_all(plain, atomic=512))
    recording.mark("merged")
    for crash in recording.crashes(random.Random(1), subsets=2):
        there = groups(crash.devices)
        check_areas(crash.devices, crash.what, held=False)
        assert names <= {lv for found in there.values() for lv in found.group.lvs}, crash.what
        assert set(there) == {"vg"} or not crash.finished, crash.what
    recording.close()
