# SPDX-License-Identifier: Apache-2.0
"""Changes of groups that the kernel uses, on a fake kernel: what the activator is asked for, and when."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError, DeviceIOError, ReadOnlyError, UsageError
from lamella.lvm.activation.activator import KernelActivator
from lamella.lvm.activation.device_tree import Settings
from lamella.lvm.disks.scan import scan
from lamella.lvm.operations.group_changes import GroupChanges, change_group
from lamella.lvm.operations.group_export import export_group
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, remove_lv, rename_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.lv_resize import resize_lv
from lamella.lvm.operations.pool_resize import resize_pool
from lamella.lvm.operations.pv_move import MoveRequest, move_extents
from lamella.lvm.operations.thin_pools import PoolRequest, create_pool
from lamella.lvm.operations.thin_volumes import ThinRequest, create_snapshot, create_thin, remove_any
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import environment, find_lv, group_on, memory_disks
from tests.support.fake_kernel import FakeKernel, fake_kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamella.block import MemoryDevice
    from lamella.lvm.disks.scan import FoundGroup


class NotingActivator(KernelActivator):
    """Notes what it is asked for, and which state of the metadata is on the disks then."""

    def __init__(self, kernel: FakeKernel, disks: dict[str, MemoryDevice]) -> None:
        super().__init__(kernel.client, Settings(lambda group, lv: 100))
        self.kernel = kernel
        self.disks = disks
        self.done: list[str] = []
        self.refuses = ""

    @property
    def transaction(self) -> int:
        """Of the pool in the kernel."""
        return int(self.kernel.pools["vg-pool-tpool"].split()[0])

    def activate(self, found: FoundGroup, names: Iterable[str], *, read_only: bool = False) -> None:
        for name in names:
            self._note(f"activate {name}")
            super().activate(found, [name], read_only=read_only)

    def deactivate(self, found: FoundGroup, names: Iterable[str]) -> None:
        for name in names:
            super().deactivate(found, [name])
            self._note(f"deactivate {name}")

    @contextmanager
    def changing(self, found: FoundGroup, names: Iterable[str] | None = None) -> Iterator[None]:
        self._note(f"load at {self._seqno()}")
        with super().changing(found, names):
            yield
        self._note(f"resume at {self._seqno()}")

    def send_messages(self, found: FoundGroup, pool: str) -> None:
        segment = found.group.lvs[pool].thin_pool
        assert segment is not None
        self._note(f"send {segment.messages}")
        super().send_messages(found, pool)

    def _note(self, what: str) -> None:
        if self.refuses and what.startswith(self.refuses):
            raise DeviceIOError(f"the kernel refuses to {what}")
        self.done.append(what)

    def _seqno(self) -> int:
        """What is on the disks just now."""
        found = scan(list(self.disks), given=self.disks)
        try:
            return found.groups[0].group.seqno
        finally:
            found.close()


Live = tuple[Session, "FoundGroup", NotingActivator]


@pytest.fixture
def live(no_system: None) -> Iterator[Live]:
    """A group of which the kernel has volume "a"."""
    disks = memory_disks(2)
    group_on(disks)
    with fake_kernel() as kernel:
        activator = NotingActivator(kernel, disks)
        with (
            Session([], environment(), given=disks, activator=activator) as session,
            session.editing("vg") as found,
        ):
            create_lv(session, found, LvRequest(4, "a"))
            activator.activate(found, ["a"])
            activator.done.clear()
            yield session, found, activator


def test_tables_are_loaded_before_the_text_counts_and_live_after(live: Live) -> None:
    session, found, kernel = live
    resize_lv(session, found, find_lv(found, "a"), 8)
    assert kernel.done == ["load at 2", "resume at 3"]


def test_if_the_kernel_refuses_the_text_stays(live: Live) -> None:
    session, found, kernel = live
    kernel.refuses = "load"
    with pytest.raises(DeviceIOError):
        resize_lv(session, found, find_lv(found, "a"), 8)
    again = session.rescan().groups[0]
    assert (again.group.seqno, again.group.lvs["a"].extents) == (2, 4)
    assert all(copy.header is not None and copy.header.precommitted.empty for copy in again.copies)
    kernel.refuses = ""
    resize_lv(session, again, find_lv(again, "a"), 6)
    assert session.rescan().groups[0].group.lvs["a"].extents == 6


def test_new_volumes_are_activated_after_they_were_cleared(live: Live) -> None:
    session, found, kernel = live
    create_lv(session, found, LvRequest(4, "b"))
    create_lv(session, found, LvRequest(4, "c", activate=False))
    assert kernel.done == ["activate b"]


def test_what_cannot_be_activated_is_not_made(live: Live) -> None:
    session, found, kernel = live
    kernel.refuses = "activate"
    with pytest.raises(DeviceIOError):
        create_lv(session, found, LvRequest(4, "b"))
    assert list(session.rescan().groups[0].group.lvs) == ["a"]


def test_removed_volumes_leave_the_kernel_first(live: Live) -> None:
    session, found, kernel = live
    kernel.kernel.device("vg-a").opened = 1
    with pytest.raises(BusyError, match="vg/a in use"):
        remove_lv(session, found, find_lv(found, "a"))
    assert "a" in session.rescan().groups[0].group.lvs
    kernel.kernel.device("vg-a").opened = 0
    found = session.scan.groups[0]
    remove_lv(session, found, find_lv(found, "a"))
    assert kernel.done == ["deactivate a"]


def test_names_follow(live: Live) -> None:
    session, found, kernel = live
    rename_lv(session, found, find_lv(found, "a"), "z")
    assert kernel.done == ["load at 2", "resume at 3"]


def test_tags_are_none_of_the_kernels_business(live: Live) -> None:
    session, found, kernel = live
    change_lv(session, found, find_lv(found, "a"), LvChanges(add_tags=["t"]))
    change_group(session, found, GroupChanges(add_tags=["t"]))
    assert kernel.done == []


def test_active_groups_are_not_exported_nor_given_another_identity(live: Live) -> None:
    session, found, _kernel = live
    with pytest.raises(BusyError, match='"vg" has active logical volumes'):
        export_group(session, found)
    with pytest.raises(BusyError, match='"vg" has active logical volumes'):
        change_group(session, found, GroupChanges(new_identity=True))


def test_active_volumes_are_not_moved(live: Live) -> None:
    session, found, _kernel = live
    source = found.group.pvs[0]
    with pytest.raises(BusyError, match="vg/a is active"):
        move_extents(session, found, MoveRequest(source, [(0, source.pe_count)]))


def test_messages_go_to_the_kernels_pool(live: Live) -> None:
    session, found, kernel = live
    pool = create_pool(session, found, "pool", 16, PoolRequest(chunk_size=64 << 10, metadata_extents=8))
    assert kernel.done == ["activate pool"]
    kernel.done.clear()
    create_thin(session, found, pool, 16, ThinRequest("t"))
    thin = find_lv(found, "t")
    create_snapshot(session, found, thin, ThinRequest("s"))
    remove_any(session, found, thin)
    assert [line for line in kernel.done if not line.startswith(("load", "resume"))] == [
        "send [('create', 't')]",
        "activate t",
        "send [('create', 's')]",
        "deactivate t",
        "send [('delete', 1)]",
    ]
    assert kernel.transaction == 3
    assert session.rescan().groups[0].group.lvs["pool"].thin_pool.messages == []  # type: ignore[union-attr]


def test_what_the_kernels_pool_refuses_is_rolled_back(live: Live) -> None:
    session, found, kernel = live
    pool = create_pool(session, found, "pool", 16, PoolRequest(chunk_size=64 << 10, metadata_extents=8))
    kernel.refuses = "send"
    with pytest.raises(DeviceIOError):
        create_thin(session, found, pool, 16, ThinRequest("t"))
    after = session.rescan().groups[0].group
    segment = after.lvs["pool"].thin_pool
    assert segment is not None
    assert ("t" in after.lvs, segment.messages, segment.transaction_id) == (False, [], 0)
    left = sorted(device.name for device in kernel.kernel.devices.values())
    assert left == ["vg-a", "vg-pool", "vg-pool_tdata", "vg-pool_tmeta"], "the layer above it has gone"


def test_a_pool_that_takes_no_changes_is_left_alone(live: Live) -> None:
    session, found, kernel = live
    pool = create_pool(session, found, "pool", 16, PoolRequest(chunk_size=64 << 10, metadata_extents=8))
    kernel.kernel.fresh_pool = kernel.kernel.fresh_pool.replace("rw", "ro")
    with pytest.raises(ReadOnlyError, match="takes no changes"):
        create_thin(session, found, pool, 16, ThinRequest("t"))


def test_discards_of_an_active_pool_are_not_switched_off(live: Live) -> None:
    session, found, kernel = live
    pool = create_pool(session, found, "pool", 16, PoolRequest(chunk_size=64 << 10, metadata_extents=8))
    with pytest.raises(BusyError, match="while pool volume vg/pool is active"):
        change_lv(session, found, pool, LvChanges(discards="ignore"))
    with pytest.raises(UsageError, match="already uses"):
        change_lv(session, found, pool, LvChanges(discards="passdown"))
    kernel.done.clear()
    change_lv(session, found, pool, LvChanges(zero=False))
    resize_pool(session, found, pool, data_extents=24)
    assert [line.split()[0] for line in kernel.done] == ["load", "resume"] * 2
