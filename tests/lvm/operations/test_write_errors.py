# SPDX-License-Identifier: Apache-2.0
"""A disk that fails while a new volume is cleared: the volume is not left in the group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.errors import DeviceIOError
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.thin_pools import PoolRequest, convert_to_pool, create_pool
from tests.lvm.memory_groups import EXTENT, SIZE, find_lv, group_on, session_on, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.block.device import Buffer
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session

EXTENTS = 1 << 20
"""Where the first extent begins."""


class Failing(MemoryDevice):
    """A disk whose extents take no writes once it is told so; labels and metadata areas do."""

    failing = False

    def write(self, offset: int, data: Buffer) -> None:
        if self.failing and offset >= EXTENTS:
            raise DeviceIOError(f"{self.name}: Input/output error", hint="replace it")
        super().write(offset, data)

    def write_zeros(self, offset: int, length: int) -> None:
        if self.failing and offset >= EXTENTS:
            raise DeviceIOError(f"{self.name}: Input/output error", hint="replace it")
        super().write_zeros(offset, length)


CREATIONS: dict[str, Callable[[Session, FoundGroup], object]] = {
    "linear": lambda session, found: create_lv(session, found, LvRequest(3, "new")),
    "pool": lambda session, found: create_pool(session, found, "new", 30, PoolRequest(spare=False)),
    "pool and spare": lambda session, found: create_pool(session, found, "new", 30),
    "conversion": lambda session, found: convert_to_pool(session, found, find_lv(found, "old"), None),
    "conversion without spare": lambda session, found: convert_to_pool(
        session, found, find_lv(found, "old"), None, PoolRequest(spare=False)
    ),
}


@pytest.mark.parametrize("creation", CREATIONS)
def test_a_write_error_leaves_no_volume(creation: str) -> None:
    disks = {"disk0": Failing(SIZE * 4, name="disk0")}
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        assert found.group.extent_size == EXTENT
        create_lv(session, found, LvRequest(8, "old"))
    with session_on(disks) as session:
        before = text_of(session.find("vg").group)
    disks["disk0"].failing = True
    with (
        session_on(disks) as session,
        pytest.raises(DeviceIOError, match="Input/output error"),
        session.editing("vg") as found,
    ):
        CREATIONS[creation](session, found)
    with session_on(disks) as session:
        group = session.find("vg").group
        group.seqno = 2
        assert text_of(group) == before.replace("seqno = 3", "seqno = 2")
