# SPDX-License-Identifier: Apache-2.0
"""Ranges: merged, and what lies between them, against sets of numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lamella.block.ranges import gaps, merged

SIZE = 40
RANGES = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 8)), max_size=12).map(sorted)


def numbers(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for start, length in ranges for number in range(start, start + length)}


@given(RANGES)
def test_merged(ranges: list[tuple[int, int]]) -> None:
    found = list(merged(ranges))
    assert numbers(found) == numbers(ranges)
    assert all(start + length < after for (start, length), (after, _) in pairwise(found))


@given(RANGES)
def test_gaps(ranges: list[tuple[int, int]]) -> None:
    found = list(gaps(ranges, SIZE))
    assert numbers(found) == set(range(SIZE)) - numbers(ranges)
    assert found == list(merged(found))
