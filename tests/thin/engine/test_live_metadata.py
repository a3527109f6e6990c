# SPDX-License-Identifier: Apache-2.0
"""A running pool's metadata step by step: what each change and each commit leaves on the device.

What a commit has left is read by :class:`lamella.thin.metadata.reader.Metadata` and checked, leaks included.
What times, roots and counts have to be is what the kernel's ``drivers/md/dm-thin-metadata.c`` makes them
(``__create_thin``, ``__create_snap``, ``__reserve_metadata_snap``, ``__write_initial_superblock``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lamella.errors import BusyError, CorruptError, ExistsError, NotFoundError, UnsupportedError, UsageError
from lamella.thin.engine import live_metadata
from lamella.thin.engine.device_map import PAGE, UNMAPPED
from lamella.thin.engine.device_record import Device
from lamella.thin.engine.live_metadata import MAX_MAPPED, LiveMetadata
from lamella.thin.format import superblock as superblock_format
from lamella.thin.format.checksum import SUPERBLOCK_XOR, seal
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.limits import MAX_DEVICE_ID
from lamella.thin.format.space_map import SpaceMapRoot
from lamella.thin.format.superblock import NEEDS_CHECK
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.check import check
from tests.support.failing import FailingDevice, NowhereDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Mappings = dict[int, tuple[int, int]]
"""Chunk -> (data block, time)."""


class Recorder(FailingDevice):
    """Memory that notes what is done to it: ``0`` for a write of the superblock, ``"blocks"`` for others."""

    def __init__(self, size: int, name: str = "metadata") -> None:
        super().__init__(size, name=name)
        self.done: list[Any] = []

    def write(self, offset: int, data: Any) -> None:
        super().write(offset, data)
        what = "blocks" if offset else 0
        if self.done[-1:] != [what]:
            self.done.append(what)

    def flush(self) -> None:
        super().flush()
        self.done.append("flush")


def fresh(*, blocks: int = 64, chunks: int = 256) -> Any:
    """Metadata with the thin devices 1 and 2, committed."""
    live = LiveMetadata.format(Recorder(blocks * 4096), chunk_sectors=128, data_chunks=chunks)
    live.create_thin(1)
    live.create_thin(2)
    commit(live)
    return live


def commit(live: LiveMetadata) -> list[int]:
    """Commit, check, and the data blocks that are to be discarded."""
    found = live.commit(lambda: None)
    assert not live.changed
    sound(live)
    return found.tolist()


def sound(live: LiveMetadata) -> None:
    report = check(live.device)
    assert report.complete
    assert not report.problems
    assert report.metadata_leaks == report.data_leaks == 0


def provide(live: Any, dev_id: int, chunks: Iterable[int], *, discard: bool = False) -> list[int]:
    """Map unmapped *chunks*, as a write does; the data blocks that they get."""
    device = live.get(dev_id)
    wanted = np.array(sorted(chunks), dtype=np.int64)
    blocks = live.data.allocate(len(wanted))
    old = live.map_of(device).pick(wanted, live.maps)
    device.mapped += int((old == UNMAPPED).sum())
    live.remap(
        device, wanted, blocks.astype(np.uint64) << np.uint64(24) | np.uint64(live.time), discard=discard
    )
    taken: list[int] = blocks.tolist()
    return taken


def take_away(live: Any, dev_id: int, chunks: Iterable[int], *, discard: bool = True) -> None:
    """Unmap *chunks*, as a discard of a few does."""
    device = live.get(dev_id)
    wanted = np.array(sorted(chunks), dtype=np.int64)
    live.count_unmapped(device, len(wanted))
    live.remap(device, wanted, np.full(len(wanted), UNMAPPED, dtype=np.uint64), discard=discard)


def mappings(live: LiveMetadata, dev_id: int, *, held: bool = False) -> Mappings:
    """What the device on the disk has, or the snapshot held there."""
    keys, values = Metadata.open(live.device, snapshot=held).mappings(dev_id)
    return {
        int(key): (int(value) >> 24, int(value) & 0xFFFFFF) for key, value in zip(keys, values, strict=True)
    }


def details(live: LiveMetadata) -> dict[int, DeviceDetails]:
    return Metadata.open(live.device).details


def block_0(live: LiveMetadata) -> superblock_format.Superblock:
    return superblock_format.unpack(live.device.read(0, 4096), name="metadata")


# -- formatting and opening ------------------------------------------------------------------------


def test_empty_metadata() -> None:
    device = Recorder(64 * 4096 + 512)
    live = LiveMetadata.format(device, chunk_sectors=256, data_chunks=100)
    assert device.read(0, 4096) == bytes(4096), "nothing counts before the commit"
    assert live.changed is True
    assert (live.read_only, live.pass_down, live.devices, live.mapping_root > 0) == (False, True, {}, True)
    assert (live.metadata.size, live.data.size, live.budget.data_chunks, live.budget.held) == (
        64,
        100,
        100,
        0,
    )
    commit(live)
    fields = block_0(live)
    assert (fields.data_block_size, fields.metadata_nr_blocks, fields.metadata_block_size) == (256, 64, 8)
    assert (fields.transaction_id, fields.time, fields.flags, fields.held_root) == (0, 0, 0, 0)
    assert (fields.version, fields.uuid, fields.blocknr) == (2, bytes(16), 0)
    assert (fields.data_sm_root.nr_blocks, fields.data_sm_root.nr_allocated) == (100, 0)
    assert (fields.metadata_sm_root.nr_blocks, fields.metadata_sm_root.nr_allocated) == (64, 9)
    assert (fields.mapping_root, fields.details_root) == (live.mapping_root, live.details_root)
    assert fields.mapping_root != fields.details_root
    assert details(live) == {}


def test_metadata_are_never_larger_than_the_format_allows() -> None:
    """255 bitmaps of 16320 blocks: 16 GiB nearly; the superblock has the device's own size."""
    device = NowhereDevice(17 << 30)
    live = LiveMetadata.format(device, chunk_sectors=128, data_chunks=1)
    assert live.metadata.size == 255 * 16320
    assert live.superblock.metadata_nr_blocks == 17 << 18


