# SPDX-License-Identifier: Apache-2.0
"""Tables as text and as values: one becomes the other and back, and nonsense is named."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.devicemapper.table import (
    Error,
    Linear,
    SnapshotOrigin,
    Striped,
    Target,
    Thin,
    ThinPool,
    Zero,
    parse_table,
    parse_target,
    total_sectors,
)
from lamella.errors import BadInputError, LamellaError

NUMBERS = st.integers(0, (1 << 64) - 1)
STARTS = st.integers(0, 1 << 54)
LENGTHS = st.integers(1, 1 << 54)
DEVICES = st.one_of(
    st.builds("{}:{}".format, st.integers(0, 4095), st.integers(0, (1 << 20) - 1)),
    st.just("/dev/mapper/docker-thinpool"),
)
WORDS = st.lists(st.sampled_from(["skip_block_zeroing", "ignore_discard", "error_if_no_space"]), max_size=3)
KINDS = st.sampled_from(["crypt", "raid", "cache", "thin-", "mirror", "snapshot", "flakey"])
TARGETS = st.one_of(
    st.builds(Linear, STARTS, LENGTHS, device=DEVICES, offset=NUMBERS),
    st.builds(
        Striped,
        STARTS,
        LENGTHS,
        chunk=NUMBERS,
        stripes=st.lists(st.tuples(DEVICES, NUMBERS), max_size=4).map(tuple),
    ),
    st.builds(Zero, STARTS, LENGTHS),
    st.builds(Error, STARTS, LENGTHS),
    st.builds(SnapshotOrigin, STARTS, LENGTHS, device=DEVICES),
    st.builds(
        ThinPool,
        STARTS,
        LENGTHS,
        metadata=DEVICES,
        data=DEVICES,
        chunk=NUMBERS,
        low_water=NUMBERS,
        features=WORDS.map(tuple),
    ),
    st.builds(Thin, STARTS, LENGTHS, pool=DEVICES, device_id=NUMBERS, origin=st.one_of(st.just(""), DEVICES)),
    st.builds(Target, STARTS, LENGTHS, KINDS, st.text("abz019:/-_ ", max_size=40)),
)


@given(st.lists(TARGETS, max_size=12))
def test_what_is_printed_is_read_back(targets: list[Target]) -> None:
    text = "".join(f"{target.line}\n" for target in targets)
    assert parse_table(text) == tuple(targets)
    assert total_sectors(targets) == max((each.start + each.length for each in targets), default=0)


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_an_error(text: str) -> None:
    with suppress(LamellaError):
        parse_table(text)


@given(TARGETS, st.integers(0, 200), st.characters())
def test_a_line_with_a_slip_is_a_target_or_an_error(target: Target, at: int, letter: str) -> None:
    line = target.line
    with suppress(LamellaError):
        found = parse_target(line[:at] + letter + line[at + 1 :])
        assert parse_target(found.line) == found


@pytest.mark.parametrize(
    "line",
    [
        "docker-thinpool: 0 79683584 thin-pool 253:0 253:1 1024 0 1 skip_block_zeroing ",
        "docker-thinpool_tdata: 0 79683584 linear 254:16 2048",
        "docker-254:0-131099-fc23ac40: 0 20971520 thin 253:0 5",
        "docker-254:0-131099-pool: 0 209715200 thin-pool 7:1 7:0 128 32768 1 skip_block_zeroing ",
        "pb: 100 200 zero ",
        "pb: 300 48 striped 2 8 254:16 9000 254:32 9000",
        "pe: 0 1 error ",
        "o: 0 8192 snapshot-origin 253:4",
        "pc: 0 800 crypt aes-xts-plain64 00000000 0 254:32 0",
    ],
)
def test_lines_of_the_real_dmsetup(line: str) -> None:
    text = line.partition(": ")[2]
    assert parse_target(text).line == text


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0",
        "0 8",
        "0 0 zero",
        "-1 8 zero",
        "0 8 zero more",
        "0 8 linear 7:0",
        "0 8 linear 7:0 x",
        "0 8 linear 7:0 -1",
        "1_0 8 zero",
        "٣ 8 zero",
        "0 8 striped 2 8 7:0 0",
        "0 8 thin-pool 7:0 7:1 128 0 2 one",
        "0 8 thin 7:0",
        "0 8 thin 7:0 1 7:1 7:2",
        "0 8 a-name-of-more-than-fifteen",
        f"0 {1 << 60} zero",
        "0" * 5000 + " 8 zero",
    ],
)
def test_nonsense_is_named(line: str) -> None:
    with pytest.raises(BadInputError, match=r"table line"):
        parse_target(line)
    if line:
        with pytest.raises(BadInputError, match="line 2 of the table"):
            parse_table("0 8 zero\n" + line)
