# SPDX-License-Identifier: Apache-2.0
"""Whatever the policy: no extent is given twice, or given that is in use; and all that was asked for is.

Which extents LVM2 chooses is in ``test_allocation_recorded.py``.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import TYPE_CHECKING

import pytest

from lamella.errors import NoSpaceError
from lamella.lvm.format.segments import Area, StripedSegment
from lamella.lvm.operations.allocation import Clinging, allocate
from lamella.lvm.operations.allocation_search import ORDER
from tests.lvm.operations.test_allocation import group_of, taken, use

if TYPE_CHECKING:
    from lamella.lvm.operations.allocation_result import Allocation

POLICIES = tuple(policy for policy in ORDER if policy != "cling_by_tags")
DISKS: tuple[tuple[int, ...], ...] = ((30,), (30, 30), (20, 12, 9), (9, 9, 9, 9))
USED: tuple[tuple[tuple[int, int, int], ...], ...] = ((), ((0, 3, 2),), ((0, 0, 1), (0, 4, 3)))


def is_sound(
    result: Allocation, used: set[tuple[str, int]], extents: int, stripes: int, metadata: int
) -> None:
    runs = [run for stripe in result.stripes for run in stripe]
    assert len(result.stripes) == stripes
    lengths = [[run.length for run in stripe] for stripe in result.stripes]
    assert all(each == lengths[0] for each in lengths), "parallel runs are of one length"
    assert sum(lengths[0]) * stripes == extents == result.extents
    assert (result.metadata is not None) is bool(metadata)
    if result.metadata is not None:
        assert result.metadata.length == metadata
        runs.append(result.metadata)
    given = set(used)
    for run in runs:
        assert (type(run.start), type(run.length)) == (int, int), "a group's text has whole numbers"
        assert run.length > 0
        for extent in range(run.start, run.start + run.length):
            assert 0 <= extent < run.pv.pe_count
            assert (run.pv.device, extent) not in given
            given.add((run.pv.device, extent))


@pytest.mark.parametrize("policy", POLICIES)
def test_extents_are_given_once(policy: str) -> None:
    given = 0
    for sizes, runs, stripes, extents, metadata in product(DISKS, USED, (1, 2, 3), (1, 4, 12), (0, 1, 5)):
        group = group_of(*sizes)
        if runs:
            use(group, "a", *runs)
        used = {(f"pv{disk}", at) for disk, start, count in runs for at in range(start, start + count)}
        try:
            result = allocate(
                group, extents * stripes, stripes=stripes, policy=policy, metadata_extents=metadata
            )
        except NoSpaceError:
            continue
        is_sound(result, used, extents * stripes, stripes, metadata)
        given += 1
    assert given > 100


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stripes", [1, 2])
def test_what_there_is_room_for_is_given(policy: str, stripes: int) -> None:
    """The metadata lie on another disk where there is one; two policies share one without that too."""
    for disks in (stripes, stripes + 1) if policy in ("normal", "anywhere") else (stripes + 1,):
        result = allocate(
            group_of(*[20] * disks), 10 * stripes, stripes=stripes, policy=policy, metadata_extents=4
        )
        is_sound(result, set(), 10 * stripes, stripes, 4)


@pytest.mark.parametrize(
    ("holes", "stripes", "starts"),
    [
        (4, 2, (7, 10)),
        (4, 3, (7, 10, 1)),
        (4, 4, (7, 10, 1, 4)),
        (6, 4, (7, 10, 13, 16)),
        (12, 3, (7, 10, 13)),
    ],
)
def test_stripes_in_holes_of_one_disk(holes: int, stripes: int, starts: tuple[int, ...]) -> None:
    """All have two extents. Where stripes would fill them, LVM2 2.03.16, run on such
    groups, refuses them by the policy "anywhere" too: most holes still count as considered by "normal".
    """
    group = group_of(3 * holes)
    use(group, "a", *((0, 3 * number, 1) for number in range(holes)))
    result = allocate(group, stripes, stripes=stripes, policy="anywhere")
    assert tuple(runs[0].start for runs in result.stripes) == starts
    with pytest.raises(NoSpaceError, match=f"{2 * stripes} more required"):
        allocate(group, 2 * stripes, stripes=stripes, policy="anywhere")


@pytest.mark.parametrize(
    ("sizes", "used", "extents", "expected"),
    [
        ((9, 13), ((0, 2, 1), (0, 5, 1), (1, 6, 1)), 9, ["0:6+2 0:8+1", "0:0+2 1:0+1", "0:3+2 1:7+1"]),
        (
            (10, 7),
            ((0, 8, 1), (1, 3, 1), (1, 5, 1)),
            8,
            ["0:0+1 0:2+1", "1:0+1 1:1+1", "0:1+1 0:3+1", "0:9+1 1:4+1"],
        ),
        (
            (14, 4),
            ((0, 3, 1), (0, 7, 1), (0, 12, 1), (1, 0, 1)),
            6,
            ["0:8+1 0:0+1", "1:1+1 1:2+1", "0:13+1 0:4+1"],
        ),
        ((9, 6), ((0, 1, 3), (0, 7, 1), (1, 4, 1)), 6, ["0:4+1 0:5+1", "1:0+1 1:1+1", "1:5+1 0:0+1"]),
    ],
)
def test_more_stripes_than_disks(
    sizes: tuple[int, ...], used: tuple[tuple[int, int, int], ...], extents: int, expected: list[str]
) -> None:
    """By the policy "anywhere", as LVM2 2.03.16 lays them: it looks no further than at holes enough."""
    group = group_of(*sizes)
    use(group, "a", *used)
    stripes = taken(group, extents, stripes=len(expected), policy="anywhere")
    assert [" ".join(f"{disk[2:]}:{at}+{count}" for disk, at, count in runs) for runs in stripes] == expected


@pytest.mark.parametrize("maximise", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("disks", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_stripes_go_on_one_by_one(disks: tuple[int, int], policy: str, maximise: bool) -> None:
    """Each from where it ends, if the policy is "contiguous" (lvm(8)). LVM2 too refuses two of one disk."""
    group = group_of(40, 40)
    lv = use(group, "lv")
    places = [(disk, 10 * number) for number, disk in enumerate(disks)]
    segment = StripedSegment("striped", 0, 10, stripe_size=8)
    segment.mapped = [Area(group.pvs[disk], start) for disk, start in places]
    lv.segments.append(segment)
    used = {(f"pv{disk}", start + at) for disk, start in places for at in range(5)}
    try:
        result = allocate(
            group, 8, stripes=2, volume=lv, policy=policy, clinging=Clinging((), maximise=maximise)
        )
    except NoSpaceError:
        assert disks[0] == disks[1]
        assert policy != "anywhere"
        return
    is_sound(result, used, 8, 2, 0)
    if policy == "contiguous":
        assert [[(run.pv.device, run.start) for run in stripe] for stripe in result.stripes] == [
            [(f"pv{disk}", start + 5)] for disk, start in places
        ]


@pytest.mark.parametrize("policy", ["normal", "cling"])
def test_fewer_stripes_than_the_volume_begins_with(policy: str) -> None:
    """On the disk of the first segment's last stripe: LVM2 2.03.16 gives this by either policy."""
    group = group_of(20, 20, 20, 20)
    lv = use(group, "lv")
    segment = StripedSegment("striped", 0, 8, stripe_size=8)
    segment.mapped = [Area(pv, 0) for pv in group.pvs]
    last = StripedSegment("striped", 8, 2)
    last.mapped = [Area(group.pvs[0], 2)]
    lv.segments += [segment, last]
    assert taken(group, 5, volume=lv, policy=policy, ranges=[(group.pvs[3], None)]) == [[("pv3", 2, 5)]]


