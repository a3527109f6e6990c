# SPDX-License-Identifier: Apache-2.0
"""Policies of allocation. That LVM2 chooses the same extents is tested in test_with_lvm2.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import LamellaError, NoSpaceError, UsageError
from lamella.lvm.format.group_checks import check_extents
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.model import LogicalVolume, VolumeGroup
from lamella.lvm.format.physical_volume import PhysicalVolume
from lamella.lvm.format.segments import Area, StripedSegment, merged
from lamella.lvm.operations.allocation import Clinging, allocate


def group_of(*sizes: int) -> VolumeGroup:
    group = VolumeGroup("vg", new_uuid())
    for number, size in enumerate(sizes):
        group.pvs.append(PhysicalVolume(new_uuid(), f"pv{number}", pe_count=size))
    return group


def use(group: VolumeGroup, name: str, *runs: tuple[int, int, int]) -> LogicalVolume:
    """A linear volume over (disk, first extent, count)."""
    lv = LogicalVolume(name, new_uuid())
    at = 0
    for pv, start, count in runs:
        segment = StripedSegment("striped", at, count)
        segment.mapped = [Area(group.pvs[pv], start)]
        lv.segments.append(segment)
        at += count
    group.lvs[name] = lv
    return lv


def taken(group: VolumeGroup, extents: int, **how: object) -> list[list[tuple[str, int, int]]]:
    result = allocate(group, extents, **how)  # type: ignore[arg-type] # keywords are passed on as they are
    return [[(run.pv.device, run.start, run.length) for run in runs] for runs in result.stripes]


def test_a_small_hole_that_is_large_enough() -> None:
    """Not always the smallest: LVM2 passes over a hole that it has moved behind the one it looks at."""
    group = group_of(100)
    use(group, "a", (0, 10, 10), (0, 50, 10), (0, 65, 35))
    assert taken(group, 5) == [[("pv0", 0, 5)]]
    assert taken(group, 8) == [[("pv0", 0, 8)]]
    assert taken(group, 20) == [[("pv0", 20, 20)]]
    assert taken(group, 35) == [[("pv0", 20, 30), ("pv0", 0, 5)]]


def test_contiguous_and_cling() -> None:
    group = group_of(50, 50)
    lv = use(group, "lv", (0, 0, 10))
    use(group, "next", (0, 15, 10))
    assert taken(group, 5, volume=lv, policy="contiguous") == [[("pv0", 10, 5)]]
    with pytest.raises(NoSpaceError, match="contiguous allocatable extents for logical volume lv: 1 more"):
        allocate(group, 6, volume=lv, policy="contiguous")
    assert taken(group, 30, volume=lv, policy="cling") == [[("pv0", 10, 5), ("pv0", 25, 25)]]
    with pytest.raises(NoSpaceError, match="1 more required"):
        allocate(group, 31, volume=lv, policy="cling")
    assert taken(group, 31, volume=lv)[0][-1] == ("pv1", 0, 1)


@pytest.mark.parametrize("tags", [["@site_a"], ["@*"]])
def test_cling_by_tags(tags: list[str]) -> None:
    group = group_of(20, 20, 20)
    group.pvs[0].tags, group.pvs[2].tags = ["site_a"], ["site_a", "fast"]
    lv = use(group, "lv", (0, 0, 20))
    with pytest.raises(NoSpaceError):
        allocate(group, 10, volume=lv, policy="cling")
    assert taken(group, 10, volume=lv, policy="cling", clinging=Clinging(tuple(tags))) == [[("pv2", 0, 10)]]


def test_stripes_lie_on_different_disks() -> None:
    group = group_of(30, 20, 10)
    assert taken(group, 20, stripes=2) == [[("pv0", 0, 10)], [("pv1", 0, 10)]]
    with pytest.raises(NoSpaceError):
        allocate(group, 60, stripes=3)
    both = taken(group, 40, stripes=4, policy="anywhere")
    assert len(both) == 4
    with pytest.raises(UsageError, match="divisible by 3"):
        allocate(group, 10, stripes=3)


def test_pools_put_metadata_on_another_disk() -> None:
    group = group_of(100, 100)
    result = allocate(group, 50, metadata_extents=4)
    assert result.metadata is not None
    assert (result.metadata.pv.device, result.metadata.start) == ("pv1", 0)
    single = group_of(100)
    result = allocate(single, 50, metadata_extents=4)
    assert result.metadata is not None
    assert (result.stripes[0][0].start, result.metadata.start) == (0, 50)
    with pytest.raises(NoSpaceError):
        allocate(single, 50, metadata_extents=4, separate_metadata=True)


def test_disks_that_are_not_to_be_used() -> None:
    group = group_of(10, 10, 10)
    group.pvs[0].status = []
    group.pvs[1].missing = True
    assert taken(group, 10) == [[("pv2", 0, 10)]]
    with pytest.raises(NoSpaceError, match="11 extents needed, but only 10 available"):
        allocate(group, 11)
    assert taken(group, 11, approximate=True) == [[("pv2", 0, 10)]]
    with pytest.raises(UsageError, match="not an allocation policy"):
        allocate(group, 1, policy="wild")


def test_ranges_are_kept_to() -> None:
    group = group_of(100, 100)
    ranges = [(group.pvs[1], [(10, 5), (50, 50)])]
    assert taken(group, 5, ranges=ranges) == [[("pv1", 10, 5)]]
    assert taken(group, 55, ranges=ranges) == [[("pv1", 50, 50), ("pv1", 10, 5)]]
    with pytest.raises(NoSpaceError):
        allocate(group, 56, ranges=ranges)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(5, 60), min_size=1, max_size=4),
    st.lists(
        st.tuples(
            st.integers(1, 40),
            st.integers(1, 3),
            st.sampled_from(["contiguous", "cling", "normal", "anywhere"]),
            st.booleans(),
        ),
        max_size=12,
    ),
)
def test_whatever_is_asked_extents_are_used_once(
    sizes: list[int], requests: list[tuple[int, int, str, bool]]
) -> None:
    group = group_of(*sizes)
    last: LogicalVolume | None = None
    for number, (extents, stripes, policy, extend) in enumerate(requests):
        extents *= stripes
        free = group.free_extents()
        volume = last if extend else None
        try:
            result = allocate(group, extents, stripes=stripes, policy=policy, volume=volume)
        except LamellaError:
            assert group.free_extents() == free
            if policy == "anywhere" and stripes == 1:
                assert free < extents
            continue
        assert result.extents == extents
        if volume is None:
            volume = last = LogicalVolume(f"lv{number}", new_uuid())
            group.lvs[volume.name] = volume
        volume.segments = merged([*volume.segments, *result.segments(volume.extents, 128)])
        check_extents(group)
        assert group.free_extents() == free - extents
        if policy != "anywhere":
            for segment in result.segments(0, 128):
                devices = [area.pv for area in segment.areas()]
                assert len(set(map(id, devices))) == len(devices)
        if policy == "contiguous":
            assert len(result.stripes[0]) == 1


@pytest.mark.parametrize("policy", ["", "inherit"])
def test_a_volume_without_a_policy_has_its_groups(policy: str) -> None:
    """lvm(8): "inherit" is the volume group's policy."""
    group = group_of(10, 10)
    group.allocation_policy = "contiguous"
    with pytest.raises(NoSpaceError):
        allocate(group, 15, policy=policy)
    group.allocation_policy = "normal"
    assert taken(group, 15, policy=policy) == [[("pv0", 0, 10), ("pv1", 0, 5)]]