def test_opening_finds_what_was_committed() -> None:
    live = fresh()
    live.set_transaction_id(0, 7)
    blocks = provide(live, 1, [0, 5])
    live.create_snap(3, 1)
    commit(live)
    again: Any = LiveMetadata.open(live.device)
    assert again.read_only is False
    assert (again.transaction_id, again.time, again.changed) == (7, 1, False)
    assert (again.mapping_root, again.details_root) == (live.mapping_root, live.details_root)
    assert (again.data.size, again.data.allocated, again.budget.data_chunks) == (256, 2, 256)
    assert again.metadata.size == 64
    assert again.superblock == live.superblock == block_0(live)
    assert again.all_details() == {1: (2, 0, 0, 1), 2: (0, 0, 0, 0), 3: (2, 7, 1, 1)}
    found = again.map_of(again.get(1))
    assert found.pick(np.array([0, 1, 5]), again.maps).tolist() == [
        blocks[0] << 24,
        UNMAPPED,
        blocks[1] << 24,
    ]
    assert (again.find(9), again.find(3).mapped) == (None, 2)
    assert again.find(1) is again.get(1) is again.devices[1], "one record for all"
    assert again.map_of(again.get(1)) is found
    with pytest.raises(NotFoundError, match="there is no thin device 9 in the pool of metadata"):
        again.get(9)


def test_features_that_only_reading_is_allowed_with() -> None:
    """Also after an abort, which reads the superblock anew."""
    live = fresh()
    live.device.content[356] = 1  # compat_ro_flags
    seal(memoryview(live.device.content)[:4096], SUPERBLOCK_XOR)
    with pytest.raises(UnsupportedError, match="that allow reading only"):
        LiveMetadata.open(live.device)
    reader = LiveMetadata.open(live.device, read_only=True)
    assert reader.read_only is True
    reader.abort()
    with pytest.raises(UnsupportedError):
        live.abort()


@pytest.mark.parametrize(("mapped", "good"), [(MAX_MAPPED, True), (MAX_MAPPED + 1, False)])
def test_details_that_no_device_can_have(mapped: int, good: bool) -> None:
    live = fresh()
    live.details_root = live.details.put(live.details_root, 5, DeviceDetails(mapped, 0, 0, 0)).root
    if good:
        assert live.get(5).mapped == mapped
        return
    with pytest.raises(CorruptError, match="details that are invalid for device 5"):
        live.find(5)
    assert 5 not in live.devices


