# SPDX-License-Identifier: Apache-2.0
"""The order in which disks are read, which shows where groups are listed unsorted."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING

from lamella.cli.lvm import disks_to_scan

if TYPE_CHECKING:
    import pytest


def test_devices_come_in_the_order_of_lvm2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As recorded from LVM2 2.03.16, whose ``vgscan`` lists the groups of the last device first."""

    def status(path: str) -> SimpleNamespace:
        if not path.startswith("/dev/loop"):
            return SimpleNamespace(st_mode=stat.S_IFREG, st_rdev=0)
        minor = int(path.removeprefix("/dev/loop"))
        return SimpleNamespace(st_mode=stat.S_IFBLK, st_rdev=os.makedev(7, minor))

    monkeypatch.setattr(disks_to_scan.os, "stat", status)
    names = ["/dev/loop255", "/b", "/dev/loop50", "/dev/loop300", "/dev/loop8", "/dev/loop257", "/a", "/b"]
    assert disks_to_scan._in_order(names) == [
        "/b",
        "/a",
        "/dev/loop257",
        "/dev/loop8",
        "/dev/loop300",
        "/dev/loop50",
        "/dev/loop255",
    ]
