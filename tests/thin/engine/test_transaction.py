# SPDX-License-Identifier: Apache-2.0
"""Transactions that a caller opens: all of it or nothing, whatever runs short, and nothing committed is
written to before the commit."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import BusyError, DeviceIOError, NoSpaceError, NotFoundError
from lamella.thin.engine.pool import Pool, PoolMode, PoolOptions
from lamella.thin.tools.check import check
from tests.support.failing import FailingDevice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHUNK = 64 << 10
CHUNKS = 64
SIZE = 1 << 30
FAILING = PoolOptions(zero=False, error_if_no_space=True)


def make(*, chunks: int = CHUNKS, metadata: int = 1 << 20, device: type[MemoryDevice] = MemoryDevice) -> Pool:
    """A pool with device 1, whose first chunks hold the letter a."""
    pool = Pool.create(
        device(metadata, name="metadata"),
        device(chunks * CHUNK, name="data"),
        chunk_size=CHUNK,
        options=FAILING,
    )
    pool.create_thin(1)
    with pool.open_volume(1, SIZE) as volume:
        volume.write(0, b"a" * (20 * CHUNK))
    pool.commit()
    return pool


def committed(pool: Pool) -> Pool:
    """The pool as a crash would leave it, everything that was written being on the disk."""
    metadata, data = MemoryDevice(pool.metadata_device.size), MemoryDevice(pool.data_device.size)
    for copy, device in ((metadata, pool.metadata_device), (data, pool.data_device)):
        copy.write(0, device.read(0, device.size))
    report = check(metadata)
    assert report.complete
    assert not report.problems
    assert report.metadata_leaks == report.data_leaks == 0
    return Pool.open(metadata, data, options=FAILING)


def content(pool: Pool, dev_id: int = 1, length: int = 20 * CHUNK) -> bytes:
    with pool.open_volume(dev_id, SIZE, read_only=True) as volume:
        return volume.read(0, length)


def overwrite(pool: Pool) -> None:
    """A whole chunk, a part of one, zeros over one, and a discard, all of chunks that device 1 has alone."""
    with pool.open_volume(1, SIZE) as volume:
        volume.write(0, b"b" * CHUNK)
        volume.write(CHUNK + 100, b"b" * 100)
        volume.write_zeros(2 * CHUNK, CHUNK)
        volume.write_zeros(3 * CHUNK + 512, 512)
        volume.discard(4 * CHUNK, CHUNK)
        volume.write_many([(5 * CHUNK, b"b" * 512), (5 * CHUNK + 4096, b"b" * (2 * CHUNK))])


OVERWRITTEN = bytearray(b"a" * (20 * CHUNK))
OVERWRITTEN[:CHUNK] = b"b" * CHUNK
OVERWRITTEN[CHUNK + 100 : CHUNK + 200] = b"b" * 100
OVERWRITTEN[2 * CHUNK : 3 * CHUNK] = bytes(CHUNK)
OVERWRITTEN[3 * CHUNK + 512 : 3 * CHUNK + 1024] = bytes(512)
OVERWRITTEN[4 * CHUNK : 5 * CHUNK] = bytes(CHUNK)
OVERWRITTEN[5 * CHUNK : 5 * CHUNK + 512] = b"b" * 512
OVERWRITTEN[5 * CHUNK + 4096 : 7 * CHUNK + 4096] = b"b" * (2 * CHUNK)


def test_nothing_committed_is_written_to() -> None:
    pool = make()
    pool.begin()
    overwrite(pool)
    assert content(pool) == OVERWRITTEN
    assert content(committed(pool)) == b"a" * (20 * CHUNK)
    pool.commit()
    assert content(pool) == content(committed(pool)) == OVERWRITTEN


def test_an_abort_takes_all_of_it_back() -> None:
    pool = make()
    pool.begin()
    overwrite(pool)
    pool.create_snap(2, 1)
    pool.abort()
    assert content(pool) == content(committed(pool)) == b"a" * (20 * CHUNK)
    assert pool.device_ids() == {1}
    assert pool.status().used_data == 20


def test_a_volume_that_was_open_before() -> None:
    pool = make()
    with pool.open_volume(1, SIZE) as volume:
        pool.begin()
        volume.write(0, b"b")
        assert content(committed(pool))[:2] == b"aa"
        pool.commit()
        volume.write(1, b"b")
        assert content(committed(pool))[:2] == b"bb", "outside of a transaction a chunk is written in place"


def test_a_chunk_is_replaced_once_and_the_old_one_given_back() -> None:
    pool = make()
    with pool.open_volume(1, SIZE) as volume:
        for _ in range(3):
            pool.begin(discard=True)
            for number in range(10):
                volume.write(number, b"b")
            assert pool.live.data.allocated == 21
            pool.commit()
        assert pool.status().used_data == 20
        time = pool.devices()[1].snapshotted_time
        before = list(volume.mapped_ranges())
        volume.write(5 * CHUNK, b"c")
        assert list(volume.mapped_ranges()) == before, "the device is not taken for one with a snapshot"
    assert time == 0
    data = pool.data_device
    assert isinstance(data, MemoryDevice)
    used = sum(any(data.read(at, CHUNK)) for at in range(0, data.size, CHUNK))
    assert used == 20, "what was replaced is discarded"


def test_snapshots_within_a_transaction() -> None:
    pool = make()
    pool.begin()
    with pool.open_volume(1, SIZE) as volume:
        volume.write(0, b"b" * CHUNK)
        pool.create_snap(2, 1)
        volume.write(0, b"c" * CHUNK)
        volume.write(CHUNK, b"c" * CHUNK)
    with pool.open_volume(2, SIZE) as volume:
        volume.write(2 * CHUNK, b"d" * CHUNK)
    pool.commit()
    for each in (pool, committed(pool)):
        assert content(each, 1, 3 * CHUNK)[::CHUNK] == b"cca"
        assert content(each, 2, 3 * CHUNK)[::CHUNK] == b"bad"
        with each.open_volume(1, SIZE) as volume:
            volume.write(3 * CHUNK, b"e")  # shared by the snapshot, and not written in the transaction
        assert content(each, 2, 4 * CHUNK)[3 * CHUNK :: CHUNK] == b"a"
    assert not check(pool.metadata_device).problems


def test_a_flush_commits_nothing() -> None:
    """Replaying a journal flushes the volume. The transaction's commit makes all of it durable."""
    pool = make()
    pool.begin()
    with pool.open_volume(1, SIZE) as volume:
        volume.write(0, b"b")
        volume.flush()
        assert content(committed(pool))[:1] == b"a"
    pool.commit()
    assert content(committed(pool))[:1] == b"b"


