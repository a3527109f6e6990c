# SPDX-License-Identifier: Apache-2.0
"""Whole columns of numbers as text, against Python's own formatting."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.thin.format.mappings import merge
from lamella.thin.format.text_columns import Field, Layout, render

_LAYOUT = Layout(
    (Field(("one ", "another")), Field(("", "/"), blank_zero=True), Field((";", "|a longer text|"))),
    ("!\n", "\n"),
)
_NUMBER = st.one_of(
    st.integers(0, 2**64 - 1), st.integers(0, 20), st.sampled_from([0, 9999, 10000, 99999999, 10**8])
)


@given(st.lists(st.tuples(st.integers(0, 1), _NUMBER, _NUMBER, _NUMBER), min_size=1, max_size=40))
@settings(max_examples=200)
def test_lines_equal_formatted_ones(lines: list[tuple[int, int, int, int]]) -> None:
    expected = "".join(
        f"{_LAYOUT.fields[0].before[kind]}{a}{_LAYOUT.fields[1].before[kind]}{b or ''}"
        f"{_LAYOUT.fields[2].before[kind]}{c}{_LAYOUT.end[kind]}"
        for kind, a, b, c in lines
    )
    kinds = np.array([line[0] for line in lines])
    columns = [np.array([line[place] for line in lines], dtype=np.uint64) for place in (1, 2, 3)]
    assert render(_LAYOUT, kinds, columns).decode() == expected


def test_many_lines_are_cut_into_pieces_without_a_seam() -> None:
    numbers = np.arange(20000, dtype=np.uint64)
    text = render(Layout((Field(("<",)),), (">",)), np.zeros(20000, dtype=np.intp), [numbers])
    assert text.decode() == "".join(f"<{number}>" for number in range(20000))
    assert render(Layout((Field(("<",)),), (">",)), np.zeros(0, dtype=np.intp), [numbers[:0]]) == b""


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30), st.integers(0, 2)), max_size=60))
@settings(max_examples=200)
def test_merge_equals_a_plain_loop(steps: list[tuple[int, int, int]]) -> None:
    key, mappings = 0, []
    for gap, data, time in steps:
        key += gap
        mappings.append((key, data + key if gap == 1 else data, time))
    expected: list[list[int]] = []
    for begin, data, time in mappings:
        last = expected[-1] if expected else None
        if last and begin == last[0] + last[2] and data == last[1] + last[2] and time == last[3]:
            last[2] += 1
        else:
            expected.append([begin, data, 1, time])
    keys = np.array([mapping[0] for mapping in mappings], dtype=np.uint64)
    values = np.array([mapping[1] << 24 | mapping[2] for mapping in mappings], dtype=np.uint64)
    assert [
        list(run) for run in zip(*(column.tolist() for column in merge(keys, values)), strict=True)
    ] == expected
