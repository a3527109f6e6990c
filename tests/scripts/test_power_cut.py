# SPDX-License-Identifier: Apache-2.0
"""The steps of the power cut tests leave what they are said to leave, and reach what was written before."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scripts.power_cuts import found_in

from lamella.store import Store
from tests.guest.power_cut import carry_out, state_after, step

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 18


def test_the_steps(tmp_path: Path) -> None:
    options = ["dm.basesize=64M", "dm.loopdatasize=512M", "dm.loopmetadatasize=4M", "dm.min_free_space=0%"]
    with Store.setup(tmp_path / "root", storage_options=options) as store:
        for number in range(STEPS):
            carry_out(store, number)
            assert found_in(store) == state_after(number + 1), step(number)
        assert store.check().problems == []


def test_a_container_is_copied_into_several_times() -> None:
    """In a row, and again after other changes; each copy replaces files of the copies before."""
    copies = Counter(which for action, which in map(step, range(200)) if action == "copy")
    assert min(count for box, count in copies.items() if box < max(copies)) == 3
    before, after = state_after(5).containers["box-2"], state_after(6).containers["box-2"]
    assert len([name for name in before if after[name] != before[name]]) > 2
