# SPDX-License-Identifier: Apache-2.0
"""A copy of a group becomes a group of its own, and the originals are never written: vgimportclone(8)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from lamella.lvm.disks.scan import scan
from lamella.lvm.operations.group_clone import free_name, import_clone
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from tests.lvm.memory_groups import group_on, memory_disks, session_on
from tests.support.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lamella.block import BlockDevice


def group_with_volume() -> dict[str, BlockDevice]:
    disks: dict[str, BlockDevice] = dict(memory_disks(2))
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(5, "lin"))
    return disks


def clone(disks: Mapping[str, BlockDevice]) -> None:
    with session_on(disks) as session, session.editing("vg", exported_ok=True, active_ok=True) as found:
        import_clone(session, found, "vg1")


@pytest.mark.parametrize(
    ("base", "taken", "wanted"),
    [
        ("", {"vg"}, "vg1"),
        ("", {"vg", "vg1"}, "vg2"),
        ("new", {"vg"}, "new"),
        ("vg", {"vg"}, "vg1"),
        ("new", {"new", "new1"}, "new2"),
    ],
)
def test_names(base: str, taken: set[str], wanted: str) -> None:
    assert free_name("vg", base, taken) == wanted


def test_identity_is_new_and_volumes_stay() -> None:
    disks = group_with_volume()
    (before,) = scan([], given=disks).groups
    uuid, pvs, lv = before.group.uuid, {pv.uuid for pv in before.group.pvs}, before.group.lvs["lin"].uuid
    clone(disks)
    (after,) = scan([], given=disks).groups
    assert after.group.name == "vg1"
    assert after.group.uuid != uuid
    assert not after.missing
    assert not pvs & {pv.uuid for pv in after.group.pvs}
    assert after.group.lvs["lin"].uuid == lv


def test_a_power_cut(tmp_path: Path) -> None:
    """Whatever is on the disks is one group with all its volumes; after the end it is whole."""
    plain = group_with_volume()
    recording = Recording(tmp_path)
    clone(recording.wrap_all(plain, atomic=512))
    recording.mark("cloned")
    seen = set()
    for crash in recording.crashes(random.Random(1), subsets=2):
        found = scan([], given=crash.devices).groups
        names = {one.group.name for one in found}
        seen.add(frozenset(names))
        assert names <= {"vg", "vg1"}, crash.what
        assert found, crash.what
        assert all("lin" in one.group.lvs for one in found), crash.what
        if crash.finished:
            assert names == {"vg1"}, crash.what
            assert not found[0].missing, crash.what
    assert len(seen) > 1
    recording.close()
