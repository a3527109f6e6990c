# SPDX-License-Identifier: Apache-2.0
"""Ranges as (start, length) pairs in ascending order, of bytes or of any other unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def merged(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """*ranges*, whose starts ascend, with those that touch or overlap joined."""
    start = end = -1
    for first, length in ranges:
        if first <= end:
            end = max(end, first + length)
            continue
        if end >= 0:
            yield start, end - start
        start, end = first, first + length
    if end >= 0:
        yield start, end - start


def gaps(ranges: Iterable[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """What *ranges*, whose starts ascend, leave uncovered of 0 to *size*."""
    end = 0
    for first, length in ranges:
        if first > end:
            yield end, first - end
        end = max(end, first + length)
    if end < size:
        yield end, size - end
