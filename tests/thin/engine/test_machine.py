# SPDX-License-Identifier: Apache-2.0
"""The engine against a plain model: bytes in memory, copied for every snapshot and every commit."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamella.block import MemoryDevice
from lamella.errors import BusyError, ExistsError, NoSpaceError, NotFoundError
from lamella.thin.engine.pool import Pool, PoolMode, PoolOptions
from lamella.thin.tools.check import check

if TYPE_CHECKING:
    from lamella.thin.engine.volume import Volume

CHUNK = 64 << 10
VOLUME = 10 * CHUNK + 12288  # ends inside a chunk
IDS = st.integers(0, 6)
THIN_CHECK = shutil.which("thin_check") or shutil.which("thin_check", path="/usr/sbin:/sbin")

offsets = st.one_of(
    st.integers(0, VOLUME - 1), st.integers(0, VOLUME // CHUNK - 1).map(lambda chunk: chunk * CHUNK)
)
lengths = st.one_of(
    st.sampled_from([1, 512, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK]),
    st.integers(1, 3 * CHUNK),
)


def content(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


class Engine(RuleBasedStateMachine):
    """``model`` is what each device holds now, ``committed`` what a crash has to come back to."""

    options = PoolOptions(error_if_no_space=True)

    def __init__(self) -> None:
        super().__init__()
        self.metadata = MemoryDevice(1 << 20, name="metadata")
        self.data = MemoryDevice(34 * CHUNK, name="data")
        # Old bytes everywhere: nothing of them may ever be seen.
        self.data.content[:] = b"\xee" * self.data.size
        self.model: dict[int, bytearray] = {}
        self.volumes: dict[int, Volume] = {}
        self.transaction_id = 0
        self.held = False
        self.pool = Pool.create(self.metadata, self.data, chunk_size=CHUNK, options=self.options)
        self.remember()

    def remember(self) -> None:
        """The pool has just been committed."""
        self.disks = (bytes(self.metadata.content), bytes(self.data.content))
        self.committed: tuple[Any, ...] = (
            {dev_id: bytes(data) for dev_id, data in self.model.items()},
            self.transaction_id,
            self.held,
        )
        self.history: list[dict[int, bytes]] = [self.committed[0]]
        report = check(MemoryDevice(content=self.disks[0]))
        assert not report.problems
        assert report.complete
        assert report.metadata_leaks == report.data_leaks == 0
        if THIN_CHECK and random.random() < 0.02:
            with tempfile.NamedTemporaryFile() as file:
                Path(file.name).write_bytes(self.disks[0])
                subprocess.run([THIN_CHECK, "-q", file.name], check=True)

    def recall(self) -> None:
        """Back to what was committed last."""
        model, self.transaction_id, self.held = self.committed
        self.model = {dev_id: bytearray(data) for dev_id, data in model.items()}
        self.history = [self.committed[0]]

    def volume(self, dev_id: int) -> Volume:
        if dev_id not in self.volumes:
            self.volumes[dev_id] = self.pool.open_volume(dev_id, VOLUME)
        return self.volumes[dev_id]

    # -- devices

    @rule(dev_id=IDS)
    def create_thin(self, dev_id: int) -> None:
        if dev_id in self.model:
            with pytest.raises(ExistsError):
                self.pool.create_thin(dev_id)
            return
        self.pool.create_thin(dev_id)
        self.model[dev_id] = bytearray(VOLUME)

    @rule(dev_id=IDS, origin=IDS)
    def create_snap(self, dev_id: int, origin: int) -> None:
        if dev_id in self.model:
            with pytest.raises(ExistsError):
                self.pool.create_snap(dev_id, origin)
        elif origin not in self.model:
            with pytest.raises(NotFoundError):
                self.pool.create_snap(dev_id, origin)
        else:
            self.pool.create_snap(dev_id, origin)
            self.model[dev_id] = bytearray(self.model[origin])

    @rule(dev_id=IDS, discard=st.booleans())
    def delete(self, dev_id: int, discard: bool) -> None:
        if dev_id not in self.model:
            with pytest.raises(NotFoundError):
                self.pool.delete(dev_id)
            return
        if dev_id in self.volumes:
            with pytest.raises(BusyError):
                self.pool.delete(dev_id)
            self.volumes.pop(dev_id).close()
        self.pool.delete(dev_id, discard=discard)
        del self.model[dev_id]

    # -- content

    def attempt(self, dev_id: int, pieces: list[tuple[int, bytes]], *, many: bool) -> None:
        volume, model = self.volume(dev_id), self.model[dev_id]
        before = bytes(model)
        for offset, data in pieces:
            model[offset : offset + len(data)] = data
        try:
            if many:
                volume.write_many(pieces)
            else:
                for offset, data in pieces:
                    volume.write(offset, data)
        except NoSpaceError:
            assert self.pool.status().mode is PoolMode.OUT_OF_DATA_SPACE
            # Whatever did not fit is as it was, chunk by chunk; the rest is written.
            now = volume.read(0, VOLUME)
            for at in range(0, VOLUME, 512):
                piece = now[at : at + 512]
                assert len(pieces) > 1 or piece in (before[at : at + 512], model[at : at + 512])
            model[:] = now
        self.history.append({dev_id: bytes(model)})

    @precondition(lambda self: self.model)
    @rule(pick=st.randoms(use_true_random=False), offset=offsets, length=lengths, seed=st.integers(0, 99))
    def write(self, pick: random.Random, offset: int, length: int, seed: int) -> None:
        dev_id = pick.choice(sorted(self.model))
        self.attempt(dev_id, [(offset, content(seed, min(length, VOLUME - offset)))], many=False)

    @precondition(lambda self: self.model)
    @rule(
        pick=st.randoms(use_true_random=False),
        places=st.lists(st.tuples(offsets, lengths), max_size=8),
        seed=st.integers(0, 99),
    )
    def write_many(self, pick: random.Random, places: list[tuple[int, int]], seed: int) -> None:
        pieces = [
            (offset, content(seed + number, min(length, VOLUME - offset)))
            for number, (offset, length) in enumerate(places)
        ]
        self.attempt(pick.choice(sorted(self.model)), pieces, many=True)

    @precondition(lambda self: self.model)
    @rule(
        pick=st.randoms(use_true_random=False),
        start=st.integers(0, 9),
        step=st.sampled_from([512, 4096, 16384]),
    )
    def write_whole_chunks_in_pieces(self, pick: random.Random, start: int, step: int) -> None:
        length = min(2 * CHUNK, VOLUME - start * CHUNK)
        data = content(start, length)
        pieces = [(start * CHUNK + at, data[at : at + step]) for at in range(0, length, step)]
        pick.shuffle(pieces)
        self.attempt(pick.choice(sorted(self.model)), pieces, many=True)

    @precondition(lambda self: self.model)
    @rule(pick=st.randoms(use_true_random=False), offset=offsets, length=lengths)
    def discard(self, pick: random.Random, offset: int, length: int) -> None:
        dev_id = pick.choice(sorted(self.model))
        length = min(length, VOLUME - offset)
        self.volume(dev_id).discard(offset, length)
        first, last = -(-offset // CHUNK), (offset + length) // CHUNK
        if last > first:
            self.model[dev_id][first * CHUNK : last * CHUNK] = bytes((last - first) * CHUNK)

    @precondition(lambda self: self.model)
    @rule(pick=st.randoms(use_true_random=False))
    def discard_all(self, pick: random.Random) -> None:
        dev_id = pick.choice(sorted(self.model))
        self.volume(dev_id).discard(0, VOLUME)
        whole = VOLUME // CHUNK * CHUNK
        self.model[dev_id][:whole] = bytes(whole)

    @precondition(lambda self: self.model)
    @rule(pick=st.randoms(use_true_random=False), offset=offsets, length=lengths)
    def read(self, pick: random.Random, offset: int, length: int) -> None:
        dev_id = pick.choice(sorted(self.model))
        length = min(length, VOLUME - offset)
        assert self.volume(dev_id).read(offset, length) == self.model[dev_id][offset : offset + length]

    @precondition(lambda self: len(self.model) > 1)
    @rule(pick=st.randoms(use_true_random=False))
    def compare(self, pick: random.Random) -> None:
        one, two = pick.sample(sorted(self.model), 2)
        differing = set()
        for first, length in self.pool.differing_ranges(one, two):
            differing.update(range(first, first + length))
        for chunk in range(-(-VOLUME // CHUNK)):
            if chunk not in differing:
                place = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
                assert self.model[one][place] == self.model[two][place]

    # -- the pool

    @rule(new=st.integers(0, 5))
    def set_transaction_id(self, new: int) -> None:
        self.pool.set_transaction_id(self.transaction_id, new)
        self.transaction_id = new

    @rule()
    def hold(self) -> None:
        if self.held:
            with pytest.raises(BusyError):
                self.pool.reserve_metadata_snap()
            return
        self.pool.reserve_metadata_snap()
        self.held = True
        self.remember()

    @precondition(lambda self: self.held)
    @rule()
    def release(self) -> None:
        self.pool.release_metadata_snap()
        self.held = False

    @rule(chunks=st.integers(1, 6))
    def grow_data(self, chunks: int) -> None:
        if self.data.size < 60 * CHUNK:
            self.data.resize(self.data.size + chunks * CHUNK)
            self.pool.resize_data()
            self.remember()

    @rule(blocks=st.integers(1, 100))
    def grow_metadata(self, blocks: int) -> None:
        if self.metadata.size < 2 << 20:
            self.metadata.resize(self.metadata.size + blocks * 4096)
            self.pool.resize_metadata()
            self.remember()

    @rule()
    def commit(self) -> None:
        self.pool.commit()
        self.remember()

    @rule()
    def abort(self) -> None:
        # The pool may have committed on its own, to reuse chunks; then there is less to forget.
        if bytes(self.metadata.content[:4096]) != self.disks[0][:4096]:
            self.pool.commit()
            self.remember()
        written = self.history
        self.pool.abort()
        self.recall()
        for dev_id in set(self.volumes) - set(self.model):
            with pytest.raises(NotFoundError):
                self.volumes[dev_id].read(0, 1)
            self.volumes.pop(dev_id).close()
        for dev_id, model in self.model.items():
            # What was written in place since the commit, to chunks that no snapshot shares, stays written.
            now = np.frombuffer(self.volume(dev_id).read(0, VOLUME), dtype=np.uint8).reshape(-1, 512)
            known = np.zeros(len(now), dtype=np.bool_)
            for state in written:
                if dev_id in state:
                    known |= (now == np.frombuffer(state[dev_id], dtype=np.uint8).reshape(-1, 512)).all(
                        axis=1
                    )
            assert known.all()
            model[:] = now.tobytes()
        self.committed = ({i: bytes(data) for i, data in self.model.items()}, *self.committed[1:])
        self.history = [self.committed[0]]
        self.disks = (self.disks[0], bytes(self.data.content))

    @rule()
    def reopen(self) -> None:
        for volume in self.volumes.values():
            volume.close()
        self.volumes.clear()
        self.pool.close()
        self.remember()
        self.pool = Pool.open(self.metadata, self.data, options=self.options)

    @rule()
    def crash(self) -> None:
        """Cut off right after the last superblock: the disks as they are now, but for the superblock's."""
        if bytes(self.metadata.content[:4096]) != self.disks[0][:4096]:
            return
        # In-place writes to chunks mapped already may or may not survive: none, here, by going back to the
        # committed data; what was written to free blocks since stays, and must not matter.
        metadata = MemoryDevice(content=bytes(self.metadata.content), name="metadata")
        data = MemoryDevice(content=bytes(self.data.content), name="data")
        allocated = {
            chunk
            for volume in self.opened_copy()
            for _, count, block, _ in volume.mapped_ranges()
            for chunk in range(block, block + count)
        }
        for chunk in allocated:
            place = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            data.content[place] = self.disks[1][place]
        self.metadata, self.data = metadata, data
        self.volumes.clear()
        self.recall()
        self.pool = Pool.open(metadata, data, options=self.options)
        self.everything_is_there()

    def opened_copy(self) -> list[Volume]:
        pool = Pool.open(
            MemoryDevice(content=self.disks[0]), MemoryDevice(content=self.disks[1]), read_only=True
        )
        return [pool.open_volume(dev_id, VOLUME) for dev_id in pool.devices()]

    @rule()
    def everything_is_there(self) -> None:
        for dev_id, model in self.model.items():
            assert self.volume(dev_id).read(0, VOLUME) == model

    @invariant()
    def devices_are_those_of_the_model(self) -> None:
        details = self.pool.devices()
        assert sorted(details) == sorted(self.model)
        assert self.pool.transaction_id == self.transaction_id
        for dev_id, volume in self.volumes.items():
            assert details[dev_id].mapped_blocks == volume.mapped_chunks

    def teardown(self) -> None:
        self.everything_is_there()
        self.pool.close()
        self.remember()


class EngineOnDisk(Engine):
    """The same where discarding leaves what was there, as on a raw device."""

    def __init__(self) -> None:
        class Disk(MemoryDevice):
            discard_zeroes = False  # type: ignore[assignment]

            def discard(self, offset: int, length: int) -> None:
                pass

        super().__init__()
        size, kept = self.data.size, self.data.content
        self.data = Disk(size, name="data")
        self.data.content = kept
        self.pool = Pool.open(self.metadata, self.data, options=self.options)


Engine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
EngineOnDisk.TestCase.settings = settings(Engine.TestCase.settings, max_examples=20)
TestEngine = Engine.TestCase
TestEngineOnDisk = EngineOnDisk.TestCase
