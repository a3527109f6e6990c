# SPDX-License-Identifier: Apache-2.0
"""Power cuts: after each write, and with what was not flushed lost or out of order, the pool opens and checks
clean, and holds what was committed last."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.tools.check import check
from tests.support.recording import Recording

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 64 << 10
SIZE = 20 * CHUNK
State = tuple[int, dict[int, str]]


def digest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Work:
    """Random work on a pool, with every committed state marked in the recording.

    Each device is snapshotted at its commit, or with *transactions* each commit begins a transaction, so that
    nothing committed is written in place: then a crash must show either of two states to the last byte.
    """

    def __init__(self, folder: Path, seed: int, options: PoolOptions, *, transactions: bool = False) -> None:
        self.chance = random.Random(seed)
        self.options = options
        self.transactions = transactions
        metadata, data = MemoryDevice(1 << 20, name="metadata"), MemoryDevice(200 * CHUNK, name="data")
        Pool.create(metadata, data, chunk_size=CHUNK).close()
        self.recording = Recording(folder)
        self.metadata = self.recording.wrap(metadata, "metadata")
        self.data = self.recording.wrap(data, "data", atomic=512)
        self.pool = Pool.open(self.metadata, self.data, options=options)
        self.model: dict[int, bytearray] = {}
        self.frozen: set[int] = set()
        self.next_id = 0
        self.commits = 0
        self.commit()

    def commit(self) -> None:
        for dev_id in [dev_id for dev_id in self.model if dev_id not in self.frozen]:
            if self.transactions:
                break
            if self.chance.random() < 0.8:
                self.pool.create_snap(self.next_id, dev_id)
                self.model[self.next_id] = bytearray(self.model[dev_id])
                self.frozen.add(self.next_id)
                self.next_id += 1
            else:
                self.frozen.add(dev_id)  # not written any more
        self.pool.set_transaction_id(self.commits, self.commits + 1)
        self.commits += 1
        state = (self.commits, {dev_id: digest(bytes(data)) for dev_id, data in self.model.items()})
        self.recording.mark(("begun", state))
        self.pool.commit()
        self.recording.mark(("done", state))
        if self.transactions:
            self.pool.begin(discard=True)
            self.committed = {dev_id: bytearray(data) for dev_id, data in self.model.items()}

    def roll_back(self) -> None:
        self.pool.abort()
        self.pool.trim()
        self.model = {dev_id: bytearray(data) for dev_id, data in self.committed.items()}
        self.pool.begin(discard=True)

    def step(self) -> None:
        chance = self.chance
        writable = sorted(set(self.model) - self.frozen)
        what = chance.random()
        if what < 0.1 or not writable:
            if chance.random() < 0.5 and self.model:
                origin = chance.choice(sorted(self.model))
                self.pool.create_snap(self.next_id, origin)
                self.model[self.next_id] = bytearray(self.model[origin])
            else:
                self.pool.create_thin(self.next_id)
                self.model[self.next_id] = bytearray(SIZE)
            self.next_id += 1
        elif what < 0.2 and len(self.model) > 4:
            gone = chance.choice(sorted(self.model))
            self.pool.delete(gone, discard=chance.random() < 0.5)
            del self.model[gone]
            self.frozen.discard(gone)
        elif what < 0.3:
            if self.transactions and chance.random() < 0.3:
                self.roll_back()
            else:
                self.commit()
        else:
            dev_id = chance.choice(writable)
            offset = chance.randrange(SIZE)
            length = min(chance.choice([100, 4096, CHUNK, 3 * CHUNK]), SIZE - offset)
            with self.pool.open_volume(dev_id, SIZE, zero_fresh=True) as volume:
                if what < 0.45:
                    volume.discard(offset, length)
                    first, last = -(-offset // CHUNK), (offset + length) // CHUNK
                    if last > first:
                        self.model[dev_id][first * CHUNK : last * CHUNK] = bytes((last - first) * CHUNK)
                else:
                    data = chance.randbytes(length)
                    volume.write(offset, data)
                    self.model[dev_id][offset : offset + length] = data


def state_of(pool: Pool) -> State:
    found = {}
    for dev_id in pool.devices():
        with pool.open_volume(dev_id, SIZE) as volume:
            found[dev_id] = digest(volume.read(0, SIZE))
    return pool.transaction_id, found


@pytest.mark.parametrize(
    ("seed", "zero", "transactions"), [(1, True, False), (2, False, False), (3, False, True), (4, True, True)]
)
def test_crash_at_every_write(tmp_path: Path, seed: int, zero: bool, transactions: bool) -> None:
    work = Work(tmp_path, seed, PoolOptions(zero=zero), transactions=transactions)
    for _ in range(200 if transactions else 80):
        work.step()
    chance = random.Random(seed)
    crashes = 0
    for crash in work.recording.crashes(chance, every=2):
        crashes += 1
        done = [state for what, state in crash.finished if what == "done"]
        begun = [state for what, state in crash.finished if what == "begun"]
        report = check(crash.devices["metadata"])
        assert report.complete, crash.what
        assert not report.problems, crash.what
        assert report.metadata_leaks == report.data_leaks == 0
        pool = Pool.open(crash.devices["metadata"], crash.devices["data"])
        found_id = pool.transaction_id
        if not done:
            assert found_id in (0, 1)
            continue
        assert done[-1][0] <= found_id <= begun[-1][0], crash.what
        if chance.random() < 0.2:  # the content of everything, and going on from there
            expected = next(state for state in reversed(begun) if state[0] == found_id)
            assert state_of(pool) == expected, crash.what
            pool.create_thin(10_000)
            with pool.open_volume(10_000, SIZE) as volume:
                volume.write(5, b"life goes on")
            pool.close()
            assert not check(crash.devices["metadata"]).problems
    assert crashes > 200
    work.recording.close()


def test_torn_superblocks_are_reported(tmp_path: Path) -> None:
    """A superblock of which only a part was written has a bad checksum; it is never taken for a good one."""
    from lamella.errors import CorruptError

    metadata, data = MemoryDevice(1 << 20, name="metadata"), MemoryDevice(200 * CHUNK)
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    old = bytes(metadata.content[:4096])
    pool.create_thin(1)
    pool.commit()
    metadata.content[:512] = old[:512]
    metadata.content[400] ^= 1
    with pytest.raises(CorruptError, match="superblock"):
        Pool.open(metadata, data)


def test_needs_check_is_durable_once_the_pool_is_read_only(tmp_path: Path) -> None:
    """The kernel writes the flag before it reports the pool's mode (dm-thin.c, abort_transaction)."""
    metadata = MemoryDevice(1 << 20, name="metadata")
    data = MemoryDevice(100 * CHUNK, name="data")
    Pool.create(metadata, data, chunk_size=CHUNK).close()
    recording = Recording(tmp_path)
    pool = Pool.open(recording.wrap(metadata, "metadata"), data)
    pool.live.set_needs_check()
    recording.mark("set")
    checked = 0
    for crash in recording.crashes(random.Random(1), subsets=3):
        fields = check(crash.devices["metadata"]).superblock
        assert fields is not None
        assert fields.needs_check or not crash.finished, crash.what
        checked += bool(crash.finished)
    assert checked
    recording.close()


def test_recorder_keeps_little_in_memory(tmp_path: Path) -> None:
    """What the recorder itself promises: contents lie in files, and a flush makes only its device durable."""
    one = FileDevice.create(tmp_path / "one", 1 << 20)
    recording = Recording(tmp_path)
    first, second = recording.wrap(one, "first"), recording.wrap(MemoryDevice(8192), "second")
    first.write(0, b"a" * 4096)
    second.write(100, b"b" * 200)
    first.flush()
    first.write(4096, b"c" * 10)
    recording.mark("end")
    seen = {}
    for crash in recording.crashes(random.Random(1)):
        seen[crash.what] = crash.devices["first"].read(0, 4100)[::1024] + crash.devices["second"].read(100, 2)
        crash.devices["first"].write(0, b"scratch")
    assert seen["after event 0, nothing lost"] == b"aaaa\0\0\0"
    assert seen["after event 0, all unflushed lost"] == bytes(7)
    assert seen["after event 2, all unflushed lost"] == b"aaaa\0\0\0"
    assert seen["after event 3, nothing lost"] == b"aaaacbb"
    assert seen["at the end"] == b"aaaacbb"
    recording.close()
    one.close()