def test_data_and_metadata_in_one_hole() -> None:
    """Which is too short for both at first. LVM2 2.03.16 fails an assertion here: "to_go <= pva->count"."""
    group = group_of(13, 21, 22)
    runs = ((2, 15, 3), (0, 7, 1), (0, 10, 3), (2, 21, 1), (1, 18, 3), (1, 2, 4))
    use(group, "a", *runs)
    used = {(f"pv{disk}", start + at) for disk, start, count in runs for at in range(count)}
    result = allocate(group, 9, stripes=3, metadata_extents=14, clinging=Clinging((), maximise=False))
    is_sound(result, used, 9, 3, 14)


def test_a_hole_that_is_no_longer_than_the_metadata() -> None:
    """Of each disk only one hole is looked at."""
    group = group_of(9)
    use(group, "a", (0, 4, 1))
    with pytest.raises(NoSpaceError, match="4 more required"):
        allocate(group, 4, metadata_extents=4)
    is_sound(allocate(group, 3, metadata_extents=3), {("pv0", 4)}, 3, 1, 3)


@pytest.mark.parametrize("seed", range(4))
def test_random_groups(seed: int) -> None:
    """Small ones that are almost full, where data and metadata come close to each other."""
    chance = Random(seed)
    given = 0
    for _ in range(400):
        sizes = [chance.randint(3, 14) for _ in range(chance.randint(1, 4))]
        group = group_of(*sizes)
        for pv in group.pvs:
            pv.tags = [tag for tag in "ab" if chance.random() < 0.4]
        disks = [chance.randrange(len(sizes)) for _ in range(chance.choice((0, 1, 3, 5)))]
        runs = sorted({(disk, chance.randrange(sizes[disk]), 1) for disk in disks})
        if runs:
            use(group, "a", *runs)
        stripes, metadata = chance.choice((1, 1, 2, 3)), chance.choice((1, 3, 6))
        extents = stripes * chance.randint(1, 6)
        tags: tuple[str, ...] = chance.choice(((), ("@a",), ("@*",)))
        try:
            result = allocate(
                group,
                extents,
                stripes=stripes,
                policy=chance.choice(POLICIES),
                metadata_extents=metadata,
                separate_metadata=chance.random() < 0.3,
                clinging=Clinging(tags, chance.random() < 0.6),
            )
        except NoSpaceError:
            continue
        is_sound(result, {(f"pv{disk}", start) for disk, start, _ in runs}, extents, stripes, metadata)
        given += 1
    assert given > 100


