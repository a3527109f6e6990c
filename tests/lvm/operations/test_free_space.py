# SPDX-License-Identifier: Apache-2.0
"""Which extents count as unused: those in use, missing or not allocatable never do, or data is lost."""

from __future__ import annotations

import pytest

from lamella.lvm.operations.free_space import Hole, Space, free_space
from tests.lvm.operations.test_allocation import group_of, use


def _holes(spaces: list[Space]) -> list[tuple[str, list[tuple[int, int, int]]]]:
    for space in spaces:
        assert all(hole.space is space for hole in space.holes)
    return [
        (space.pv.device, [(hole.start, hole.count, hole.unreserved) for hole in space.holes])
        for space in spaces
    ]


def test_the_gaps_between_volumes_largest_first() -> None:
    """LVM2 tries the largest first, and of equal ones the one nearer to the start (pv_map.c)."""
    group = group_of(100, 30)
    use(group, "a", (0, 10, 10), (0, 50, 10), (0, 90, 10), (1, 0, 30))
    assert _holes(free_space(group, None)) == [
        ("pv0", [(20, 30, 30), (60, 30, 30), (0, 10, 10)]),
        ("pv1", []),
    ]
    assert [space.free for space in free_space(group, None)] == [70, 0]


def test_no_disk_that_is_missing_or_not_allocatable() -> None:
    group = group_of(10, 20, 30, 40)
    group.pvs[0].status = []
    group.pvs[2].missing = True
    assert not group.pvs[0].allocatable
    assert _holes(free_space(group, None)) == [("pv1", [(0, 20, 20)]), ("pv3", [(0, 40, 40)])]


@pytest.mark.parametrize(
    ("wanted", "holes"),
    [
        (None, [(20, 30, 30), (0, 10, 10)]),
        ([(0, 10)], [(0, 10, 10)]),
        ([(5, 20)], [(5, 5, 5), (20, 5, 5)]),
        ([(10, 10)], []),  # all used
        ([(9, 12)], [(9, 1, 1), (20, 1, 1)]),
        ([(40, 100)], [(40, 10, 10)]),
        ([(30, 5), (3, 2)], [(30, 5, 5), (3, 2, 2)]),
    ],
)
def test_only_the_extents_that_are_named(
    wanted: list[tuple[int, int]] | None, holes: list[tuple[int, int, int]]
) -> None:
    """lvcreate(8): PV:PE-PE restricts the allocation to these extents."""
    group = group_of(50, 50)
    use(group, "a", (0, 10, 10))
    assert _holes(free_space(group, [(group.pvs[0], wanted)])) == [("pv0", holes)]


def test_a_disk_that_is_named_twice_is_one() -> None:
    group = group_of(50, 50)
    one, two = group.pvs
    named = [(one, [(0, 5)]), (two, None), (one, [(10, 6)])]
    assert _holes(free_space(group, named)) == [("pv0", [(10, 6, 6), (0, 5, 5)]), ("pv1", [(0, 50, 50)])]


def test_what_is_taken_from_a_hole() -> None:
    space = free_space(group_of(100), [])
    assert space == []
    space = Space(group_of(100).pvs[0])
    large, small = Hole(space, 0, 20, 20), Hole(space, 50, 10, 10)
    space.holes = [large, small]
    large.unreserved = 3
    space.consume(large, 15)  # what is left of it is the smaller one now
    assert space.holes == [small, large]
    assert (large.start, large.count, large.unreserved) == (15, 5, 5)
    space.consume(small, 5)  # of two that are alike, the one that was there goes first
    assert space.holes == [large, small]
    space.consume(large, 5)
    assert space.holes == [small]
    assert Hole(space, 1, 2).unreserved == 0
