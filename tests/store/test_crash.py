# SPDX-License-Identifier: Apache-2.0
"""Power cuts: every command that writes, with its writes cut off after each one.

``make crash-cuts`` does it after every write; here some are left out.
"""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.cut_stores import FSCK, CutStore, every_command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.user_engine  # its writes are recorded; scripts/power_cuts.py cuts the kernel's off
@pytest.mark.slow
def test_power_cuts(tmp_path: Path, mode: str) -> None:
    if not shutil.which(FSCK):
        pytest.skip(f"needs {FSCK}")
    store = CutStore(tmp_path, mode)
    store.set_up()
    for name, action in every_command(tmp_path, mode):
        store.step(name, action)
    cuts = store.look(random.Random(7), every=12)
    store.close()
    # Each state was found but for those of which nothing is left to do once they are decided: removals.
    assert len(cuts.found) > cuts.steps - 4
    assert cuts.points > 150
