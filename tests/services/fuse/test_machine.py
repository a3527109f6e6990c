# SPDX-License-Identifier: Apache-2.0
"""Requests in any order, through the kernel, against bytes in memory."""

from __future__ import annotations

import os
import random
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lamella.block import MemoryDevice
from lamella.block.ranges import gaps
from lamella.block.system import data_ranges, punch_hole
from lamella.thin.engine.pool import Pool

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.services.fuse import FuseServer

CHUNK = 64 << 10
SIZE = 40 * CHUNK + 12_800  # more than the longest request, and ends inside a chunk
offsets = st.one_of(st.integers(0, SIZE - 1), st.integers(0, SIZE // CHUNK).map(lambda chunk: chunk * CHUNK))
lengths = st.one_of(
    st.sampled_from(
        [1, 512, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 1 << 20, (1 << 20) + 1, 30 * CHUNK]
    ),
    st.integers(1, 3 * CHUNK),
)
seeds = st.integers(0, 9)


@pytest.mark.slow
def test_any_order(server: FuseServer) -> None:
    names = count()

    class Machine(RuleBasedStateMachine):
        """``model`` is what the file holds, ``durable`` what a power cut has to leave."""

        def __init__(self) -> None:
            super().__init__()
            self.metadata = MemoryDevice(1 << 20, name="metadata")
            self.data = MemoryDevice(60 * CHUNK, name="data")
            self.data.content[:] = b"\xee" * self.data.size  # old bytes, which nobody may ever see
            self.pool = Pool.create(self.metadata, self.data, chunk_size=CHUNK)
            self.pool.create_thin(1)
            self.pool.commit()
            self.volume = self.pool.open_volume(1, SIZE)
            self.name = f"disk {next(names)}"
            self.path: Path = server.add(self.name, self.volume)
            self.descriptor = os.open(self.path, os.O_RDWR)
            self.model = bytearray(SIZE)

        @rule(offset=offsets, length=lengths, seed=seeds)
        def write(self, offset: int, length: int, seed: int) -> None:
            data = random.Random(seed).randbytes(length)
            there = min(length, SIZE - offset)
            assert os.pwrite(self.descriptor, data, offset) == there
            self.model[offset : offset + there] = data[:there]

        @rule(offset=offsets, length=lengths)
        def read(self, offset: int, length: int) -> None:
            expected = bytes(self.model[offset : offset + length])
            assert os.pread(self.descriptor, length, offset) == expected

        @rule(offset=offsets, length=lengths)
        def punch(self, offset: int, length: int) -> None:
            punch_hole(self.descriptor, offset, length)
            there = min(length, SIZE - offset)
            self.model[offset : offset + there] = bytes(there)

        @rule()
        def open_again(self) -> None:
            os.close(self.descriptor)
            self.descriptor = os.open(self.path, os.O_RDWR)

        @rule()
        def sync(self) -> None:
            os.fsync(self.descriptor)
            metadata = MemoryDevice(content=bytes(self.metadata.content), name="metadata")
            data = MemoryDevice(content=bytes(self.data.content), name="data")
            with Pool.open(metadata, data) as pool, pool.open_volume(1, SIZE) as volume:
                assert volume.read(0, SIZE) == self.model

        @invariant()
        def holes_are_zeros(self) -> None:
            for start, length in gaps(data_ranges(self.descriptor, 0, SIZE), SIZE):
                assert not any(self.model[start : start + length])

        def teardown(self) -> None:
            os.close(self.descriptor)
            server.remove(self.name)
            assert self.volume.read(0, SIZE) == self.model
            self.volume.close()
            self.pool.close()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
