# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the LVM tests: disks in memory, and the real LVM2 on loop devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.lvm.activation import busy_check, device_changes, pool_checks, pv_numbers
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


@pytest.fixture
def no_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No udev, ``/dev`` or real disks, for activation in a fake kernel (tests/support/fake_kernel.py)."""
    numbers = {"/dev/vdb": "254:16", "/dev/vdc": "254:32", "disk0": "254:48", "disk1": "254:64"}
    monkeypatch.setattr("lamella.devicemapper.nodes.udev_runs", lambda: False)
    monkeypatch.setattr(device_changes, "make_name", lambda *arguments: tmp_path)
    monkeypatch.setattr(device_changes, "drop_name", lambda name: None)
    monkeypatch.setattr(device_changes, "DEV", tmp_path / "dev")
    (tmp_path / "dev").mkdir()
    monkeypatch.setattr(device_changes, "PAUSE", 0)
    monkeypatch.setattr(device_changes, "TRIES", 2)
    monkeypatch.setattr(busy_check, "PAUSE", 0)
    monkeypatch.setattr(pv_numbers.GroupDisks, "_number", lambda self, disk: numbers[disk.path])
    monkeypatch.setattr(pool_checks, "check_metadata", lambda node, write=True: True)
    monkeypatch.setattr(pool_checks, "refuse_blank_device", lambda group, pool, node: None)
