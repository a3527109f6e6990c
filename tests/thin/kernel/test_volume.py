# SPDX-License-Identifier: Apache-2.0
"""No old bytes: volumes in a pool that does not zero, against a stand-in for such a pool's thin device."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.block import BlockDevice
from lamella.devicemapper.table import ThinPool
from lamella.errors import BadInputError, BusyError, DeviceIOError, LamellaError, NoSpaceError, UsageError
from lamella.thin.kernel import active_pool
from lamella.thin.kernel import volume as kernel_volume
from lamella.thin.kernel.pool import KernelPool
from lamella.thin.kernel.volume import KernelVolume
from lamella.thin.status import parse_thin_status
from tests.support.fake_kernel import fake_kernel

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from typing_extensions import Buffer

    from lamella.block import FileDevice
    from lamella.devicemapper.client import DeviceMapper

CHUNK = 4096
CHUNKS = 8
SIZE = CHUNK * CHUNKS - 512


class DirtyThin(BlockDevice):
    """As dm-thin with skip_block_zeroing: what a first write to a chunk leaves out holds old bytes."""

    def __init__(self) -> None:
        self.chunks: dict[int, bytearray] = {}
        self.name, self.size, self.read_only = "dirty", CHUNK * CHUNKS, False

    def read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self.read_into(offset, buffer)
        return bytes(buffer)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        for at in range(len(view)):
            chunk, within = divmod(offset + at, CHUNK)
            view[at] = self.chunks[chunk][within] if chunk in self.chunks else 0

    def write(self, offset: int, data: Buffer) -> None:
        self.check_range(offset, len(memoryview(data).cast("B")))
        for at, byte in enumerate(memoryview(data).cast("B")):
            chunk, within = divmod(offset + at, CHUNK)
            self.chunks.setdefault(chunk, bytearray(b"\xee" * CHUNK))[within] = byte

    def discard(self, offset: int, length: int) -> None:
        assert not offset % CHUNK
        assert not length % CHUNK
        for chunk in range(offset // CHUNK, (offset + length) // CHUNK):
            self.chunks.pop(chunk, None)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """It stays."""

    path = "/dev/dirty"


class Opened(KernelVolume):
    """A volume over the stand-in, without device-mapper."""

    def __init__(self, thin: DirtyThin) -> None:
        self.thin = thin

        def committed(read: Callable[[Any], Any]) -> Any:
            keys = np.array(sorted(thin.chunks), dtype=np.uint64)
            return read(SimpleNamespace(mappings=lambda _: (keys, keys)))

        pool = SimpleNamespace(
            name="pool", chunk_size=CHUNK, zeroes=False, discards=True, committed=committed,
            name_of=lambda _: "thin", explaining=nullcontext,
        )  # fmt: skip
        super().__init__(cast("KernelPool", pool), 1, SIZE, read_only=False, zero_fresh=True)

    def _open(self) -> None:
        self._file = cast("FileDevice", self.thin)

    def close(self) -> None:
        self._file = None


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write_many", "write_zeros", "discard", "flush", "reopen"]),
        st.integers(0, SIZE - 1),
        st.integers(1, 3 * CHUNK),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_what_was_not_written_reads_as_zeros(steps: list[Step]) -> None:
    thin = DirtyThin()
    volume, model = Opened(thin), bytearray(SIZE)
    for number, (what, offset, length) in enumerate(steps, 1):
        length = min(length, SIZE - offset)
        data = bytes([number]) * length
        if what == "write":
            volume.write(offset, data)
            model[offset : offset + length] = data
        elif what == "write_many":
            half = length // 2
            volume.write_many([(offset + half, data[half:]), (offset, data[:half])])
            model[offset : offset + length] = data
        elif what == "write_zeros":
            volume.write_zeros(offset, length)
            model[offset : offset + length] = bytes(length)
        elif what == "discard":
            volume.discard(offset, length)
            first, last = -(-offset // CHUNK) * CHUNK, (offset + length) // CHUNK * CHUNK
            if first < last:
                model[first:last] = bytes(last - first)
        else:
            volume.flush()
            if what == "reopen":
                volume.close()
                volume = Opened(thin)
        assert volume.read(0, SIZE) == model
    volume.flush()
    assert volume.read(0, SIZE) == model
    end = bytearray(CHUNK * CHUNKS)
    thin.read_into(0, end)
    assert end == model + bytes(512)
    inside = {at // CHUNK for start, length in volume.data_ranges() for at in range(start, start + length)}
    assert inside == set(thin.chunks)


def test_what_a_mount_wrote_is_not_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that the kernel provisioned while it had the node are whole, and not to be zeroed."""
    thin = DirtyThin()
    monkeypatch.setattr(kernel_volume, "FileDevice", lambda *_, **__: thin)
    volume = Opened(thin)
    volume.write(0, b"a" * 100)
    with volume.lent():
        thin.write(CHUNK, b"m" * CHUNK)
        thin.write(100, b"m" * 100)
    volume.write(CHUNK + 10, b"ours")
    volume.flush()
    assert volume.read(CHUNK, 20) == b"m" * 10 + b"ours" + b"m" * 6
    assert volume.read(CHUNK + 20, CHUNK - 20) == b"m" * (CHUNK - 20)
    assert volume.read(0, 300) == b"a" * 100 + b"m" * 100 + bytes(100)


