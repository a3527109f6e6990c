# SPDX-License-Identifier: Apache-2.0
"""A store on a machine whose clock is in the year 2426: past what CPython's time functions can count to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lamella.cli.output import age

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.store import Store

IN_2426 = 14_400_410_400.5


@pytest.mark.loop_lvm
def test_all_that_takes_a_time_works(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ext4 stores times up to 2446 (filesystems/ext4/inodes.rst in the kernel): files have it."""

    def fails() -> float:
        raise OverflowError("timestamp too large to convert to C _PyTime_t")

    monkeypatch.setattr(time, "time", fails)
    monkeypatch.setattr(time, "time_ns", fails)
    monkeypatch.setattr(time, "clock_gettime", lambda which: IN_2426)
    (tmp_path / "file").write_bytes(b"x")
    made = store.create("sample", name="web")
    assert made.created.year == 2426
    assert age(made.created) == "Less than a second ago"
    store.copy_in("web", tmp_path / "file", b"/file")
    store.commit("web", "later:1")
    assert store.inspect("later:1")["Created"].startswith("2426-05-01T10:00:00.5")
    store.resize("web", 20 << 30)
    store.copy_out("web", b"/file", tmp_path / "out")
    assert store.check().problems == []