def test_parts_are_kept_off_disks_of_their_own() -> None:
    """Until "anywhere" is tried; and no run reaches from one part into the next (:func:`allocate`)."""
    group = group_of(20, 20)
    first, second = group.pvs
    parts = [(4, [first]), (6, [second]), (3, [first])]
    assert taken(group, 13, parallel=parts) == [[("pv1", 0, 4), ("pv0", 0, 6), ("pv1", 4, 3)]]
    parts = [(4, [first, second])]
    with pytest.raises(NoSpaceError, match="4 more required"):
        allocate(group, 4, parallel=parts)
    assert taken(group, 4, parallel=parts, policy="anywhere") == [[("pv0", 0, 4)]]


@pytest.mark.parametrize(
    ("size", "used", "places", "expected"),
    [
        (11, (), (5, 8), (0, 9)),
        (11, ((0, 1, 1),), (5, 8), (2, 0)),
        (13, ((0, 0, 1), (0, 2, 2), (0, 7, 1)), (5, 10), (11, 8)),
    ],
)
def test_stripes_of_one_disk_go_on(
    size: int, used: tuple[tuple[int, int, int], ...], places: tuple[int, int], expected: tuple[int, int]
) -> None:
    """By the policy "anywhere", after the others were tried, as LVM2 2.03.16 lays them."""
    group = group_of(size)
    if used:
        use(group, "a", *used)
    lv = use(group, "lv")
    segment = StripedSegment("striped", 0, 2, stripe_size=8)
    segment.mapped = [Area(group.pvs[0], place) for place in places]
    lv.segments.append(segment)
    assert taken(group, 2, stripes=2, volume=lv, policy="anywhere") == [
        [("pv0", start, 1)] for start in expected
    ]


def test_stripes_and_metadata_on_one_disk() -> None:
    """There is room for all, and "anywhere" allows it."""
    is_sound(allocate(group_of(6), 2, stripes=2, policy="anywhere", metadata_extents=3), set(), 2, 2, 3)
