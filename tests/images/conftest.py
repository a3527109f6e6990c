# SPDX-License-Identifier: Apache-2.0
"""A registry of our own, and downloads that do not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.images.download import Downloader
from tests.images.fake_registry import Server, fake_registry
from tests.support.images import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; what would have been waited is written down."""
    slept: list[float] = []
    original = Downloader.__init__

    def start(self: Downloader, *args: object, **options: object) -> None:
        original(self, *args, **(options | {"sleep": slept.append}))  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Downloader, "__init__", start)
    return slept


@pytest.fixture
def server() -> Iterator[Server]:
    with fake_registry() as found:
        found.behaviour.add(Sample())
        yield found
