# SPDX-License-Identifier: Apache-2.0
"""The extents that LVM2 2.03.16 gave to some hundred random requests (scripts/fixtures/allocation.py)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from scripts.fixtures.allocation import listed

from lamella.errors import NoSpaceError
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.format.segments import merged
from lamella.lvm.operations.allocation import Clinging, allocate
from tests.conftest import fixture_path

if TYPE_CHECKING:
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.operations.allocation_result import Allocation

Case = dict[str, Any]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    found: list[Case] = json.loads(zstandard.decompress(fixture_path("allocation.json.zst").read_bytes()))
    return found


def ours(group: VolumeGroup, case: Case) -> Allocation:
    """What we allocate for the case's request."""
    request = case["request"]
    disks = {pv.device: pv for pv in group.pvs}
    ranges = [
        (disks[f"disk{disk}"], None if pairs is None else [(first, count) for first, count in pairs])
        for disk, pairs in request["ranges"]
    ]
    volume = group.lvs[request["volume"]] if request["volume"] else None
    return allocate(
        group,
        request["extents"],
        stripes=request["stripes"],
        policy=request["policy"] or (volume.allocation_policy if volume else ""),
        ranges=ranges or None,
        volume=volume,
        approximate=request["approximate"],
        clinging=Clinging(tuple(request["cling_tags"]), request["maximise_cling"]),
        name="new",
    )


def test_the_same_extents_as_lvm2(cases: list[Case]) -> None:
    count = 0
    for number, case in enumerate(cases):
        if "segments" not in case:
            continue
        group = read_group(case["group"])
        result = ours(group, case)
        before = group.lvs[case["request"]["volume"]].segments if case["request"]["volume"] else []
        start = sum(segment.extent_count for segment in before)
        stripe_size = 128 if case["request"]["stripes"] > 1 else 0
        after = merged([*before, *result.segments(start, stripe_size)])
        assert listed(after) == case["segments"], f"case {number}: {case['request']}"
        count += 1
    assert count > 200


def test_refused_as_by_lvm2(cases: list[Case]) -> None:
    """With its message, which says how much is missing."""
    count = 0
    for number, case in enumerate(cases):
        error = case.get("error", "")
        if not error.startswith("Insufficient suitable"):
            continue
        with pytest.raises(NoSpaceError) as caught:
            ours(read_group(case["group"]), case)
        assert caught.value.message == error, f"case {number}: {case['request']}"
        count += 1
    assert count > 20