def test_a_device_without_a_tree() -> None:
    live = fresh()
    root = live.mapping_root = live.top.remove(live.mapping_root, 2).root
    with pytest.raises(CorruptError, match=f"block {root} is the root of a mapping tree that lacks device 2"):
        live.map_of(live.get(2))


# -- devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dev_id", "error"),
    [(0, None), (MAX_DEVICE_ID, None), (-1, UsageError), (MAX_DEVICE_ID + 1, UsageError), (1, ExistsError)],
)
def test_ids_of_new_devices(dev_id: int, error: type[Exception] | None) -> None:
    assert MAX_DEVICE_ID == (1 << 24) - 1
    for make in (lambda live: live.create_thin(dev_id), lambda live: live.create_snap(dev_id, 2)):
        live = fresh()
        if error is None:
            make(live)
            commit(live)
            assert dev_id in details(live)
            continue
        with pytest.raises(error):
            make(live)
        assert not live.changed
        assert (live.time, live.get(2).snapshotted_time) == (0, 0)


def test_a_new_device_has_the_transaction_and_the_time_of_its_making() -> None:
    live = fresh()
    live.create_snap(3, 1)
    live.set_transaction_id(0, 4)
    live.create_thin(4)
    assert live.changed
    commit(live)
    assert details(live)[4] == (0, 4, 1, 1)
    assert mappings(live, 4) == {}
    provide(live, 4, [1])
    assert commit(live) == []
    assert (len(mappings(live, 4)), mappings(live, 1)) == (1, {})


def test_a_snapshot_shares_everything_until_it_is_written_to() -> None:
    live = fresh()
    first = provide(live, 1, range(4))
    live.set_transaction_id(0, 4)
    live.create_snap(3, 1)  # with what no commit has seen yet
    assert live.time == 1
    commit(live)
    roots = Metadata.open(live.device).roots
    assert roots[3] == roots[1]
    assert live.metadata.count(roots[1]) == 2
    assert mappings(live, 3) == {chunk: (first[chunk], 0) for chunk in range(4)}
    assert details(live) == {1: (4, 0, 0, 1), 2: (0, 0, 0, 0), 3: (4, 4, 1, 1)}
    [new] = provide(live, 1, [2])
    commit(live)
    assert mappings(live, 1)[2] == (new, 1)
    assert mappings(live, 3)[2] == (first[2], 0)
    assert [live.data.count(block) for block in [*first, new]] == [2, 2, 1, 2, 1]
    live.create_snap(4, 3)  # of a device whose map no one has looked at
    commit(live)
    assert (live.time, details(live)[4], details(live)[3]) == (2, (4, 4, 2, 2), (4, 4, 1, 2))
    assert mappings(live, 4) == mappings(live, 3)


def test_a_snapshot_of_a_changed_map_leaves_the_older_snapshot_alone() -> None:
    live = fresh()
    provide(live, 1, range(3))
    live.create_snap(3, 1)
    commit(live)
    before = mappings(live, 3)
    provide(live, 1, [0])
    live.create_snap(4, 1)
    commit(live)
    assert mappings(live, 3) == before
    assert mappings(live, 4) == mappings(live, 1) != before


@pytest.mark.parametrize(("time", "good"), [((1 << 24) - 2, True), ((1 << 24) - 1, False)])
def test_a_pool_has_only_so_many_snapshots(time: int, good: bool) -> None:
    live = fresh()
    live.time = time
    if good:
        live.create_snap(3, 1)
        assert live.time == time + 1
        return
    for do in (lambda: live.create_snap(3, 1), lambda: live.keep_committed(live.get(1), discard=False)):
        with pytest.raises(UnsupportedError, match="has had 16777215 snapshots, the format's limit"):
            do()
    assert live.time == time


