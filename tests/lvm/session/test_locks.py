# SPDX-License-Identifier: Apache-2.0
"""``global/wait_for_locks`` (lvm.conf(5)); the messages are those of LVM2 2.03.16."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError
from lamella.lvm.session.locks import global_lock, group_lock

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_that_is_not_waited_for(tmp_path: Path) -> None:
    said = f"{tmp_path / 'V_vg'}: flock failed: Resource temporarily unavailable\nCan't get lock for vg."
    with (
        group_lock(tmp_path, "vg", write=True),
        pytest.raises(BusyError, match=f"^{re.escape(said)}$"),
        group_lock(tmp_path, "vg", write=True, wait=0),
    ):
        pass
    said = f"{tmp_path / 'P_global'}: flock failed: Resource temporarily unavailable"
    with (
        global_lock(tmp_path, write=True),
        pytest.raises(BusyError, match=f"^{re.escape(said)}$"),
        global_lock(tmp_path, write=False, wait=0),
    ):
        pass
    with group_lock(tmp_path, "vg", write=True, wait=0):
        pass