@pytest.mark.parametrize("stripes", [2, 3])
def test_extents_are_the_same_on_each_stripe(stripes: int) -> None:
    with pytest.raises(UsageError) as caught:
        allocate(group_of(10, 10, 10), 7, stripes=stripes)
    assert caught.value.message == f"Number of extents requested (7) needs to be divisible by {stripes}."


@pytest.mark.parametrize("tags", [["@"], ["asite_a"]])
def test_only_tags_with_an_at_sign_hold_disks_together(tags: list[str]) -> None:
    """lvm.conf(5), allocation/cling_tag_list: "@" and the tag's name, or "@*"."""
    group = group_of(10, 10)
    group.pvs[0].tags = group.pvs[1].tags = ["site_a", ""]
    lv = use(group, "lv", (0, 0, 10))
    with pytest.raises(NoSpaceError):
        allocate(group, 5, volume=lv, policy="cling", clinging=Clinging(tuple(tags)))


def test_cling_is_maximised_unless_it_is_turned_off() -> None:
    """lvm.conf: allocation/maximise_cling is 1 by default."""
    group = group_of(20, 20)
    lv = use(group, "lv", (0, 0, 5), (1, 0, 5))
    use(group, "next", (0, 5, 1), (1, 5, 1))
    assert taken(group, 5, volume=lv, policy="cling") == [[("pv0", 6, 5)]]
    assert taken(group, 5, volume=lv, policy="cling", clinging=Clinging(maximise=False)) == [[("pv1", 6, 5)]]
