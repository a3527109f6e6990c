# SPDX-License-Identifier: Apache-2.0
"""A session that changes a group in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lvm.memory_groups import group_on, memory_disks, session_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lvm.memory_groups import Edit


@pytest.fixture
def edit() -> Iterator[Edit]:
    """A session in the middle of changing a group over three disks of 24 MiB."""
    disks = memory_disks(3, 24 << 20)
    group_on(disks)
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        yield session, found