@pytest.mark.parametrize("discard", [True, False])
@pytest.mark.parametrize("changed", [True, False])
def test_deleting_gives_back_what_nothing_shares(discard: bool, changed: bool) -> None:
    live = fresh()
    blocks = provide(live, 1, range(3))
    live.create_snap(3, 1)
    commit(live)
    more = provide(live, 1, range(5, 7))
    if not changed:
        commit(live)
    device = live.get(1)
    held = live.budget.held
    assert held > 0
    live.delete(1, discard=discard)
    assert live.budget.held == held - 1
    assert device.gone is True
    assert 1 not in live.devices
    assert commit(live) == (more if discard else [])
    assert set(details(live)) == {2, 3}
    assert sorted(block for block, _ in mappings(live, 3).values()) == blocks
    assert live.data.allocated == 3
    live.delete(3)
    assert commit(live) == [], "unless it is asked for, nothing is discarded"
    live.create_thin(1)
    provide(live, 1, [9])
    commit(live)
    assert live.get(1).mapped == 1


def test_what_is_open_is_not_deleted() -> None:
    live = fresh()
    live.get(1).opens = 1
    with pytest.raises(BusyError, match="thin device 1 of the pool of metadata is open"):
        live.delete(1)
    assert not live.changed
    assert not live.get(1).gone
    live.get(1).opens = 0
    live.delete(1)
    assert live.changed is True
    with pytest.raises(NotFoundError):
        live.delete(9)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (0, 0, None),
        (0, (1 << 64) - 1, None),
        (0, 1 << 64, UsageError),
        (0, -1, UsageError),
        (1, 2, ExistsError),
    ],
)
def test_the_transaction_id_is_compared_and_set(old: int, new: int, error: type[Exception] | None) -> None:
    live = fresh()
    if error is not None:
        with pytest.raises(error):
            live.set_transaction_id(old, new)
        assert (live.transaction_id, live.changed) == (0, False)
        return
    live.set_transaction_id(old, new)
    assert live.changed is True
    commit(live)
    assert block_0(live).transaction_id == new


def test_details_of_what_is_changed_are_those_in_memory() -> None:
    live = fresh()
    live.get(1).mapped = 5
    assert live.all_details()[1].mapped_blocks == 0
    live.get(1).changed = True
    assert live.all_details() == {1: DeviceDetails(5, 0, 0, 0), 2: DeviceDetails(0, 0, 0, 0)}
    assert isinstance(live.all_details()[2], DeviceDetails)


# -- what a transaction keeps ----------------------------------------------------------------------


def test_a_device_is_kept_as_if_it_had_just_been_snapshotted() -> None:
    live = fresh()
    one, two = live.get(1), live.get(2)
    live.keep_committed(one, discard=True)
    assert (live.time, one.snapshotted_time) == (1, 1)
    live.keep_committed(one, discard=True)
    live.keep_committed(two, discard=True)
    assert (live.time, one.snapshotted_time, two.snapshotted_time) == (1, 1, 1), "one time for all"
    live.create_thin(3)
    three = live.get(3)
    live.keep_committed(three, discard=True)
    assert three.snapshotted_time == 1
    live.create_snap(4, 1)
    assert (live.time, one.snapshotted_time) == (2, 2)
    commit(live)
    assert details(live) == {1: (0, 0, 0, 2), 2: (0, 0, 0, 0), 3: (0, 0, 1, 1), 4: (0, 0, 2, 2)}
    assert (one.snapshotted_time, two.snapshotted_time) == (2, 0)
    live.keep_committed(two, discard=False)
    assert (live.time, two.snapshotted_time) == (3, 3), "the next transaction keeps anew"
    live.delete(2)
    commit(live)
    fresh_one = fresh()
    fresh_one.create_thin(3)
    fresh_one.keep_committed(fresh_one.get(3), discard=True)
    assert (fresh_one.time, fresh_one.get(3).snapshotted_time) == (0, 0), "nothing of it is committed"
    commit(fresh_one)
    fresh_one.keep_committed(fresh_one.get(3), discard=True)
    assert fresh_one.time == 1


@pytest.mark.parametrize("discard", [True, False])
def test_what_a_transaction_replaces_is_discarded_if_it_asks_for_that(discard: bool) -> None:
    live = fresh()
    old = provide(live, 1, [0, 1])
    commit(live)
    live.keep_committed(live.get(1), discard=discard)
    new = provide(live, 1, [0])
    assert commit(live) == (old[:1] if discard else [])
    assert mappings(live, 1) == {0: (new[0], 1), 1: (old[1], 0)}
    provide(live, 1, [1])
    assert commit(live) == [], "only until the commit"