def test_closing_rolls_back() -> None:
    pool = make()
    pool.begin()
    overwrite(pool)
    pool.close()
    assert content(committed(pool)) == b"a" * (20 * CHUNK)


def test_what_was_pending_is_committed_first() -> None:
    pool = make()
    pool.create_thin(2)
    pool.begin()
    pool.create_thin(3)
    pool.abort()
    assert pool.device_ids() == committed(pool).device_ids() == {1, 2}


REFUSED: dict[str, Callable[[Pool], object]] = {
    "begin": lambda pool: pool.begin(),
    "message": lambda pool: pool.message("create_thin 9"),
    "reserve": lambda pool: pool.reserve_metadata_snap(),
    "view": lambda pool: pool.metadata_view().__enter__(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_commit_half_of_it_is_refused(what: str) -> None:
    pool = make()
    pool.begin()
    pool.create_thin(2)
    with pytest.raises(BusyError, match="a transaction is open"):
        REFUSED[what](pool)
    assert committed(pool).device_ids() == {1}
    pool.commit()
    assert committed(pool).device_ids() == {1, 2}


def test_the_data_is_full() -> None:
    """What is freed in the transaction is needed until it is complete; after the abort all is as it was."""
    pool = make()
    superblock = pool.metadata_device.read(0, 4096)
    pool.begin()
    with pool.open_volume(1, SIZE) as volume:
        volume.discard(10 * CHUNK, 10 * CHUNK)
        with pytest.raises(NoSpaceError, match="all 64 chunks of data are in use, 10 of them until"):
            volume.write(100 * CHUNK, b"b" * (50 * CHUNK))
    assert pool.metadata_device.read(0, 4096) == superblock
    pool.abort()
    assert pool.mode is PoolMode.WRITE
    assert pool.status().used_data == 20
    assert content(pool) == content(committed(pool)) == b"a" * (20 * CHUNK)
    with pool.open_volume(1, SIZE) as volume:
        volume.write(100 * CHUNK, b"b" * (44 * CHUNK))  # every free chunk


def test_chunks_of_the_transaction_itself_are_used_again() -> None:
    pool = make()
    pool.begin()
    with pool.open_volume(1, SIZE, zero_fresh=True) as volume:
        for number in range(10):
            volume.write(100 * CHUNK, bytes([number]) * (40 * CHUNK))
            assert volume.read(100 * CHUNK, 40 * CHUNK) == bytes([number]) * (40 * CHUNK)
            volume.discard(100 * CHUNK, 40 * CHUNK)
        for number in range(40):
            volume.write((200 + number) * CHUNK + 512, b"b" * 512)
        for number in range(40):  # nothing of what lay there before
            chunk = bytes(512) + b"b" * 512 + bytes(CHUNK - 1024)
            assert volume.read((200 + number) * CHUNK, CHUNK) == chunk
    pool.commit()
    assert committed(pool).status().used_data == 60


def scatter(pool: Pool, chance: random.Random) -> None:
    """Single chunks all over device 1, the dearest kind of mapping, until nothing more fits."""
    with pool.open_volume(1, 1 << 44) as volume:
        while True:
            places = sorted(chance.sample(range(1 << 20), 100))
            volume.write_many((place * CHUNK, b"b" * 512) for place in places)


def test_the_metadata_is_full(tmp_path: Path) -> None:
    """The transaction is refused and rolled back; the pool needs no check, and goes on."""
    data = FileDevice.create(tmp_path / "data", CHUNK << 15)
    pool = Pool.create(MemoryDevice(64 * 4096), data, chunk_size=CHUNK, options=FAILING)
    pool.create_thin(1)
    with pool.open_volume(1, SIZE) as volume:
        volume.write(0, b"a" * (20 * CHUNK))
    pool.commit()
    chance = random.Random(3)
    for _ in range(2):
        superblock = pool.metadata_device.read(0, 4096)
        pool.begin()
        with pytest.raises(NoSpaceError, match="metadata blocks") as caught:
            scatter(pool, chance)
        assert "grow the metadata" in str(caught.value.hint)
        assert pool.metadata_device.read(0, 4096) == superblock
        pool.abort()
        assert pool.mode is PoolMode.WRITE
        assert not pool.status().needs_check
        assert content(pool) == b"a" * (20 * CHUNK)
        assert pool.status().used_data == 20
        pool.create_thin(2)
        pool.delete(2)
        pool.commit()
        assert not check(pool.metadata_device).problems
    data.close()


def test_many_small_steps_fit_where_one_guess_does_not() -> None:
    """A guess at the metadata that is needed is no reason to refuse: what is pending is counted first."""
    pool = make(chunks=1 << 12, metadata=100 * 4096)
    pool.begin()
    with pool.open_volume(1, SIZE) as volume:
        for chunk in range(100, 3500):
            volume.write(chunk * CHUNK, b"b" * 512)
    pool.commit()
    assert committed(pool).status().used_data == 3420


def test_an_error_that_spoils_the_transaction_rolls_it_back_at_once() -> None:
    """Nothing more is written then, not in place either, and it cannot be committed."""
    pool = make(device=FailingDevice)
    metadata = pool.metadata_device
    assert isinstance(metadata, FailingDevice)
    pool.begin()
    with pool.open_volume(1, SIZE) as volume:
        volume.write(0, b"b" * CHUNK)

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        pool.live.flush_maps, saved = interrupt, pool.live.flush_maps  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            pool.status()
        pool.live.flush_maps = saved  # type: ignore[method-assign]
        for write in (lambda: volume.write(0, b"c"), lambda: volume.write(30 * CHUNK, b"c")):
            with pytest.raises(DeviceIOError, match="failed and was rolled back"):
                write()
        with pytest.raises(DeviceIOError, match="failed and was rolled back"):
            volume.discard(0, CHUNK)
        with pytest.raises(DeviceIOError, match="failed and was rolled back"):
            pool.create_thin(2)
        with pytest.raises(DeviceIOError, match="failed and was rolled back"):
            pool.commit()
        assert volume.read(0, CHUNK) == b"a" * CHUNK
        pool.abort()
        volume.write(0, b"d")
    pool.commit()
    assert content(committed(pool))[:2] == b"da"


def test_a_growing_data_device_commits_nothing() -> None:
    pool = make()
    data = pool.data_device
    assert isinstance(data, MemoryDevice)

    def grow(pool: Pool) -> None:
        data.content.extend(bytes(64 * CHUNK))
        data.size = len(data.content)
        pool.resize_data()

    pool.options = PoolOptions(zero=False, error_if_no_space=True, low_water_chunks=8)
    pool.on_low_water = grow
    pool.begin()
    with pool.open_volume(1, SIZE) as volume:
        volume.write(100 * CHUNK, b"b" * (60 * CHUNK))
        assert content(committed(pool), 1, 21 * CHUNK) == b"a" * (20 * CHUNK) + bytes(CHUNK)
    pool.commit()
    assert committed(pool).status().used_data == 80


def test_devices_made_in_an_aborted_transaction_are_gone() -> None:
    pool = make()
    pool.begin()
    pool.create_snap(2, 1)
    with pool.open_volume(2, SIZE) as volume:
        volume.write(0, b"b")
        pool.abort()
        with pytest.raises(NotFoundError, match="no longer exists"):
            volume.write(0, b"b")
    pool.begin()
    pool.create_snap(2, 1)
    assert content(pool, 2) == b"a" * (20 * CHUNK)
    pool.commit()
