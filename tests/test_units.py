# SPDX-License-Identifier: Apache-2.0
"""Sizes as people type and read them."""

from __future__ import annotations

import pytest

from lamella.errors import UsageError
from lamella.units import human_size, parse_size, whole_number


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("64K", 65536),
        ("10G", 10 << 30),
        ("10GB", 10 << 30),
        ("10 GiB", 10 << 30),
        ("1.5g", 3 << 29),
        ("0", 0),
        ("2t", 2 << 40),
        ("7b", 7),
    ],
)
def test_parse(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "G", "ten", "-1", "1 2", "10X", "1e3", "0x10", "10Gi B", "1" + " " * 200_000 + "x", "²", "٣G"],
)
def test_refuse(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "shown"),
    [(65536, "65.54kB"), (10 << 30, "10.74GB"), (107374182400, "107.4GB"), (17380000, "17.38MB"), (0, "0B")],
)
def test_as_docker_prints(size: int, shown: str) -> None:
    assert human_size(size) == shown


def test_binary() -> None:
    assert human_size(parse_size("10G")) == "10.74GB"


@pytest.mark.parametrize("text", ["9" * 60_000, "9" * 400 + ".5", "17E", "18446744073709551616"])
def test_no_size_is_so_large(text: str) -> None:
    with pytest.raises(UsageError, match="is too large a size"):
        parse_size(text)


def test_whole_numbers() -> None:
    assert whole_number("007") == 7
    assert whole_number("0" * 5000 + "9") == 9
    assert whole_number("18446744073709551615") == 2**64 - 1
    assert whole_number("99", 99) == 99
    for text in ("", "²", "٣", "-1", "+1", " 1", "1.0", "18446744073709551616", "9" * 5000):
        assert whole_number(text) is None
    assert whole_number("100", 99) is None
