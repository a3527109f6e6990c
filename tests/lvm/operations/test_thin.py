# SPDX-License-Identifier: Apache-2.0
"""Thin pools and volumes: sizes, messages, growth, repair and renaming."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError, CorruptError, UsageError
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, rename_lv
from lamella.lvm.operations.pool_repair import repair_pool, swap_metadata
from lamella.lvm.operations.pool_resize import grow_by_policy, policy_growth, resize_pool
from lamella.lvm.operations.pool_spare import spare_of
from lamella.lvm.operations.thin_merge import merge_snapshot
from lamella.lvm.operations.thin_messages import opened_pool
from lamella.lvm.operations.thin_pools import PoolRequest, convert_to_pool, create_pool
from lamella.lvm.operations.thin_sizes import pool_sizes
from lamella.lvm.operations.thin_volumes import (
    ThinRequest,
    create_snapshot,
    create_thin,
    overprovisioning,
    remove_any,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.block import BlockDevice
    from tests.lvm.memory_groups import Edit


@pytest.mark.parametrize(
    ("data", "chunk", "metadata"),
    [
        (1 << 30, 64 << 10, 4 << 20),
        (100 << 30, 64 << 10, 100 << 20),
        (1 << 40, 512 << 10, 128 << 20),
        (16 << 40, 8 << 20, 128 << 20),
    ],
)
def test_sizes_that_lvm_chooses(data: int, chunk: int, metadata: int) -> None:
    """Chunk and metadata for data of several sizes in bytes, worked out by LVM2 2.03.16's rules."""
    sizes = pool_sizes(data >> 22, 8192, lambda notice: None)
    assert (sizes.chunk_sectors * 512, sizes.metadata_extents << 22) == (chunk, metadata)


def test_notices_about_large_chunks() -> None:
    said: list[str] = []
    pool_sizes(9727, 8192, lambda notice: said.append(str(notice)), chunk_sectors=1024, metadata_extents=102)
    assert said == [
        "Thin pool volume with chunk size 512.00 KiB can address at most 127.00 TiB of data.",
        "WARNING: Pool zeroing and 512.00 KiB large chunk size slows down thin provisioning.",
        "WARNING: Consider disabling zeroing (-Zn) or using smaller chunk size (<512.00 KiB).",
    ]


def test_thin_volumes_are_in_the_pool_too(edit: Edit, tool: Callable[[str], str], tmp_path: Path) -> None:
    thin_check = tool("thin_check")
    session, found = edit
    pool = create_pool(session, found, "pool", 64)
    thin = create_thin(session, found, pool, 80, ThinRequest("thin"))
    with opened_pool(found, pool) as engine, engine.open_volume(1, found.group.size_of(thin)) as volume:
        volume.write(0, b"hello" * 100_000)
    snap = create_snapshot(session, found, thin, ThinRequest("snap"))
    assert "ACTIVATION_SKIP" in snap.flags
    with opened_pool(found, pool) as engine:
        assert engine.transaction_id == 2
        assert sorted(engine.devices()) == [1, 2]
        assert engine.devices()[2].mapped_blocks == engine.devices()[1].mapped_blocks > 0
        with engine.open_volume(2, found.group.size_of(thin), read_only=True) as volume:
            assert volume.read(0, 10) == b"hellohello"
    remove_any(session, found, thin)
    assert found.group.lvs["snap"].thin is not None
    assert found.group.lvs["snap"].thin.origin == ""
    third = create_thin(session, found, pool, 10, ThinRequest("third"))
    assert third.thin is not None
    assert third.thin.device_id == 3
    metadata = tmp_path / "metadata"
    metadata.write_bytes(open_lv(found, "pool_tmeta").read(0, open_lv(found, "pool_tmeta").size))
    subprocess.run([thin_check, "-q", str(metadata)], check=True)
    remove_any(session, found, pool)
    assert found.group.lvs == {}


def test_a_snapshot_takes_the_place_of_its_origin(edit: Edit) -> None:
    """What LVM2 2.03.16 left in text and pool, on a real kernel, after ``lvconvert --merge vg/snap``."""
    session, found = edit
    group = found.group
    pool = create_pool(session, found, "pool", 64)
    thin = create_thin(session, found, pool, 8, ThinRequest("thin", tags=["origin"], read_ahead=256))
    with opened_pool(found, pool) as engine, engine.open_volume(1, group.size_of(thin)) as volume:
        volume.write(0, b"old" * 1000)
    snap = create_snapshot(session, found, thin, ThinRequest("snap", tags=["snap"], writable=False))
    create_snapshot(session, found, snap, ThinRequest("of-snap"))
    create_snapshot(session, found, thin, ThinRequest("other"))
    with opened_pool(found, pool) as engine, engine.open_volume(1, group.size_of(thin)) as volume:
        volume.write(0, b"new" * 1000)
    identity = thin.uuid
    merged = merge_snapshot(session, found, snap)
    assert merged is thin
    assert "snap" not in group.lvs
    assert (thin.uuid, thin.tags, thin.read_ahead, thin.writable) == (identity, ["origin"], 256, True)
    assert "ACTIVATION_SKIP" not in thin.flags
    assert thin.thin is not None
    assert (thin.thin.device_id, thin.thin.transaction_id, thin.thin.origin) == (2, 1, "")
    of_snap, other = group.lvs["of-snap"].thin, group.lvs["other"].thin
    assert of_snap is not None
    assert other is not None
    assert (of_snap.origin, other.origin) == ("thin", "")
    assert group.pool_segment(pool).transaction_id == 5
    with opened_pool(found, pool) as engine:
        assert sorted(engine.devices()) == [2, 3, 4]
        with engine.open_volume(2, group.size_of(thin), read_only=True) as volume:
            assert volume.read(0, 6) == b"oldold"
    for name in ("other", "thin"):
        with pytest.raises(UsageError, match="is not a mergeable logical volume"):
            merge_snapshot(session, found, group.lvs[name])