# -- trees and space -------------------------------------------------------------------------------


def test_a_mapping_that_only_this_transaction_had_is_given_back_at_once() -> None:
    live = fresh()
    provide(live, 1, [0])
    [again] = provide(live, 1, [0], discard=True)
    assert live.data.allocated == 1
    take_away(live, 1, [0])
    assert live.data.allocated == 0
    assert commit(live) == [again - 1, again]
    provide(live, 1, [0])
    provide(live, 1, [0])
    assert commit(live) == []
    assert live.get(1).mapped == details(live)[1].mapped_blocks == 1


@pytest.mark.parametrize("pass_down", [True, False])
def test_which_freed_blocks_a_commit_hands_out(pass_down: bool) -> None:
    live = fresh()
    live.pass_down = pass_down
    blocks = provide(live, 1, range(6))
    live.create_snap(3, 1)
    live.get(3)
    commit(live)
    for dev_id in (1, 3):
        take_away(live, dev_id, [5, 4])
    take_away(live, 1, [0])  # which the snapshot has
    assert commit(live) == (sorted(blocks[4:]) if pass_down else [])
    live.delete(3, discard=True)
    assert commit(live) == (blocks[:1] if pass_down else [])
    assert commit(live) == []


def test_what_is_in_use_again_is_not_discarded() -> None:
    live = fresh()
    blocks = provide(live, 1, [0, 1])
    take_away(live, 1, [0, 1])
    live.data.restart_search()
    assert provide(live, 1, [7]) == blocks[:1]
    assert commit(live) == blocks[1:]


def test_nothing_is_discarded_that_nobody_discarded() -> None:
    """Nor by what comes first after opening: a mapping replaced, or a held snapshot released."""
    live = fresh()
    old = provide(live, 1, [0, 1])
    provide(live, 2, [0])
    commit(live)
    live = LiveMetadata.open(live.device)
    provide(live, 1, [0])
    assert commit(live) == []
    assert live.data.count(old[0]) == 0
    live.reserve_snapshot()
    commit(live)
    live.delete(2)
    assert commit(live) == []
    live = LiveMetadata.open(live.device)
    live.release_snapshot()
    assert commit(live) == []
    assert live.data.allocated == 2
    [first] = provide(live, 1, [7])
    [second] = live.data.allocate(1)
    live.remap(live.get(1), np.array([7]), np.array([int(second) << 24], dtype=np.uint64))
    assert commit(live) == []
    assert live.data.count(first) == 0


def test_a_count_that_is_too_low() -> None:
    live = fresh()
    provide(live, 1, range(3))
    device = live.get(1)
    device.changed = False
    with pytest.raises(CorruptError, match="details that give device 1 too few mapped blocks"):
        live.count_unmapped(device, 4)
    assert (device.mapped, device.changed) == (3, False)
    live.count_unmapped(device, 3)
    assert (device.mapped, device.changed) == (0, True)


@pytest.mark.parametrize("committed", [True, False])
def test_unmapping_a_range_in_the_tree(committed: bool) -> None:
    live = fresh()
    device = live.get(1)
    blocks = provide(live, 1, [0, 1, 2, 3, PAGE, 2 * PAGE])
    if committed:
        commit(live)
        blocks[3:4] = provide(live, 1, [3])
    live.unmap(device, 1, PAGE)
    assert (device.mapped, device.changed, live.changed) == (2, True, True)
    assert sorted(live.map_of(device).pages) == [2], "pages that hold some of it are read again"
    read = live.map_of(device).read(0, 2 * PAGE + 1, live.maps)
    assert np.flatnonzero(read != UNMAPPED).tolist() == [0, 2 * PAGE]
    assert commit(live) == sorted(blocks[1:5])
    assert sorted(mappings(live, 1)) == [0, 2 * PAGE]
    assert live.data.allocated == 2
    assert details(live)[1].mapped_blocks == 2
    live.unmap(device, 50, 60)
    assert device.changed is True, "as a discard of nothing"
    assert commit(live) == []


def test_unmapping_more_than_is_done_at_once() -> None:
    """262144 at a time; every single one goes, and no other one."""
    count = (1 << 19) + 5
    live = fresh(blocks=4096, chunks=count + 100)
    provide(live, 1, range(10, count + 10))
    live.commit(lambda: None)
    device = live.get(1)
    live.unmap(device, 11, count + 8)
    assert device.mapped == 2
    freed = live.commit(lambda: None)
    assert len(freed) == count - 2
    assert sorted(mappings(live, 1)) == [10, count + 9]
    sound(live)


