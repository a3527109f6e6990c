# SPDX-License-Identifier: Apache-2.0
"""The engine's plain behaviour, one property a test; metadata checked by our check and by thin_check."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import BusyError, ExistsError, NoSpaceError, NotFoundError, ReadOnlyError, UsageError
from lamella.thin.engine import live_metadata
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.tools.check import check
from tests.support.failing import NowhereDevice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.thin.engine.volume import Volume

CHUNK = 64 << 10
MIB = 1 << 20


def new_pool(
    *, metadata: int = 2 * MIB, data: int = 16 * MIB, options: PoolOptions | None = None
) -> tuple[MemoryDevice, MemoryDevice, Pool]:
    one, two = MemoryDevice(metadata, name="metadata"), MemoryDevice(data, name="data")
    return one, two, Pool.create(one, two, chunk_size=CHUNK, options=options)


def new_volume(
    size: int, *, metadata: int = 2 * MIB, data: int = 16 * MIB, options: PoolOptions | None = None
) -> tuple[MemoryDevice, MemoryDevice, Pool, Volume]:
    """A new pool with thin device 1 open, of *size* bytes."""
    one, two, pool = new_pool(metadata=metadata, data=data, options=options)
    pool.create_thin(1)
    return one, two, pool, pool.open_volume(1, size)


def assert_clean(metadata: MemoryDevice) -> None:
    report = check(MemoryDevice(content=bytes(metadata.content), name="metadata"))
    assert not report.problems
    assert report.complete
    assert report.metadata_leaks == report.data_leaks == 0


def thin_check(program: str, metadata: MemoryDevice, folder: Path) -> None:
    path = folder / "metadata"
    path.write_bytes(metadata.content)
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def pattern(number: int, length: int) -> bytes:
    return random.Random(number).randbytes(length)


def test_new_pool_is_accepted(tool: Callable[[str], str], tmp_path: Path) -> None:
    metadata, _, pool = new_pool(metadata=4 * MIB)
    thin_check(tool("thin_check"), metadata, tmp_path)
    assert_clean(metadata)
    # 9 blocks in use and the kernel's reserve of 102.
    assert pool.status().line() == "0 111/1024 0/256 - rw discard_passdown queue_if_no_space - 256 "


def test_refuses_a_device_in_use() -> None:
    metadata, data, pool = new_pool()
    pool.close()
    with pytest.raises(ExistsError, match="not empty"):
        Pool.create(metadata, data, chunk_size=CHUNK)
    Pool.create(metadata, data, chunk_size=2 * CHUNK, force=True).close()
    assert Pool.open(metadata, data).chunk_size == 2 * CHUNK


@pytest.mark.parametrize("size", [0, 1000, CHUNK + 512, 32 << 10, 2 << 30])
def test_refuses_odd_chunk_sizes(size: int) -> None:
    with pytest.raises(UsageError):
        Pool.create(MemoryDevice(MIB), MemoryDevice(MIB), chunk_size=size)


def test_unwritten_reads_as_zeros_and_costs_nothing() -> None:
    _, _, pool, volume = new_volume(64 * MIB)
    assert volume.read(0, 3 * CHUNK) == bytes(3 * CHUNK)
    assert volume.read(64 * MIB - 10, 10) == bytes(10)
    assert volume.status_line() == "0 -"
    assert pool.status().used_data == 0
    with pytest.raises(ValueError, match="outside"):
        volume.read(64 * MIB - 10, 11)


def test_writes_come_back(tmp_path: Path) -> None:
    metadata, data, pool, volume = new_volume(8 * MIB)
    volume.write(CHUNK - 7, b"across a boundary")
    volume.write(5 * CHUNK, pattern(1, 3 * CHUNK))
    assert volume.read(CHUNK - 10, 24) == b"\0\0\0across a boundary" + bytes(4)
    assert volume.status_line() == f"{5 * 128} {8 * 128 - 1}"
    volume.close()
    pool.close()
    again = Pool.open(metadata, data)
    volume = again.open_volume(1, 8 * MIB)
    assert volume.read(CHUNK - 7, 17) == b"across a boundary"
    assert volume.read(5 * CHUNK, 3 * CHUNK) == pattern(1, 3 * CHUNK)
    assert_clean(metadata)


@pytest.mark.parametrize(
    ("zero", "zero_fresh", "kept"), [(True, None, False), (False, None, True), (False, True, False)]
)
def test_rest_of_a_new_chunk(zero: bool, zero_fresh: bool | None, kept: bool) -> None:
    metadata, data = MemoryDevice(MIB), MemoryDevice(4 * MIB)
    data.content[:] = b"old secrets!" * (4 * MIB // 12) + b"...."
    pool = Pool.create(metadata, data, chunk_size=CHUNK, options=PoolOptions(zero=zero))
    pool.create_thin(1)
    volume = pool.open_volume(1, 4 * MIB, zero_fresh=zero_fresh)
    volume.write(100, b"x")
    volume.write_many([(3 * CHUNK + 5, b"y"), (3 * CHUNK + 500, b"z")])
    rest = volume.read(0, 100) + volume.read(101, CHUNK - 101) + volume.read(3 * CHUNK + 6, 494)
    assert any(rest) is kept


def test_rest_of_a_chunk_that_was_used_and_freed_in_one_transaction() -> None:
    _, _, pool = new_pool(data=8 * CHUNK, options=PoolOptions(error_if_no_space=True))
    pool.create_thin(1)
    pool.commit()
    volume = pool.open_volume(1, 4 * MIB)
    volume.write(0, b"a")  # zeroes the free chunks behind it ahead
    volume.write(CHUNK, b"s" * CHUNK)
    volume.discard(CHUNK, CHUNK)
    with pytest.raises(NoSpaceError):
        volume.write(10 * CHUNK, bytes(20 * CHUNK))
    volume.discard(10 * CHUNK, 20 * CHUNK)
    for number in range(40, 46):
        volume.write(number * CHUNK, b"b")
    assert volume.read(40 * CHUNK, 6 * CHUNK) == b"".join(b"b".ljust(CHUNK, b"\0") for _ in range(6))


def test_rest_of_a_new_chunk_where_discarding_leaves_old_bytes() -> None:
    class Disk(MemoryDevice):
        @property
        def discard_zeroes(self) -> bool:
            return False

    data = Disk(4 * MIB)
    data.content[:] = bytes([7]) * (4 * MIB)
    pool = Pool.create(MemoryDevice(MIB), data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, 4 * MIB)
    volume.write(CHUNK + 100, b"x")
    assert volume.read(CHUNK, CHUNK) == bytes(100) + b"x" + bytes(CHUNK - 101)


def test_snapshots_keep_what_was_there() -> None:
    metadata, _, pool, volume = new_volume(4 * MIB)
    volume.write(0, pattern(1, 4 * CHUNK))
    pool.create_snap(2, 1)
    pool.create_snap(3, 2)
    assert pool.status().used_data == 4
    volume.write(CHUNK + 100, b"changed")
    volume.write(2 * CHUNK, pattern(2, CHUNK))
    for dev_id in (2, 3):
        assert pool.open_volume(dev_id, 4 * MIB).read(0, 4 * CHUNK) == pattern(1, 4 * CHUNK)
    expected = bytearray(pattern(1, 4 * CHUNK))
    expected[CHUNK + 100 : CHUNK + 107] = b"changed"
    expected[2 * CHUNK : 3 * CHUNK] = pattern(2, CHUNK)
    assert volume.read(0, 4 * CHUNK) == expected
    assert pool.status().used_data == 6
    details = pool.devices()
    assert [details[i].mapped_blocks for i in (1, 2, 3)] == [4, 4, 4]
    assert (details[1].snapshotted_time, details[2].snapshotted_time, details[3].creation_time) == (1, 2, 2)
    pool.commit()
    assert_clean(metadata)


def test_whole_chunk_overwrites_copy_nothing() -> None:
    class Counting(MemoryDevice):
        reads = 0

        def read_into(self, offset: int, buffer: object) -> None:
            Counting.reads += 1
            super().read_into(offset, buffer)  # type: ignore[arg-type]

    data = Counting(8 * MIB)
    pool = Pool.create(MemoryDevice(MIB), data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, 4 * MIB)
    volume.write(0, pattern(1, 4 * CHUNK))
    pool.create_snap(2, 1)
    volume.write(0, pattern(2, CHUNK))
    volume.write_many([(CHUNK + at, pattern(at, 4096)) for at in range(0, CHUNK, 4096)])
    assert Counting.reads == 0
    volume.write(3 * CHUNK, b"part")
    assert Counting.reads == 1


def test_devices_that_are_or_are_not_there() -> None:
    _, _, pool = new_pool()
    pool.create_thin(1)
    with pytest.raises(ExistsError, match="thin device 1"):
        pool.create_thin(1)
    with pytest.raises(ExistsError):
        pool.create_snap(1, 1)
    with pytest.raises(NotFoundError, match="thin device 9"):
        pool.create_snap(2, 9)
    with pytest.raises(NotFoundError):
        pool.delete(9)
    with pytest.raises(NotFoundError):
        pool.open_volume(9, MIB)
    with pytest.raises(UsageError):
        pool.create_thin(1 << 24)
    pool.create_thin((1 << 24) - 1)
    volume = pool.open_volume(1, MIB)
    with pytest.raises(BusyError, match="open"):
        pool.delete(1)
    volume.close()
    pool.delete(1)
    assert list(pool.devices()) == [(1 << 24) - 1]
    with pytest.raises(UsageError, match="closed"):
        volume.read(0, 1)


def test_delete_gives_chunks_back() -> None:
    metadata, data, pool = new_pool()
    pool.create_thin(1)
    with pool.open_volume(1, 8 * MIB) as volume:
        volume.write(0, pattern(1, 20 * CHUNK))
    pool.create_snap(2, 1)
    with pool.open_volume(2, 8 * MIB) as volume:
        volume.write(0, pattern(2, 5 * CHUNK))
    pool.commit()
    pool.delete(1)
    pool.commit()
    assert pool.status().used_data == 20
    before = bytes(data.content)
    pool.delete(2, discard=True)
    assert data.content == before
    pool.commit()
    assert pool.status().used_data == 0
    assert_clean(metadata)
    assert (
        sum(map(bool, (data.content[at : at + CHUNK].strip(b"\0") for at in range(0, data.size, CHUNK)))) == 5
    )


def test_discard_of_shared_and_partial_chunks() -> None:
    metadata, data, pool, volume = new_volume(8 * MIB)
    volume.write(0, pattern(1, 8 * CHUNK))
    pool.create_snap(2, 1)
    volume.discard(CHUNK // 2, 3 * CHUNK)  # two whole chunks, two halves
    pool.commit()
    assert pool.status().used_data == 8
    assert volume.read(0, CHUNK) == pattern(1, 8 * CHUNK)[:CHUNK]
    assert volume.read(CHUNK, 2 * CHUNK) == bytes(2 * CHUNK)
    assert volume.mapped_chunks == 6
    pool.delete(2)
    pool.commit()
    assert pool.status().used_data == 6
    volume.write(20 * CHUNK, b"new and gone in one transaction")
    volume.discard(0, 8 * MIB)
    pool.commit()
    assert pool.status().used_data == 0
    assert volume.status_line() == "0 -"
    assert_clean(metadata)
    assert not any(data.content[3 * CHUNK : 8 * CHUNK])


@pytest.mark.parametrize(
    ("discards", "used", "zeroed"), [("passdown", 0, True), ("nopassdown", 0, False), ("ignore", 1, False)]
)
def test_discards_can_be_kept_up_or_ignored(discards: str, used: int, zeroed: bool) -> None:
    _, data, pool = new_pool(options=PoolOptions(discards=discards))  # type: ignore[arg-type]
    pool.create_thin(1)
    volume = pool.open_volume(1, MIB)
    volume.write(0, pattern(1, CHUNK))
    volume.discard(0, CHUNK)
    pool.commit()
    assert pool.status().used_data == used
    assert (not any(data.content)) is zeroed


def test_chunks_freed_are_not_reused_before_the_commit() -> None:
    _, data, pool, volume = new_volume(MIB, data=4 * CHUNK)
    volume.write(0, pattern(1, 3 * CHUNK))
    pool.commit()
    before = bytes(data.content[: 3 * CHUNK])
    volume.discard(0, 3 * CHUNK)
    volume.write(10 * CHUNK, pattern(2, CHUNK))
    assert data.content[: 3 * CHUNK] == before
    # Now only freed chunks are left: taking one commits first, as the kernel does.
    volume.write(11 * CHUNK, pattern(3, CHUNK))
    assert volume.read(10 * CHUNK, 2 * CHUNK) == pattern(2, CHUNK) + pattern(3, CHUNK)


def test_abort_forgets() -> None:
    metadata, _, pool, volume = new_volume(4 * MIB)
    volume.write(0, pattern(1, CHUNK))
    pool.commit()
    volume.write(CHUNK, pattern(2, CHUNK))
    pool.create_thin(2)
    orphan = pool.open_volume(2, MIB)
    pool.create_snap(3, 1)
    pool.abort()
    assert list(pool.devices()) == [1]
    assert volume.read(0, 2 * CHUNK) == pattern(1, CHUNK) + bytes(CHUNK)
    assert volume.mapped_chunks == 1
    with pytest.raises(NotFoundError, match="aborted"):
        orphan.read(0, 1)
    orphan.close()
    volume.write(CHUNK, pattern(3, CHUNK))
    pool.commit()
    assert_clean(metadata)


def test_context_manager_commits_or_aborts() -> None:
    metadata, data, pool = new_pool()
    with pool:
        pool.create_thin(1)

    def break_off() -> None:
        with Pool.open(metadata, data) as pool:
            pool.create_thin(2)
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    with Pool.open(metadata, data) as pool:
        assert list(pool.devices()) == [1]
    with pytest.raises(UsageError, match="closed"):
        pool.create_thin(3)


def test_transaction_id_is_compared_and_set() -> None:
    metadata, data, pool = new_pool()
    pool.set_transaction_id(0, 7)
    with pytest.raises(ExistsError, match="is 7, not 0"):
        pool.set_transaction_id(0, 8)
    pool.create_thin(4)
    pool.close()
    pool = Pool.open(metadata, data)
    assert pool.transaction_id == 7
    assert pool.devices()[4].transaction_id == 7


def test_messages() -> None:
    metadata, data, pool = new_pool()
    for text in ("create_thin 1", "create_snap 2 1", "set_transaction_id 0 5", "reserve_metadata_snap"):
        pool.message(text)
    again = Pool.open(MemoryDevice(content=bytes(metadata.content)), data)
    assert list(again.devices()) == [1, 2]
    assert again.transaction_id == 5
    assert again.metadata_snap == pool.metadata_snap
    pool.message("release_metadata_snap")
    pool.message("delete 2")
    assert list(pool.devices()) == [1]
    for text in ("", "create_thin", "create_thin x", "create_thin 1 2", "destroy 1", "create_thin -1"):
        with pytest.raises(UsageError, match="message"):
            pool.message(text)


def test_held_metadata_snapshot(tool: Callable[[str], str], tmp_path: Path) -> None:
    metadata, _, pool = new_pool()
    pool.create_thin(1)
    pool.create_thin(2)
    volume = pool.open_volume(1, 4 * MIB)
    volume.write(0, pattern(1, 10 * CHUNK))
    pool.reserve_metadata_snap()
    with pytest.raises(BusyError, match="holds"):
        pool.reserve_metadata_snap()
    assert_clean(metadata)
    thin_check(tool("thin_check"), metadata, tmp_path)
    assert f" {pool.metadata_snap} rw " in pool.status().line()
    # Everything that the held trees show stays, whatever happens to the live ones.
    volume.write(5 * CHUNK, pattern(2, 10 * CHUNK))
    volume.discard(0, 2 * CHUNK)
    pool.delete(2)
    pool.create_snap(3, 1)
    pool.commit()
    assert_clean(metadata)
    thin_check(tool("thin_check"), metadata, tmp_path)
    held = subprocess.run(
        [tool("thin_dump"), "--metadata-snap", str(tmp_path / "metadata")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert 'length="10"' in held
    assert 'dev_id="2"' in held
    assert 'dev_id="3"' not in held
    pool.release_metadata_snap()
    pool.commit()
    assert_clean(metadata)
    assert pool.metadata_snap is None
    with pytest.raises(NotFoundError, match="no metadata snapshot"):
        pool.release_metadata_snap()


def test_external_origin() -> None:
    origin = MemoryDevice(content=pattern(9, 3 * CHUNK + 1000))
    metadata, _, pool = new_pool()
    pool.create_thin(1)
    volume = pool.open_volume(1, MIB, external_origin=origin)
    model = bytearray(bytes(origin.content).ljust(MIB, b"\0"))
    assert volume.read(0, MIB) == model
    for offset, data in [
        (100, b"a"),
        (CHUNK, pattern(1, CHUNK)),
        (3 * CHUNK + 990, b"b" * 50),
        (9 * CHUNK, b"c"),
    ]:
        volume.write(offset, data)
        model[offset : offset + len(data)] = data
    assert volume.read(0, MIB) == model
    volume.discard(0, CHUNK)
    model[:CHUNK] = origin.content[:CHUNK]
    assert volume.read(0, MIB) == model
    assert list(volume.data_ranges()) == [(0, 4 * CHUNK), (9 * CHUNK, CHUNK)]
    assert bytes(origin.content) == pattern(9, 3 * CHUNK + 1000)
    pool.commit()
    assert_clean(metadata)


def test_mapped_and_data_ranges() -> None:
    _, _, pool, volume = new_volume(64 * MIB)
    volume.write(0, pattern(1, 3 * CHUNK))
    volume.write(100 * CHUNK, pattern(1, 2 * CHUNK))
    pool.create_snap(2, 1)
    volume.write(CHUNK, pattern(2, CHUNK))
    assert list(volume.mapped_ranges()) == [(0, 1, 0, 0), (1, 1, 5, 1), (2, 1, 2, 0), (100, 2, 3, 0)]
    assert list(volume.data_ranges()) == [(0, 3 * CHUNK), (100 * CHUNK, 2 * CHUNK)]
    assert list(volume.data_ranges(CHUNK + 5, 100 * CHUNK)) == [
        (CHUNK + 5, 2 * CHUNK - 5),
        (100 * CHUNK, CHUNK + 5),
    ]


def test_write_zeros_unmaps_whole_chunks() -> None:
    *_, volume = new_volume(8 * MIB)
    volume.write(0, pattern(1, 6 * CHUNK))
    volume.write_zeros(CHUNK // 2, 4 * CHUNK)
    volume.write_zeros(20 * CHUNK + 5, 5 * CHUNK)
    expected = bytearray(pattern(1, 6 * CHUNK))
    expected[CHUNK // 2 : CHUNK // 2 + 4 * CHUNK] = bytes(4 * CHUNK)
    assert volume.read(0, 6 * CHUNK) == expected
    assert volume.mapped_chunks == 3


def test_differing_ranges() -> None:
    _, _, pool, volume = new_volume(512 * MIB, metadata=8 * MIB, data=256 * MIB)
    for at in range(0, 3000, 2):
        volume.write(at * CHUNK, b"x" * 10)
    pool.create_snap(2, 1)
    assert list(pool.differing_ranges(1, 2)) == []
    snap = pool.open_volume(2, 512 * MIB)
    volume.write(10 * CHUNK, b"y")
    snap.write(1001 * CHUNK, b"new")
    snap.discard(2000 * CHUNK, 3 * CHUNK)
    volume.write(7000 * CHUNK, b"far")
    expected = [(10, 1), (1001, 1), (2000, 1), (2002, 1), (7000, 1)]
    assert list(pool.differing_ranges(1, 2)) == expected
    assert list(pool.differing_ranges(2, 1)) == expected
    pool.create_thin(3)
    assert sum(length for _, length in pool.differing_ranges(3, 1)) == 1501
    assert list(pool.differing_ranges(1, 1)) == []


def test_read_only_pool(tmp_path: Path) -> None:
    metadata = FileDevice.create(tmp_path / "metadata", 2 * MIB)
    data = FileDevice.create(tmp_path / "data", 16 * MIB)
    with Pool.create(metadata, data, chunk_size=CHUNK) as pool:
        pool.create_thin(1)
        with pool.open_volume(1, MIB) as volume:
            volume.write(0, b"hello")
    metadata.close()
    data.close()
    with FileDevice(tmp_path / "metadata", read_only=True) as metadata, \
            FileDevice(tmp_path / "data", read_only=True) as data:  # fmt: skip
        pool = Pool.open(metadata, data)
        volume = pool.open_volume(1, MIB)
        assert volume.read(0, 5) == b"hello"
        assert pool.status().line().split()[4] == "ro"
        for action in (
            lambda: volume.write(0, b"x"),
            lambda: volume.discard(0, MIB),
            lambda: pool.create_thin(2),
            lambda: pool.delete(1),
            lambda: pool.set_transaction_id(0, 1),
        ):
            with pytest.raises(ReadOnlyError):
                action()
        volume.flush()
        pool.close()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with FileDevice.create(tmp_path / "metadata", 2 * MIB), pytest.raises(BusyError):
        FileDevice(tmp_path / "metadata")


def test_interrupted_changes_are_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata, _, pool = new_pool()
    pool.create_thin(1)
    pool.commit()
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(pool.live.details, "put", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.create_thin(2)
    assert list(pool.devices()) == [1]
    pool.create_thin(3)
    pool.commit()
    assert_clean(metadata)
    assert not pool.status().needs_check


def test_maps_and_blocks_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes all over a huge volume: map pages go into the tree, and blocks to disk, ahead of the commit."""
    monkeypatch.setattr(live_metadata, "SPILL", 16)
    metadata = MemoryDevice(64 * MIB, name="metadata")
    pool = Pool.create(metadata, NowhereDevice(2 << 30), chunk_size=CHUNK)
    pool.create_thin(1)
    pool.commit()
    volume = pool.open_volume(1, 16 << 40)
    held = 0
    for at in range(9_000):
        volume.write(at * 1024 * CHUNK * 29, b"x")
        held = max(held, pool.live.budget.held)
    assert held <= live_metadata.PAGE_LIMIT + 2
    assert not check(metadata).problems  # the committed state, which is still the empty device
    for at in range(0, 9_000, 7):
        volume.write(at * 1024 * CHUNK * 29 + 5 * CHUNK, b"y")
    pool.abort()
    assert volume.mapped_chunks == 0
    for at in range(3_000):
        volume.write(at * 1024 * CHUNK * 29, b"x")
    pool.status()
    volume.discard(0, 8 << 40)
    pool.commit()
    assert_clean(metadata)
    for at in range(20_000):
        volume.read(at * 1024 * CHUNK, 1)
    assert pool.live.budget.held <= live_metadata.PAGE_LIMIT + 2


def test_deep_trees(tool: Callable[[str], str], tmp_path: Path) -> None:
    """Three levels, grown and shrunk at random, shared and taken apart."""
    metadata, data = MemoryDevice(16 * MIB, name="metadata"), NowhereDevice(1 << 40)
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, 1 << 40)
    volume.write_many([(at * 3 * CHUNK, b"data") for at in range(80_000)])
    pool.commit()
    assert_clean(metadata)
    pool.create_snap(2, 1)
    snap = pool.open_volume(2, 1 << 40)
    for number in range(40):
        start = random.Random(number).randrange(240_000)
        snap.discard(start * CHUNK, 6_000 * CHUNK)
        snap.write_many([((start + at * 7) * CHUNK, b"data") for at in range(300)])
        if number % 5 == 0:
            pool.commit()
            assert_clean(metadata)
    pool.commit()
    assert_clean(metadata)
    thin_check(tool("thin_check"), metadata, tmp_path)
    snap.discard(0, 1 << 40)
    volume.close()
    pool.delete(1)
    pool.commit()
    assert_clean(metadata)
    assert pool.status().used_data == 0