def test_messages_can_be_left_to_lvm(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 64)
    segment = pool.thin_pool
    assert segment is not None
    create_thin(session, found, pool, 10, ThinRequest("one", apply=False))
    two = create_thin(session, found, pool, 10, ThinRequest("two", apply=False))
    assert segment.messages == [("create", "one"), ("create", "two")]
    assert segment.transaction_id == 1
    remove_any(session, found, two, apply=False)
    assert segment.messages == [("create", "one")]
    create_thin(session, found, pool, 10, ThinRequest("three"))
    assert segment.messages == []
    assert segment.transaction_id == 2
    with opened_pool(found, pool) as engine:
        assert sorted(engine.devices()) == [1, 2]


def test_a_pool_of_another_program_is_left_alone(edit: Edit) -> None:
    session, found = edit
    data = create_lv(session, found, LvRequest(40, "data"))
    metadata = create_lv(session, found, LvRequest(16, "metadata"))
    pool = convert_to_pool(session, found, data, metadata, PoolRequest(zero=False))
    with opened_pool(found, pool) as engine:
        engine.create_thin(1)
        engine.set_transaction_id(0, 1)
    with pytest.raises(BusyError, match="managed by another program"):
        create_thin(session, found, pool, 10)
    resize_pool(session, found, pool, data_extents=60)
    with opened_pool(found, pool) as engine:
        assert engine.status().total_data == 60 * 2
        assert sorted(engine.devices()) == [1]


def test_a_pool_that_does_not_belong_to_the_text(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 64)
    create_thin(session, found, pool, 10)
    with opened_pool(found, pool) as engine:
        engine.set_transaction_id(1, 5)
    with pytest.raises(CorruptError, match="transaction_id is 5, while expected 1"):
        create_thin(session, found, pool, 10)


def test_growing_by_policy() -> None:
    """The sizes that a real pool went through, written to in steps of 60 MiB: 200, 240, 300, 376, 452."""
    size = 200
    for used, following in ((180, 240), (240, 300), (300, 376), (360, 452)):
        extents = size // 4
        extents += -(-extents * policy_growth(used, size, 80, 20) // 100)
        size = extents * 4
        assert size == following
    assert policy_growth(80, 100, 80, 20) == 0
    assert policy_growth(81, 100, 80, 20) == 20
    assert policy_growth(100, 100, 80, 20) == 25
    assert policy_growth(99, 100, 100, 20) == 0
    assert policy_growth(60, 100, 10, 20) == 20


def test_policies_grow_data_metadata_and_spare(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 40)
    before = spare_of(found.group)
    assert before is not None
    spare = before.extents
    nothing = grow_by_policy(
        session, found, pool, used_data=(50, 100), used_metadata=(10, 100), threshold=80, percent=20
    )
    assert not nothing
    grow_by_policy(
        session, found, pool, used_data=(90, 100), used_metadata=(10, 100), threshold=80, percent=20
    )
    assert found.group.lvs["pool_tdata"].extents == pool.extents == 48
    grow_by_policy(
        session, found, pool, used_data=(10, 100), used_metadata=(90, 100), threshold=80, percent=20
    )
    assert found.group.lvs["pool_tmeta"].extents > spare
    assert before.extents == found.group.lvs["pool_tmeta"].extents


def test_promising_more_than_there_is(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 40)
    small = create_thin(session, found, pool, 30)
    assert overprovisioning(found.group, small, lambda pool: (100, 20)) == []
    large = create_thin(session, found, pool, 5000)
    said = [str(notice) for notice in overprovisioning(found.group, large, lambda pool: (100, 20))]
    assert said[0].startswith(
        "WARNING: Sum of all thin volume sizes (628.75 MiB) exceeds the size of thin pool vg/pool"
    )
    assert "protection against thin pools" in said[1]
    assert len(overprovisioning(found.group, large, lambda pool: (80, 20))) == 1


def test_repairing_metadata_into_the_spare(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 40)
    create_thin(session, found, pool, 10)

    def copy(old: BlockDevice, new: BlockDevice) -> None:
        new.write(0, old.read(0, old.size))

    was = found.group.lvs["pool_tmeta"].uuid
    old = repair_pool(session, found, pool, copy)
    assert (old.name, old.uuid, old.visible) == ("pool_meta0", was, True)
    assert found.group.lvs["pool_tmeta"].uuid != was
    assert spare_of(found.group) is not None
    with opened_pool(found, pool) as engine:
        assert sorted(engine.devices()) == [1]
    swap_metadata(session, found, pool, old)
    assert found.group.lvs["pool_tmeta"].uuid == was
    assert not found.group.lvs["pool_tmeta"].visible
    assert found.group.lvs["pool_meta0"].visible


def test_renaming_takes_the_hidden_parts_along(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 40)
    thin = create_thin(session, found, pool, 10, ThinRequest("thin"))
    rename_lv(session, found, pool, "new")
    assert set(found.group.lvs) == {"new", "thin", "new_tmeta", "new_tdata", "lvol0_pmspare"}
    assert thin.thin is not None
    assert thin.thin.pool == "new"
    with pytest.raises(UsageError, match="internal"):
        rename_lv(session, found, found.group.lvs["new_tmeta"], "x")


def test_a_pool_needs_no_spare(edit: Edit) -> None:
    session, found = edit
    create_pool(session, found, "pool", 40, PoolRequest(spare=False))
    assert spare_of(found.group) is None
    said = "WARNING: recovery of pools without pool metadata spare LV is not automated."
    assert said in [str(notice) for notice in session.notices]
