# SPDX-License-Identifier: Apache-2.0
"""Sizes as people type them and as LVM2 prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import UsageError
from lamella.lvm.operations.sizes import (
    Extents,
    Size,
    parse_extents,
    parse_number,
    parse_size,
    stripe_boundary,
    to_extents,
)
from lamella.lvm.report.units import Units, human, parse_units, show

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10g", 10 * GIB),
        ("10G", 10 * GIB),
        ("1.5g", 3 * GIB // 2),
        (".5m", MIB // 2),
        ("512s", 512 * 512),
        ("1024b", 1024),
        ("10", 10 * MIB),
        ("10.", 10 * MIB),
        ("0x10", 16 * MIB),
        ("1e1", 10 * MIB),
        ("5mm", 5 * MIB),
        ("10MiB", 10 * MIB),
        ("3E", 3 << 60),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == Size(size)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Size requires number argument."),
        ("m", "Size requires number argument."),
        ("5u", "Can't parse size argument."),
        ("10 m", "Can't parse size argument."),
        ("5.5.5", "Can't parse size argument."),
        ("-5", "Size may not be negative."),
        ("513b", "Size is not a multiple of 512. Try using 512 or 1024."),
        ("16E", "Size is too big (>=16EiB)."),
        ("0x" + "f" * 400, "Size is too big (>=16EiB)."),
        ("9" * 5000, "Size is too big (>=16EiB)."),
    ],
)
def test_bad_sizes(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.message == message


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    for parse in (parse_size, parse_extents, parse_number, parse_units):
        try:
            parse(text)
        except UsageError:
            continue


@pytest.mark.parametrize(
    ("text", "extents"),
    [
        ("100", Extents(100)),
        ("100%FREE", Extents(100, "FREE")),
        ("95%VG", Extents(95, "VG")),
        ("50%pvs", Extents(50, "PVS")),
        ("+20%LV", Extents(20, "LV", "+")),
        ("5%F", Extents(5, "FREE")),
        ("99999999999", Extents(0xFFFFFFFF)),
        ("9" * 5000, Extents(0xFFFFFFFF)),
        ("0" * 5000 + "3", Extents(3)),
    ],
)
def test_extents(text: str, extents: Extents) -> None:
    assert parse_extents(text) == extents


@pytest.mark.parametrize("text", ["5%", "5%FREEx", "%FREE", "5.5", "", "-5", "x", "1.5%VG"])
def test_bad_extents(text: str) -> None:
    with pytest.raises(UsageError):
        parse_extents(text)


def test_signs_where_they_are_allowed() -> None:
    assert parse_size("-5m", signs="+-") == Size(5 * MIB, "-")
    assert parse_extents("-5", signs="+-") == Extents(5, "", "-")
    with pytest.raises(UsageError, match="positive"):
        parse_size("+5m", signs="-")


def test_rounding_to_extents_says_so() -> None:
    said: list[str] = []
    assert to_extents(5 * MIB, 4 * MIB, say=said.append) == 2
    assert to_extents(8 * MIB, 4 * MIB, say=said.append) == 2
    assert said == ["Rounding up size to full physical extent 8.00 MiB"]


def test_stripe_boundary() -> None:
    said: list[str] = []
    assert stripe_boundary(5, 2, 4 * MIB, say=said.append) == 6
    assert stripe_boundary(5, 2, 4 * MIB, say=said.append, limit=5) == 4
    assert stripe_boundary(6, 2, 4 * MIB, say=said.append) == 6
    assert said == [
        "Rounding size 20.00 MiB (5 extents) up to stripe boundary size 24.00 MiB (6 extents).",
        "Rounding size (5 extents) down to stripe boundary size (4 extents)",
    ]


@pytest.mark.parametrize(
    ("size", "units", "shown"),
    [
        (40 * GIB - 4 * MIB, "r", "<40.00g"),
        (40 * GIB - 4 * MIB, "h", "40.00g"),
        (38 * GIB - 4 * MIB, "r", "<38.00g"),
        (40 * GIB, "r", "40.00g"),
        (0, "r", "0 "),
        (512 * KIB, "r", "512.00k"),
        (96 * MIB, "H", "100.66M"),
        (100 * MIB, "R", "<104.86M"),
        (96 * MIB, "b", "100663296B"),
        (96 * MIB, "s", "196608S"),
        (96 * MIB, "3k", "32768.00U"),
        (96 * MIB, "1k", "98304.00k"),
        (0, "k", "0k"),
        (1 << 62, "r", "4.00e"),
    ],
)
def test_shown(size: int, units: str, shown: str) -> None:
    assert show(size, parse_units(units)) == shown


def test_without_suffix() -> None:
    assert show(96 * MIB, parse_units("k", suffix=False)) == "98304.00"
    assert show(0, parse_units("r", suffix=False)) == "0"
    assert show(96 * MIB, Units(suffix=False)) == "96.00m"


@pytest.mark.parametrize("text", ["z", "", "k1", "kk", "0k", "3", "1..2k"])
def test_bad_units(text: str) -> None:
    with pytest.raises(UsageError, match="Invalid units specification"):
        parse_units(text)


def test_in_messages() -> None:
    assert human(40 * GIB - 4 * MIB) == "<40.00 GiB"
    assert human(0) == "0   "
    assert human(64 * KIB) == "64.00 KiB"
    assert human(10**9, decimal=True) == "1.00 GB"