def test_more_mappings_than_the_details_say_are_not_unmapped() -> None:
    live = fresh()
    provide(live, 1, range(4))
    live.get(1).mapped = 3
    with pytest.raises(CorruptError):
        live.unmap(live.get(1), 0, 9)


def test_a_changed_root_is_known_to_the_top_tree() -> None:
    live = fresh()
    device = live.get(1)
    provide(live, 1, [0])
    assert device in live._changed_maps.values()
    live.flush_map(device)
    assert live.changed is True
    assert live._changed_maps == {}
    root = live.map_of(device).root
    assert int(live.top.lookup(live.mapping_root, 1)) == root
    put = live.top.put
    live.top.put = None  # what has not moved is not put again
    provide(live, 1, [1])
    live.flush_map(device)
    live.top.put = put
    assert live.map_of(device).root == root
    commit(live)
    assert len(mappings(live, 1)) == 2


def test_changed_blocks_are_written_ahead_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    live = fresh()
    provide(live, 1, [0])
    live.flush_map(live.get(1))
    monkeypatch.setattr(live_metadata, "SPILL", live.blocks.dirty)
    live.device.done.clear()
    provide(live, 1, [1])
    live.flush_map(live.get(1))
    assert live.device.done == []
    monkeypatch.setattr(live_metadata, "SPILL", live.blocks.dirty - 1)
    provide(live, 1, [2])
    live.flush_map(live.get(1))
    assert live.device.done == ["blocks"]
    assert mappings(live, 1) == {}, "nothing counts yet"
    commit(live)
    assert len(mappings(live, 1)) == 3


def test_memory_is_released_when_the_maps_hold_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_metadata, "PAGE_LIMIT", 4)
    live = fresh()
    one, two = live.get(1), live.get(2)
    live.map_of(one).read(0, 2 * PAGE, live.maps)
    provide(live, 2, [0, 5 * PAGE])
    live.find(1)
    live.trim()
    assert live.budget.held == 4
    live.map_of(one).read(3 * PAGE, 1, live.maps)
    live.create_thin(3)
    live.get(3)  # whose map was never looked at
    live.trim()
    assert (len(one.map.pages), sorted(two.map.pages), live.budget.held) == (0, [0, 5], 2)
    assert two.map.changed == {0, 5}, "half of them may be changed"
    provide(live, 1, [3 * PAGE])
    live.map_of(one).read(0, 2 * PAGE, live.maps)
    live.trim()
    assert (live.budget.held, live._changed_maps, two.map.changed) == (0, {}, set())
    commit(live)
    assert (len(mappings(live, 1)), len(mappings(live, 2))) == (1, 2)


@pytest.mark.parametrize(
    ("size", "free", "allocatable", "reserve", "left", "now"),
    [
        (1000, 150, 140, 100, 50, 40),
        (1009, 150, 140, 100, 50, 40),
        (1000, 100, 99, 100, 0, 0),
        (1000, 50, 40, 100, 0, 0),
        (40960, 4097, 4097, 4096, 1, 1),
        (100_000, 5000, 4999, 4096, 904, 903),
    ],
)
def test_the_reserve_is_not_free(
    size: int, free: int, allocatable: int, reserve: int, left: int, now: int
) -> None:
    """A tenth of the metadata, 16 MiB at most: the kernel's pool sets it aside (``METADATA_RESERVE``)."""

    class Space:
        pass

    live = fresh()
    live.metadata = Space()
    live.metadata.size, live.metadata.free, live.metadata.allocatable = size, free, allocatable
    assert (live.reserve, live.free_blocks, live.allocatable_blocks) == (reserve, left, now)