def test_a_reader_s_device_is_waited_for_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that was made for reading is made anew for a writer, as soon as the reader has closed it."""
    volume = Opened(DirtyThin())
    info = SimpleNamespace(name="thin", major=259, minor=1048575, live_table=True, read_only=True)
    calls: list[str] = []

    def remove(name: str, **_: object) -> None:
        calls.append(f"remove {name}")
        if len(calls) < 2:
            raise BusyError(f"cannot remove {name}")

    dm = SimpleNamespace(remove=remove, create_with_table=lambda *_, **__: "made")
    pool = SimpleNamespace(
        dm=dm, active=lambda _: info, is_internal=lambda _: True, table_for=lambda *_: None, name="pool",
        retry_while_suspended=lambda load: load(),
    )  # fmt: skip
    volume.pool = cast("KernelPool", pool)
    assert volume._active(last=False) is None
    assert cast("str", volume._active(last=False)) == "made"
    calls.clear()
    with pytest.raises(BusyError, match="held by something that cannot be seen"):
        volume._active(last=True)


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        ("1 9/256 8/8 - out_of_data_space discard_passdown queue_if_no_space - 64", NoSpaceError, "is full"),
        ("1 256/256 9/128 - ro discard_passdown queue_if_no_space - 64", NoSpaceError, "all 256 blocks"),
        ("1 9/256 9/128 - ro discard_passdown queue_if_no_space needs_check 64", DeviceIOError, "a check"),
        ("Fail", DeviceIOError, "has failed"),
        ("1 9/256 9/128 - rw discard_passdown queue_if_no_space - 64", DeviceIOError, "cannot flush"),
    ],
)  # fmt: skip
def test_a_failed_write_tells_the_pool_s_state(status: str, error: type[LamellaError], told: str) -> None:
    """Whoever writes hears of an I/O error from the kernel, whatever the matter is."""
    pool = KernelPool.__new__(KernelPool)
    pool.name = pool.dm_name = "pool"
    pool.chunk_size = CHUNK
    with fake_kernel() as kernel:
        pool.dm = kernel.client
        kernel.add("pool", "", [ThinPool(0, 8)])
        kernel.pools["pool"] = status
        with pytest.raises(error) as caught, pool.explaining():
            raise DeviceIOError("cannot flush /dev/dm-1: Input/output error", hint="dmesg")
    assert told in caught.value.message
    assert caught.value.message.startswith("cannot flush /dev/dm-1: Input/output error")
    assert caught.value.hint


def test_a_thin_device_s_status() -> None:
    assert parse_thin_status("256 1023") == (131072, 524288, False)
    assert parse_thin_status("0 -") == (0, 0, False)
    assert parse_thin_status("Fail").failed
    with pytest.raises(BadInputError, match="invalid status of a thin device"):
        parse_thin_status("what")


class SuspendedPool(KernelPool):
    """A pool that a command of LVM's is suspending: seen so for *looks*, with *refusals* before that."""

    def __init__(self, looks: int, refusals: int = 1) -> None:
        self.looks = looks
        self.refusals = refusals
        self.dm_name = "vg-pool"
        self.dm = cast("DeviceMapper", SimpleNamespace(find=self.look))

    def look(self, name: str) -> SimpleNamespace:
        assert name == self.dm_name
        self.looks -= 1
        return SimpleNamespace(suspended=self.looks >= 0)

    def load(self) -> str:
        self.refusals -= 1
        if self.refusals >= 0:
            raise UsageError("device-mapper cannot load a table into thin: Invalid argument")
        return "made"

    def check_usable(self) -> None:
        raise BusyError("the pool is suspended")


def test_no_device_is_made_while_lvm_has_the_pool_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    pool = SuspendedPool(looks=3)
    assert pool.retry_while_suspended(pool.load) == "made"
    assert len(waited) == 3 + 1
    waited.clear()
    pool = SuspendedPool(looks=0, refusals=5)
    assert pool.retry_while_suspended(pool.load) == "made"
    assert len(waited) == 5
    with pytest.raises(UsageError):
        pool.retry_while_suspended(SuspendedPool(looks=0, refusals=100).load)
    assert sum(waited) < 3
    monkeypatch.setattr(active_pool, "SUSPEND_TIMEOUT", 0)
    pool = SuspendedPool(looks=1000)
    with pytest.raises(BusyError, match="suspended"):
        pool.retry_while_suspended(pool.load)
