# SPDX-License-Identifier: Apache-2.0
"""Full, failing and growing pools: the states of the kernel's thin-pool target, and its status lines."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lamella.block import MemoryDevice
from lamella.errors import (
    CorruptError,
    DeviceIOError,
    NoSpaceError,
    ReadOnlyError,
    UnsupportedError,
    UsageError,
)
from lamella.thin.engine.pool import Pool, PoolMode, PoolOptions
from tests.support.failing import FailingDevice, NowhereDevice
from tests.thin.engine.test_basics import CHUNK, MIB, assert_clean, new_pool, new_volume, pattern

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = PoolOptions(error_if_no_space=True)


# -- data ------------------------------------------------------------------------------------------


def data_part(pool: Pool) -> str:
    return pool.status().line().split(" ", 2)[2]


def test_data_full_errors_at_once() -> None:
    metadata, data, pool, volume = new_volume(MIB, data=8 * CHUNK, options=NOW)
    volume.write(0, pattern(1, 6 * CHUNK))
    with pytest.raises(NoSpaceError, match="all 8 chunks"):
        volume.write(6 * CHUNK, pattern(2, 4 * CHUNK))
    # As with the kernel the device is used up to its last chunk.
    assert data_part(pool) == "8/8 - out_of_data_space discard_passdown error_if_no_space - 128 "
    assert volume.read(0, 8 * CHUNK) == pattern(1, 6 * CHUNK) + pattern(2, 4 * CHUNK)[: 2 * CHUNK]
    volume.write(5, b"what is mapped can still be written")
    with pytest.raises(NoSpaceError):
        volume.write(9 * CHUNK, b"x")
    pool.create_snap(2, 1)  # messages work in this state
    data.resize(16 * CHUNK)
    pool.resize_data()
    assert data_part(pool) == "8/16 - rw discard_passdown error_if_no_space - 128 "
    volume.write(9 * CHUNK, b"x")
    pool.commit()
    assert_clean(metadata)


def test_data_full_waits_then_errors() -> None:
    _, _, pool, volume = new_volume(MIB, data=2 * CHUNK, options=PoolOptions(no_space_timeout=0.2))
    volume.write(0, bytes(2 * CHUNK))
    assert pool.status().line().split()[4:7] == ["rw", "discard_passdown", "queue_if_no_space"]
    begun = time.monotonic()
    with pytest.raises(NoSpaceError):
        volume.write(2 * CHUNK, b"x")
    assert time.monotonic() - begun >= 0.2
    # The policy turns over with the timeout, as the kernel's does, and the next one fails at once.
    assert pool.status().line().split()[4:7] == ["out_of_data_space", "discard_passdown", "error_if_no_space"]
    volume.discard(0, CHUNK)
    pool.commit()
    assert pool.status().line().split()[4:7] == ["rw", "discard_passdown", "queue_if_no_space"]
    volume.write(2 * CHUNK, b"x")


def test_waiting_writer_goes_on_when_the_pool_grows() -> None:
    metadata, data, pool, volume = new_volume(MIB, data=2 * CHUNK, options=PoolOptions(no_space_timeout=30))
    writer = threading.Thread(target=volume.write, args=(0, pattern(1, 4 * CHUNK)))
    writer.start()
    deadline = time.monotonic() + 20
    while pool.status().mode is not PoolMode.OUT_OF_DATA_SPACE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pool.status().line().split()[4:7] == ["out_of_data_space", "discard_passdown", "queue_if_no_space"]
    assert volume.read(0, CHUNK) == pattern(1, 4 * CHUNK)[:CHUNK]
    data.resize(8 * CHUNK)
    pool.resize_data()
    writer.join(20)
    assert not writer.is_alive()
    assert volume.read(0, 4 * CHUNK) == pattern(1, 4 * CHUNK)
    pool.commit()
    assert_clean(metadata)


def test_low_water_mark_is_reported_once() -> None:
    _, data, pool = new_pool(data=16 * CHUNK, options=PoolOptions(low_water_chunks=4, error_if_no_space=True))
    told: list[int] = []
    pool.on_low_water = lambda which: told.append(which.status().used_data)
    pool.create_thin(1)
    volume = pool.open_volume(1, 4 * MIB)
    volume.write(0, bytes(12 * CHUNK))
    assert told == []
    for number in range(12, 16):
        volume.write(number * CHUNK, b"x")
    assert told == [12]
    data.resize(32 * CHUNK)
    pool.resize_data()
    volume.write(16 * CHUNK, bytes(14 * CHUNK))
    assert len(told) == 2


def test_low_water_callback_may_grow_the_pool() -> None:
    _, data, pool = new_pool(data=8 * CHUNK, options=PoolOptions(low_water_chunks=2, error_if_no_space=True))

    def grow(which: Pool) -> None:
        data.resize(data.size + 8 * CHUNK)
        which.resize_data()

    pool.on_low_water = grow
    pool.create_thin(1)
    volume = pool.open_volume(1, 4 * MIB)
    for number in range(30):
        volume.write(number * CHUNK, b"x")
    assert pool.status().total_data == 32


def test_data_write_that_fails_maps_nothing() -> None:
    metadata, data = MemoryDevice(2 * MIB, name="metadata"), FailingDevice(MIB, name="data")
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, MIB)
    data.fails = lambda offset, length: True
    with pytest.raises(DeviceIOError, match="data"):
        volume.write(0, b"x")
    assert volume.mapped_chunks == 0
    assert pool.status().used_data == 0
    data.fails = None
    volume.write(0, b"x")
    pool.commit()
    assert_clean(metadata)


# -- metadata --------------------------------------------------------------------------------------


def fill_metadata(pool: Pool) -> int:
    """Write everywhere until the metadata is full; returns the chunks mapped."""
    pool.create_thin(1)
    volume = pool.open_volume(1, 1 << 40)

    def write_on() -> None:
        for start in range(0, 1_000_000, 1000):
            volume.write_many([((start + at) * 16 * CHUNK, b"x") for at in range(1000)])

    with pytest.raises(NoSpaceError, match="metadata"):
        write_on()
    return volume.mapped_chunks


def test_metadata_full_and_grown(tool: Callable[[str], str], tmp_path: Path) -> None:
    metadata, data = MemoryDevice(2 * MIB, name="metadata"), NowhereDevice(64 << 30)
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    done = fill_metadata(pool)
    assert done > 30_000
    line = pool.status().line().split()
    assert line[1] == "512/512"
    assert line[4] == "ro"
    assert line[7] == "-"  # full is no damage
    with pytest.raises(NoSpaceError, match="metadata"):
        pool.create_thin(2)
    with pytest.raises(NoSpaceError, match="metadata"):
        pool.delete(1)
    pool.close()
    assert_clean(metadata)
    pool = Pool.open(metadata, data)
    assert pool.status().line().split()[4] == "ro"
    volume = pool.open_volume(1, 1 << 40)
    assert volume.mapped_chunks == done
    metadata.resize(4 * MIB)
    pool.resize_metadata()
    assert pool.status().line().split()[4] == "rw"
    volume.write(5 * CHUNK, b"x")
    pool.close()
    assert_clean(metadata)
    assert Pool.open(metadata, data).status().total_metadata == 1024


def test_metadata_full_by_large_batches() -> None:
    """Every batch changes leaves all over the tree, which takes more blocks than its chunks would."""
    metadata, data = MemoryDevice(MIB // 2, name="metadata"), NowhereDevice(16 << 30)
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, 1 << 40)

    def write_on() -> None:
        for start in range(200):
            volume.write_many([((at * 1000 + start) * CHUNK, b"x") for at in range(500)])

    with pytest.raises(NoSpaceError, match="metadata"):
        write_on()
    assert pool.status().line().split()[4] == "ro"
    assert not pool.status().needs_check
    pool.close()
    assert_clean(metadata)


def test_metadata_full_by_devices() -> None:
    metadata, data = MemoryDevice(512 << 10, name="metadata"), NowhereDevice(1 << 30)
    pool = Pool.create(metadata, data, chunk_size=CHUNK)

    def create_on() -> None:
        for dev_id in range(1000):
            pool.create_thin(dev_id)

    with pytest.raises(NoSpaceError, match="metadata"):
        create_on()
    devices = len(pool.devices())
    assert devices > 50
    pool.close()
    assert_clean(metadata)


def test_commit_that_fails_goes_back_and_needs_a_check() -> None:
    metadata, data = FailingDevice(4 * MIB, name="metadata"), MemoryDevice(16 * MIB)
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, MIB)
    volume.write(0, b"committed")
    pool.commit()
    pool.create_thin(2)
    volume.write(CHUNK, b"lost")
    metadata.fails = lambda offset, length: offset != 0
    with pytest.raises(DeviceIOError, match="needs a check") as caught:
        pool.commit()
    assert caught.value.hint
    assert "thin_check" in caught.value.hint
    line = pool.status().line().split()
    assert line[2:] == ["1/256", "-", "ro", "discard_passdown", "queue_if_no_space", "needs_check", "256"]
    assert volume.read(0, 9) == b"committed"
    assert volume.read(CHUNK, 4) == bytes(4)
    assert list(pool.devices()) == [1]
    for action in (lambda: pool.create_thin(3), lambda: volume.write(0, b"x"), lambda: pool.delete(1)):
        with pytest.raises(ReadOnlyError, match="needs a check"):
            action()
    volume.close()
    pool.close()
    metadata.fails = None
    assert metadata.content[4] == 1
    pool = Pool.open(metadata, data)
    assert pool.status().line().split()[4] == "ro"
    with pytest.raises(ReadOnlyError):
        pool.create_thin(3)
    assert_clean(metadata)


def test_dead_metadata_device_fails_the_pool() -> None:
    metadata, data = FailingDevice(4 * MIB, name="metadata"), MemoryDevice(16 * MIB)
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, MIB)
    volume.write(0, b"x")
    metadata.fails = lambda offset, length: True
    metadata.fail_reads = True
    with pytest.raises(DeviceIOError, match="has failed"):
        pool.commit()
    assert pool.status().line() == "Fail"
    assert volume.status_line() == "Fail"
    with pytest.raises(DeviceIOError, match="failed"):
        volume.read(0, 1)
    pool.close()


def test_data_flush_that_fails_commits_nothing() -> None:
    metadata, data = MemoryDevice(4 * MIB, name="metadata"), FailingDevice(16 * MIB, name="data")
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    pool.create_thin(1)
    pool.commit()
    volume = pool.open_volume(1, MIB)
    volume.write(0, b"x")
    data.fail_flushes = True
    with pytest.raises(DeviceIOError):
        volume.flush()
    assert Pool.open(MemoryDevice(content=bytes(metadata.content)), data).devices()[1].mapped_blocks == 0


def test_sizes_at_opening() -> None:
    metadata, data, pool = new_pool(metadata=4 * MIB, data=16 * MIB)
    pool.close()
    with pytest.raises(UsageError, match="too small: it has 255 chunks of 65536 bytes, its pool expects 256"):
        Pool.open(metadata, MemoryDevice(16 * MIB - 1, name="data"))
    with pytest.raises(UsageError, match="too small: it has 1023 blocks, its metadata expects 1024"):
        Pool.open(MemoryDevice(content=bytes(metadata.content[:-4096])), data)
    data.resize(1 << 30)
    metadata.resize(64 * MIB)
    pool = Pool.open(metadata, data)
    assert pool.status().total_data == 16384
    assert pool.status().total_metadata == 16384
    pool.close()
    assert_clean(metadata)


def test_many_bitmaps() -> None:
    """More than one bitmap in both space maps, and an index tree with more than a root."""
    metadata, data = MemoryDevice(128 * MIB, name="metadata"), NowhereDevice(4 << 40)
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, 4 << 40)
    volume.write_many([(at * 1000 * CHUNK, b"x") for at in range(50_000)])
    pool.commit()
    assert_clean(metadata)
    data.resize(16 << 40)
    pool.resize_data()
    assert pool.status().total_data == 1 << 28
    assert_clean(metadata)


@pytest.mark.parametrize("field", [352, 356, 360])
def test_unknown_features_are_refused(field: int) -> None:
    from lamella.thin.format.checksum import SUPERBLOCK_XOR, seal

    metadata, data, pool = new_pool()
    pool.close()
    metadata.content[field] = 4
    seal(memoryview(metadata.content)[:4096], SUPERBLOCK_XOR)
    if field == 352:  # compat features may be ignored
        Pool.open(metadata, data).close()
        return
    before = bytes(metadata.content)
    with pytest.raises(UnsupportedError, match="features"):
        Pool.open(metadata, data)
    assert metadata.content == before


def use(metadata: MemoryDevice, data: MemoryDevice) -> None:
    """Go through every structure of the metadata."""
    pool = Pool.open(metadata, data, options=NOW)
    volume = pool.open_volume(1, MIB)
    volume.read(0, 10)
    volume.write(MIB - CHUNK, b"y")
    pool.create_thin(2)
    pool.commit()


def test_damage_is_named_and_nothing_written() -> None:
    metadata, data, pool = new_pool()
    pool.create_thin(1)
    pool.open_volume(1, MIB).write(0, b"x")
    pool.commit()
    sound = bytes(metadata.content)
    in_use = np.flatnonzero(pool.live.metadata.page(0).now)
    assert len(in_use) > 8
    # No count is large here, so the overflow trees are never looked at.
    unused = {0, pool.live.data.ref_count_root, pool.live.metadata.ref_count_root}
    for block in sorted(set(in_use.tolist()) - unused):
        damaged = MemoryDevice(content=sound, name="metadata")
        damaged.content[block * 4096 + 100] ^= 1
        before = bytes(damaged.content)
        with pytest.raises(CorruptError, match=f"block {block}"):
            use(damaged, data)
        # At most the mark that a check is needed has been written.
        assert damaged.content[4096:] == before[4096:]
    damaged = MemoryDevice(content=sound, name="metadata")
    damaged.content[50] ^= 1
    with pytest.raises(CorruptError, match="superblock of metadata"):
        Pool.open(damaged, data)