def test_a_guess_at_the_blocks_that_changes_will_take() -> None:
    """Eight for each device's path, and eight more a page changed, unless fewer leaves could hold it all."""
    live = fresh()
    one, two = live.get(1), live.get(2)
    assert live.blocks_needed(one, {0, 1}, 82) == 8
    assert live.blocks_needed(one, {0, 1}, 83) == 9
    one.mapped = 1 << 20
    assert live.blocks_needed(one, set(), 0) == 8
    assert live.blocks_needed(one, {0, 1}, 5) == 8 + 16
    live.map_of(one).changed |= {1, 2, 3}
    assert live.blocks_needed(one, {0, 1}, 5) == 8 + 32
    live.note_change(one)
    assert live.blocks_needed(one, {0, 1}, 5) == 8 + 32
    two.mapped = 166
    assert live.blocks_needed(two, {7}, 82) == 8 + 24 + 8 + 2
    live.map_of(two).changed |= {1}
    live.note_change(two)
    assert live.blocks_needed(two, {7}, 83) == 8 + 24 + 8 + 3
    assert live.blocks_needed(one, {1}, 0) == 8 + 24 + 8 + 2
    three = Device(3, DeviceDetails(0, 0, 0, 0))
    assert live.blocks_needed(three, {1}, 166) == 8 + 2 + 8 + 24 + 8 + 2
    one.map = None
    assert live.blocks_needed(one, {1}, 0) == 8 + 8 + 8 + 2


# -- commit and abort ------------------------------------------------------------------------------


def test_a_commit_writes_the_superblock_last() -> None:
    live = fresh()
    provide(live, 1, [0])
    live.device.done.clear()
    before = live.device.read(0, 4096)

    def flush() -> None:
        live.device.done.append("data")
        assert live.device.read(0, 4096) == before

    assert live.commit(flush).tolist() == []
    assert live.device.done == ["blocks", "data", "flush", 0, "flush"]
    assert live.superblock == block_0(live)
    assert not live.get(1).changed
    assert not live._created


@pytest.mark.parametrize("what", ["blocks", "data", "superblock", "flush"])
def test_a_commit_that_fails_leaves_the_committed_state(what: str) -> None:
    """Whatever fails before the superblock; after the abort everything can be done again."""
    live = fresh()
    blocks = provide(live, 1, [0, 1])
    live.create_snap(3, 1)
    commit(live)
    before, committed = live.device.read(0, 4096), mappings(live, 1)
    provide(live, 1, [0, 2])
    live.create_thin(4)
    live.set_transaction_id(0, 9)
    if what == "flush":
        live.device.fail_flushes = True
    elif what != "data":
        live.device.fails = lambda offset, length: (offset == 0) is (what == "superblock")

    def flush_data() -> None:
        if what == "data":
            raise OSError("data")

    with pytest.raises(Exception, match=r"data|metadata"):
        live.commit(flush_data)
    assert live.device.read(0, 4096) == before
    sound(live)
    live.device.fails, live.device.fail_flushes = None, False
    live.abort()
    assert not live.changed
    assert (live.transaction_id, set(live.all_details())) == (0, {1, 2, 3})
    provide(live, 1, [0])
    commit(live)
    assert {chunk: block for chunk, (block, _) in mappings(live, 3).items()} == dict(enumerate(blocks))
    assert mappings(live, 1)[1] == committed[1]


def test_an_abort_brings_back_what_is_open_and_forgets_the_rest() -> None:
    live = fresh()
    provide(live, 1, [0])
    commit(live)
    live.create_thin(3)
    for dev_id in (1, 3):
        live.get(dev_id).opens = 1
    one, two, three = live.get(1), live.get(2), live.get(3)
    provide(live, 1, [0, 1])
    provide(live, 2, [0])
    provide(live, 3, [0])
    live.create_snap(4, 1)
    live.keep_committed(one, discard=True)
    root = live.mapping_root
    live.abort()
    assert live.mapping_root != root
    assert live.devices == {1: one}
    assert (one.gone, two.gone, three.gone) == (False, False, True)
    assert (one.mapped, one.snapshotted_time, one.changed, one.map) == (1, 0, False, None)
    assert (two.map, three.map, live.budget.held, live.time) == (None, None, 0, 0)
    assert (live._kept, live._created, live._changed_maps, live._to_discard) == ({}, set(), {}, [])
    assert live.blocks.dirty == 0
    assert live.data.allocated == 1
    assert live.get(2) is not two
    assert not live.changed
    live.create_thin(3)
    commit(live)


