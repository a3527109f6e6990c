# SPDX-License-Identifier: Apache-2.0
"""The fence between pool and ``state.db``: every place where a transaction can be cut short.

With ``LAMELLA_TEST_ENGINE=kernel``, in the guest, the pool is one that the kernel has.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.driver import transactions
from lamella.driver.state import Device, Note, State
from lamella.errors import CorruptError
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.kernel.pool import KernelPool
from tests.support.kernel_pool import kernel_pool
from tests.support.stores import KERNEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lamella.thin.interface import ThinPool


class Cut(BaseException):
    """The process "dies" here."""


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.create(tmp_path / "state.db")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[ThinPool]:
    if KERNEL:
        with kernel_pool(tmp_path / "pool", f"lamella-test-fence-{os.getpid()}") as made:
            yield made
        return
    yield Pool.create(
        MemoryDevice(4 << 20), MemoryDevice(64 << 20), chunk_size=65536, options=PoolOptions(zero=False)
    )


def reopened(pool: ThinPool) -> ThinPool:
    """The pool as it would be found after the process died.

    The user engine's is without what was not committed; the kernel, which goes on, commits each message.
    """
    if isinstance(pool, Pool):
        return Pool.open(pool.metadata_device, pool.data_device, options=PoolOptions(zero=False))
    return KernelPool(pool.dm, pool.dm_name)


def make(pool: ThinPool, state: State, name: str, device_id: int) -> None:
    with transactions.creating(pool, state, Device(name, device_id, 1 << 20, 0)):
        pool.create_thin(device_id)


def delete(pool: ThinPool, state: State) -> None:
    """What is marked as deleted."""
    with state.transaction():
        note = transactions.note_deletion(pool, state, state.devices(deleted=True))
    transactions.delete(pool, state, note, discard=True)


def test_creating_and_deleting(pool: ThinPool, state: State) -> None:
    make(pool, state, "one", 1)
    make(pool, state, "two", 2)
    first, second = (d.transaction_id for d in state.devices())
    assert 0 < first < second == pool.transaction_id == state.pool().transaction_id
    assert {n: d.transaction_id for n, d in pool.devices().items()} == {1: first, 2: second}
    with state.transaction():
        state.mark_deleted("one")
    delete(pool, state)
    assert list(reopened(pool).devices()) == [2]
    assert [d.hash for d in state.devices()] == ["two"]
    assert second < pool.transaction_id == state.pool().transaction_id
    assert state.note() is None
    transactions.compare(reopened(pool), state)


def test_a_failing_block_leaves_everything_as_it_was(pool: ThinPool, state: State) -> None:
    make(pool, state, "one", 1)
    before = pool.transaction_id

    def fail() -> None:
        with transactions.creating(pool, state, Device("two", 2, 1 << 20, 0)):
            pool.create_thin(2)
            pool.commit()  # as a flush of a volume does
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(reopened(pool).devices()) == [1]
    assert state.note() is None
    assert reopened(pool).transaction_id == state.pool().transaction_id
    assert pool.transaction_id >= before


@pytest.mark.parametrize("committed", ["nothing", "the device", "the device and the id"])
def test_a_creation_cut_short_is_rolled_back(pool: ThinPool, state: State, committed: str) -> None:
    make(pool, state, "one", 1)
    last = pool.transaction_id
    with state.transaction():
        state.set_note(Note(last + 7, "create", (("two", 2),)))
    if committed != "nothing":
        pool.create_thin(2)
        if committed == "the device and the id":
            pool.set_transaction_id(last, last + 7)
        pool.commit()
    pool = reopened(pool)
    transactions.compare(pool, state)
    assert transactions.finish_interrupted(pool, state)
    assert list(reopened(pool).devices()) == [1]
    assert state.note() is None
    transactions.compare(reopened(pool), state)
    assert not transactions.finish_interrupted(pool, state)


@pytest.mark.parametrize("committed", [False, True])
def test_a_deletion_cut_short_is_finished(pool: ThinPool, state: State, committed: bool) -> None:
    make(pool, state, "one", 1)
    make(pool, state, "two", 2)
    with state.transaction():
        state.mark_deleted("one")
        last = pool.transaction_id
        state.set_note(Note(last + 7, "delete", (("one", 1),)))
    if committed:
        pool.delete(1)
        pool.set_transaction_id(last, last + 7)
        pool.commit()
    pool = reopened(pool)
    transactions.compare(pool, state)
    assert transactions.finish_interrupted(pool, state, discard=True)
    assert list(reopened(pool).devices()) == [2]
    assert [d.hash for d in state.devices()] == ["two"]
    assert reopened(pool).transaction_id == state.pool().transaction_id == last + 7


def test_dying_while_settling_does_no_harm(
    pool: ThinPool, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(pool, state, "one", 1)
    with state.transaction():
        last = pool.transaction_id
        state.set_note(Note(last + 7, "create", (("two", 2),)))
    pool.create_thin(2)
    pool.set_transaction_id(last, last + 7)
    pool.commit()

    def die() -> None:
        raise Cut

    pool = reopened(pool)
    with monkeypatch.context() as patch:
        patch.setattr(state, "clear_note", die)
        with pytest.raises(Cut):
            transactions.finish_interrupted(pool, state)
    pool = reopened(pool)
    transactions.compare(pool, state)
    transactions.finish_interrupted(pool, state)
    assert list(pool.devices()) == [1]
    assert pool.transaction_id == state.pool().transaction_id == last + 7


@pytest.mark.parametrize(
    ("in_pool", "noted"),
    [(5, None), (0, None), (5, 2), (1, 1), (0, 3)],
    ids=["ahead", "behind", "far ahead", "odd note", "behind with a note"],
)
def test_a_pool_that_another_program_changed_is_explained(
    pool: ThinPool, state: State, in_pool: int, noted: int | None
) -> None:
    with state.transaction():
        state.set_pool(transaction_id=1)
        if noted:
            state.set_note(Note(noted, "create", (("two", 2),)))
    pool.set_transaction_id(0, in_pool)
    with pytest.raises(CorruptError, match=f"the pool is at transaction {in_pool}, but") as caught:
        transactions.compare(pool, state)
    assert "Nothing was changed" in str(caught.value.hint)


def test_what_was_done_to_two_copies_differs_by_its_id(tmp_path: Path) -> None:
    """Each is at the first transaction after its set-up, with the same devices: their ids differ."""
    copies = []
    for name in ("a.db", "b.db"):
        pool = Pool.create(MemoryDevice(4 << 20), MemoryDevice(64 << 20), chunk_size=65536)
        copies.append((pool, State.create(tmp_path / name)))
        make(*copies[-1], "base", 1)
        assert pool.transaction_id == 1
        make(*copies[-1], "one", 2)
    for pool, state in copies:
        transactions.compare(pool, state)
    with pytest.raises(CorruptError, match="one was changed without the other"):
        transactions.compare(copies[0][0], copies[1][1])
