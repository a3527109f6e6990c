# SPDX-License-Identifier: Apache-2.0
"""Platforms: normal forms and preference as containerd's."""

from __future__ import annotations

import os

import pytest

from lamella.errors import UsageError
from lamella.images.platform import Platform


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_normal_forms(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "linux/ä", "linux amd64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(UsageError, match="is not a platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm/v7", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/s390x", ["linux/s390x"]),
    ],
)
def test_what_runs_where(wanted: str, order: list[str]) -> None:
    platform = Platform.parse(wanted)
    assert [str(found) for found in platform.suitable()] == order
    assert [platform.rank(Platform.parse(other)) for other in order] == list(range(len(order)))
    assert platform.rank(Platform.parse("linux/riscv64")) is None
    assert platform.rank(Platform.parse("windows/amd64")) is None


def test_this_machine() -> None:
    here = Platform.here()
    assert here.os == "linux"
    if os.uname().machine == "x86_64":
        assert str(here) == "linux/amd64"