def test_the_mark_that_a_check_is_needed() -> None:
    live = fresh()
    before = block_0(live)
    live.transaction_id = 77  # not committed
    live.device.done.clear()
    live.set_needs_check()
    assert live.device.done == [0, "flush"]
    fields = block_0(live)
    assert fields.needs_check
    assert fields.flags == NEEDS_CHECK
    assert (fields.transaction_id, fields.mapping_root) == (0, before.mapping_root)
    assert live.superblock == fields
    live.set_needs_check()
    assert block_0(live).flags == NEEDS_CHECK, "set, not turned over"


# -- the held snapshot -----------------------------------------------------------------------------


def test_a_held_snapshot_stays_as_it_was() -> None:
    live = fresh()
    first = provide(live, 1, range(3))
    provide(live, 2, [0])
    live.set_transaction_id(0, 5)
    commit(live)
    live.reserve_snapshot()
    assert live.changed
    held = live.superblock.held_root
    commit(live)
    copy = superblock_format.unpack(live.device.read(held * 4096, 4096), name="x", location=held)
    now = block_0(live)
    assert now.held_root == held > 0
    assert (copy.blocknr, copy.held_root, copy.transaction_id, copy.data_block_size) == (held, 0, 5, 128)
    assert copy.data_sm_root == copy.metadata_sm_root == SpaceMapRoot(0, 0, 0, 0)
    assert (copy.mapping_root, copy.details_root) == (now.mapping_root, now.details_root)
    assert [live.metadata.count(block) for block in (held, now.mapping_root, now.details_root)] == [1, 2, 2]
    with pytest.raises(BusyError, match="the pool of metadata holds a metadata snapshot already"):
        live.reserve_snapshot()
    assert not live.changed
    for number in range(3):  # each kind of change once
        provide(live, 1, [7 + number])
        if number == 1:
            live.unmap(live.get(2), 0, 5)
        if number == 2:
            live.get(1).mapped -= 1
            take = live.map_of(live.get(1)).store(
                np.array([0]), np.array([UNMAPPED], dtype=np.uint64), live.maps
            )
            assert not len(take)
        commit(live)
    live.create_snap(3, 1)
    live.delete(2)
    commit(live)
    old = Metadata.open(live.device, snapshot=True)
    assert (set(old.details), old.details[1]) == ({1, 2}, (3, 0, 0, 0))
    assert mappings(live, 1, held=True) == {chunk: (first[chunk], 0) for chunk in range(3)}
    assert len(mappings(live, 2, held=True)) == 1
    assert live.data.allocated == 7
    live.release_snapshot()
    assert live.changed
    assert commit(live) == []
    assert block_0(live).held_root == 0
    assert live.data.allocated == 5
    with pytest.raises(NotFoundError, match="the pool of metadata holds no metadata snapshot"):
        live.release_snapshot()
    assert not live.changed
    live.reserve_snapshot()
    commit(live)


def test_a_held_snapshot_that_is_damaged() -> None:
    live = fresh()
    live.reserve_snapshot()
    commit(live)
    live.device.content[live.superblock.held_root * 4096 + 100] ^= 1
    with pytest.raises(CorruptError, match="is a corrupt superblock"):
        LiveMetadata.open(live.device).release_snapshot()


def test_a_held_snapshot_may_be_released_before_its_commit() -> None:
    live = fresh()
    live.reserve_snapshot()
    live.release_snapshot()
    commit(live)


# -- growing ---------------------------------------------------------------------------------------


def test_growing() -> None:
    live = fresh()
    live.extend_data(300)
    assert (live.data.size, live.budget.data_chunks, live.changed) == (300, 300, True)
    commit(live)
    live.device.resize(80 * 4096)
    live.extend_metadata(80)
    assert (live.metadata.size, live.changed) == (80, True)
    commit(live)
    fields = block_0(live)
    assert (fields.data_sm_root.nr_blocks, fields.metadata_sm_root.nr_blocks) == (300, 80)
    assert fields.metadata_nr_blocks == 64, "what it was made with"


def test_every_tree_is_brought_up_to_date() -> None:
    live = fresh()
    provide(live, 1, [0])
    provide(live, 2, [0])
    live.flush_maps()
    assert live._changed_maps == {}
    flushed: list[Callable[[], None]] = []
    live.flush_map = flushed.append
    live.flush_maps()
    assert flushed == []
