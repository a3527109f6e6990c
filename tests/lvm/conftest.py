# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the LVM tests: disks in memory, and the real LVM2 on loop devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lvm import real

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def real_lvm(tmp_path: Path) -> Iterator[Callable[[int, int], real.RealLvm]]:
    """``real_lvm(count, size)`` gives loop devices and LVM2 commands that see only them."""
    started: list[real.RealLvm] = []

    def start(count: int = 3, size: int = 64 << 20) -> real.RealLvm:
        folder = tmp_path / f"disks{len(started)}"
        folder.mkdir()
        started.append(real.start(folder, count, size))
        return started[-1]

    yield start
    for lvm in started:
        lvm.close()
