# SPDX-License-Identifier: Apache-2.0
"""The inside of a pool step by step: on metadata that only keeps count, and on a small pool in memory.

What each state allows is that of the kernel's ``drivers/md/dm-thin.c`` (``set_pool_mode``,
``alloc_data_block``, ``check_low_water_mark``, ``metadata_operation_failed``).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lamella.block import MemoryDevice
from lamella.errors import (
    BusyError,
    CorruptError,
    DeviceIOError,
    ExistsError,
    NoSpaceError,
    ReadOnlyError,
    UsageError,
)
from lamella.thin.engine.device_record import Device
from lamella.thin.engine.pool import Pool
from lamella.thin.engine.pool_core import PoolCore, Shortage
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.superblock import NEEDS_CHECK
from lamella.thin.metadata.reader import Metadata
from lamella.thin.status import PoolMode, PoolOptions
from lamella.thin.tools.check import check
from tests.support.failing import FailingDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK = 64 << 10
WRITE, NO_DATA, NO_METADATA, READ_ONLY, FAIL = PoolMode


class Superblock:
    data_block_size = 128
    needs_check = False
    mapping_root = 7


class Space:
    """A space map that hands out ascending blocks while :attr:`allocatable` lasts."""

    def __init__(self) -> None:
        self.size = 1000
        self.free = 500
        self.allocatable = 400
        self.held = 0
        self.asked: list[int] = []

    def allocate(self, wanted: int) -> np.ndarray[Any, Any]:
        self.asked.append(wanted)
        if wanted > self.allocatable:
            raise NoSpaceError("none", hint="none")
        self.allocatable -= wanted
        return np.arange(wanted)


class Live:
    """Metadata that keeps count of what it was asked for, in :attr:`done`."""

    def __init__(self) -> None:
        self.device = MemoryDevice(4096, name="metadata")
        self.superblock = Superblock()
        self.metadata, self.data = Space(), Space()
        self.free_blocks = 100
        self.allocatable_blocks = 90
        self.needed = 10
        self.changed = True
        self.transaction_id = 5
        self.pass_down: bool | None = None
        self.devices: dict[int, Device] = {}
        self.freed: list[int] = []
        self.fails: dict[str, BaseException] = {}
        self.done: list[Any] = []
        self.after: dict[str, Callable[[], object]] = {}

    def _do(self, what: str, *arguments: Any) -> None:
        self.done.append((what, *arguments) if arguments else what)
        if what in self.fails:
            raise self.fails[what]
        self.after.get(what, lambda: None)()

    def commit(self, flush_data: Callable[[], None]) -> np.ndarray[Any, Any]:
        flush_data()
        self._do("commit")
        self.changed = False
        return np.array(self.freed, dtype=np.int64)

    def abort(self) -> None:
        self._do("abort")

    def set_needs_check(self) -> None:
        self._do("needs_check")

    def keep_no_longer(self) -> None:
        self._do("keep_no_longer")

    def keep_committed(self, device: Device, *, discard: bool) -> None:
        self._do("keep", device.dev_id, discard)

    def flush_maps(self) -> None:
        self._do("flush_maps")

    def blocks_needed(self, device: Device, pages: set[int], chunks: int) -> int:
        self.asked = (device.dev_id, pages, chunks)
        return self.needed


class Data(FailingDevice):
    """Keeps the order of flushes and discards."""

    def __init__(self, log: list[Any]) -> None:
        super().__init__(64 * CHUNK, name="data")
        self.log = log
        self.discards_fail = False

    def flush(self) -> None:
        super().flush()
        self.log.append("flush")

    def discard(self, offset: int, length: int) -> None:
        self.log.append(("discard", offset // CHUNK, length // CHUNK))
        if self.discards_fail:
            raise DeviceIOError("no")


def core(
    live: Live | None = None, options: PoolOptions | None = None, *, read_only: bool = False
) -> tuple[Live, Any]:
    live = live or Live()
    chosen = options or PoolOptions(error_if_no_space=True)
    metadata: Any = live
    pool: Any = PoolCore(metadata, Data(live.done), chosen, read_only=read_only)
    pool.lock.acquire()  # as its callers do
    return live, pool


DEVICE = Device(4, DeviceDetails(0, 0, 0, 0))


# -- a new pool ------------------------------------------------------------------------------------


def test_how_a_pool_begins() -> None:
    options = PoolOptions(error_if_no_space=True)
    live, pool = core(options=options)
    assert {name: value for name, value in vars(pool).items() if name not in ("lock", "changed_mode")} == {
        "live": live,
        "metadata_device": live.device,
        "data_device": pool.data_device,
        "options": options,
        "chunk_size": CHUNK,
        "name": "metadata",
        "on_low_water": None,
        "zeroed": pool.zeroed,
        "data_written": False,
        "mode": WRITE,
        "opened_read_only": False,
        "headroom": 0,
        "erroring": True,
        "low_water_reported": False,
        "closed": False,
        "in_transaction": False,
        "stopped": False,
        "_lost": False,
        "_discard_replaced": False,
    }
    assert (pool.zeroed.data, pool.zeroed.chunk_size) == (pool.data_device, CHUNK)
    with pool.lock:
        pool.lock.acquire()  # a volume that has it may ask the pool
        pool.lock.release()
        pool.changed_mode.notify_all()  # the condition's lock is the pool's
    assert core(options=PoolOptions())[1].erroring is False


@pytest.mark.parametrize(
    ("discards", "passed"), [("passdown", True), ("nopassdown", False), ("ignore", False)]
)
def test_which_discards_are_passed_down(discards: Any, passed: bool) -> None:
    live, _ = core(options=PoolOptions(discards=discards))
    assert live.pass_down is passed


@pytest.mark.parametrize(
    ("read_only", "needs_check", "mode"),
    [(False, False, WRITE), (True, False, READ_ONLY), (False, True, READ_ONLY), (True, True, READ_ONLY)],
)
def test_the_mode_at_the_beginning(read_only: bool, needs_check: bool, mode: PoolMode) -> None:
    live = Live()
    live.superblock.needs_check = needs_check
    pool = core(live, read_only=read_only)[1]
    assert pool.mode is mode
    assert pool.opened_read_only is read_only


@pytest.mark.parametrize(
    ("free_blocks", "free", "root", "before", "after"),
    [
        (1, 24, 7, WRITE, WRITE),
        (0, 24, 7, WRITE, NO_METADATA),  # the reserve is left only
        (1, 23, 7, WRITE, NO_METADATA),  # less than a commit may take
        (0, 0, 7, NO_DATA, NO_METADATA),
        (0, 0, 7, READ_ONLY, READ_ONLY),
        (0, 0, 0, WRITE, WRITE),  # being formatted
    ],
)
def test_metadata_that_is_full(
    free_blocks: int, free: int, root: int, before: PoolMode, after: PoolMode
) -> None:
    live, pool = core()
    live.free_blocks, live.metadata.free, live.superblock.mapping_root = free_blocks, free, root
    with pool.lock:
        pool.set_mode(before)
        pool.check_metadata_space()
    assert pool.mode is after
    if before is WRITE:
        assert core(live)[1].mode is after, "and so at the beginning"


# -- transactions ----------------------------------------------------------------------------------


def test_a_commit_flushes_data_first_and_discards_last() -> None:
    live, pool = core()
    pool.data_written = True
    pool.headroom = 9
    pool.zeroed._end = 5
    live.freed = [3, 4, 5, 9]
    pool.commit()
    assert live.done == ["flush", "commit", ("discard", 3, 3), ("discard", 9, 1)]
    assert (pool.headroom, pool.data_written, pool.zeroed._end) == (0, False, 0)
    live.done.clear()
    pool.headroom = 9
    pool.commit()
    assert live.done == ["keep_no_longer"], "nothing has changed, and no data was written"
    pool.data_written = True
    pool.commit()
    assert live.done[-1] == "flush"
    assert pool.headroom == 0


def test_a_discard_that_fails_is_no_error() -> None:
    live, pool = core()
    pool.data_device.discards_fail = True
    live.freed = [1, 5]
    pool.commit()
    assert live.done == ["commit", ("discard", 1, 1)]
    assert pool.mode is WRITE


@pytest.mark.parametrize("mode", [READ_ONLY, FAIL])
def test_what_is_read_only_commits_nothing(mode: PoolMode) -> None:
    live, pool = core()
    pool.mode = mode
    if mode is FAIL:
        with pytest.raises(DeviceIOError, match="the pool of metadata has failed"):
            pool.commit()
    else:
        pool.commit()
    assert live.done == []


def test_full_metadata_is_committed_and_seen_after_a_commit() -> None:
    live, pool = core()
    pool.mode = NO_METADATA
    pool.commit()
    assert live.done == ["commit"]
    live, pool = core()
    live.after["commit"] = lambda: setattr(live, "free_blocks", 0)
    pool.commit()
    assert pool.mode is NO_METADATA


@pytest.mark.parametrize("discard", [False, True])
def test_a_transaction_begins_with_a_commit_and_keeps_what_open_devices_have(discard: bool) -> None:
    live, pool = core()
    live.devices = {1: Device(1, DEVICE.details()), 2: Device(2, DEVICE.details())}
    live.devices[2].opens = 1
    pool.begin(discard=discard)
    assert live.done == ["commit", ("keep", 2, discard)]
    assert pool.in_transaction is True
    pool.keep_committed(DEVICE)
    assert live.done[-1] == ("keep", 4, discard)
    with pytest.raises(
        BusyError, match="cannot begin a transaction: a transaction is open in the pool of meta"
    ):
        pool.begin()
    pool.commit()
    assert (pool.in_transaction, pool._discard_replaced, pool.stopped) == (False, False, False)
    live.done.clear()
    pool.keep_committed(DEVICE)
    assert live.done == [], "outside of a transaction chunks are written in place"
    live.devices = {}
    pool.begin()
    pool.keep_committed(DEVICE)
    assert live.done[-1] == ("keep", 4, False), "not asked for, nothing is discarded"


def test_a_transaction_that_cannot_begin_is_none() -> None:
    live, pool = core()
    live.devices = {1: Device(1, DEVICE.details())}
    live.devices[1].opens = 2
    live.fails["keep"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pool.begin(discard=True)
    assert (pool.in_transaction, pool._lost, pool._discard_replaced) == (False, False, False)


@pytest.mark.parametrize(
    ("mode", "error"),
    [(WRITE, None), (NO_DATA, None), (NO_METADATA, None), (READ_ONLY, ReadOnlyError), (FAIL, DeviceIOError)],
)
def test_in_which_state_a_transaction_may_begin(mode: PoolMode, error: type[Exception] | None) -> None:
    live, pool = core()
    live.data.free = 0
    pool.mode = mode
    if error is None:
        pool.begin()
        return
    with pytest.raises(error) as caught:
        pool.begin()
    assert str(caught.value).startswith(
        "the pool of metadata has failed"
        if mode is FAIL
        else "cannot begin a transaction: the pool of metadata"
    )
    assert not pool.in_transaction


def test_an_abort_goes_back_and_ends_the_transaction() -> None:
    live, pool = core()
    pool.begin(discard=True)
    pool.headroom, pool.zeroed._end, pool.stopped, pool._lost = 9, 7, True, True
    live.done.clear()
    pool.abort()
    assert live.done == ["abort"]
    assert (pool.headroom, pool.zeroed._end, pool.stopped, pool._lost) == (0, 0, False, False)
    assert (pool.in_transaction, pool._discard_replaced) == (False, False)
    live.fails["abort"] = CorruptError("gone")
    with pytest.raises(CorruptError, match="gone"):
        pool.abort()
    assert pool.mode is FAIL


@pytest.mark.parametrize(
    ("mode", "free", "after"),
    [(NO_DATA, 1, WRITE), (NO_DATA, 0, NO_DATA), (NO_METADATA, 1, NO_METADATA), (READ_ONLY, 1, READ_ONLY)],
)
def test_space_that_came_free_makes_a_pool_writable(mode: PoolMode, free: int, after: PoolMode) -> None:
    """The kernel's pool leaves the state without data space with the commit that frees a block."""
    for do in ("commit", "abort"):
        live, pool = core(options=PoolOptions(error_if_no_space=False))
        pool.mode, pool.erroring, live.data.free = mode, True, free
        getattr(pool, do)()
        assert pool.mode is after
        assert pool.erroring is (after is not WRITE), "which turns the time-out's policy back"


def test_a_closed_pool_does_nothing() -> None:
    live, pool = core()
    pool.closed = True
    for do in (pool.commit, pool.abort, pool.begin, lambda: pool.check_writable("x")):
        with pytest.raises(UsageError, match="the pool of metadata is closed"):
            do()
    assert live.done == []
    pool._end_transaction()
    assert pool.stopped is True, "a write that does not ask is stopped still"


# -- errors halfway --------------------------------------------------------------------------------


def fail(pool: Any, error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught, pool.updating("do it"):
        raise error
    return caught.value


def test_what_was_refused_before_any_change_changes_no_state() -> None:
    live, pool = core()
    for error in (BusyError("x"), ExistsError("x"), UsageError("x")):
        assert fail(pool, error) is error
    assert live.done == []
    assert pool.mode is WRITE


@pytest.mark.parametrize("error", [CorruptError("bad"), DeviceIOError("bad"), NoSpaceError("bad")])
@pytest.mark.parametrize("inside", [False, True])
def test_metadata_that_fails_needs_a_check(error: Any, inside: bool) -> None:
    live, pool = core()
    if inside:
        if isinstance(error, NoSpaceError):
            return
        pool.begin()
        live.done.clear()
    pool.zeroed._end = 7
    found = fail(pool, error)
    assert str(found) == "cannot do it: bad; the pool of metadata is read-only and needs a check now"
    assert "thin_check" in str(found.hint)  # type: ignore[attr-defined]
    assert live.done == ["abort", "needs_check"]
    assert (pool.mode, pool.zeroed._end, pool._lost, pool.stopped) == (READ_ONLY, 0, inside, inside)
    live.done.clear()
    fail(pool, error)
    assert live.done == [], "once is enough"


def test_a_commit_that_fails_says_so() -> None:
    live, pool = core()
    live.fails["commit"] = DeviceIOError("bad")
    with pytest.raises(DeviceIOError, match="cannot commit: bad; the pool of metadata is read-only"):
        pool.commit()
    assert live.done == ["commit", "abort", "needs_check"]


def test_metadata_that_cannot_even_be_read_fails_the_pool() -> None:
    live, pool = core()
    live.fails["abort"] = DeviceIOError("gone")
    assert str(fail(pool, DeviceIOError("bad"))) == "cannot do it: bad; the pool of metadata has failed"
    assert pool.mode is FAIL
    assert live.done == ["abort"]
    live, pool = core()
    live.fails["needs_check"] = DeviceIOError("gone")
    assert "needs a check now" in str(fail(pool, DeviceIOError("bad")))
    assert pool.mode is READ_ONLY


def test_an_interruption_goes_back_without_a_check() -> None:
    live, pool = core()
    fail(pool, KeyboardInterrupt())
    assert live.done == ["abort"]
    assert (pool.mode, pool._lost, pool.stopped) == (WRITE, False, False)
    pool.mode = READ_ONLY
    fail(pool, KeyboardInterrupt())
    assert live.done == ["abort"]
    live, pool = core()
    pool.begin()
    fail(pool, KeyboardInterrupt())
    assert (pool._lost, pool.stopped) == (True, True)
    for doing, do in (
        ("commit", pool.commit),
        ("delete", lambda: pool.check_changeable("delete")),
        ("write to x", lambda: pool.check_writable("x")),
    ):
        with pytest.raises(DeviceIOError) as caught:
            do()
        assert str(caught.value) == (
            f"cannot {doing}: the transaction of the pool of metadata failed and was rolled back"
        )
    pool.abort()
    pool.commit()


def test_a_transaction_without_space_is_lost_and_the_pool_goes_on() -> None:
    live, pool = core()
    pool.begin()
    live.done.clear()
    error = fail(pool, NoSpaceError("none"))
    assert str(error) == "cannot do it: the pool of metadata has too few free metadata blocks"
    assert "grow the metadata" in str(error.hint)  # type: ignore[attr-defined]
    assert live.done == ["abort"]
    assert (pool.mode, pool._lost, pool.stopped) == (WRITE, True, True)
    pool.abort()
    pool.begin()
    error = fail(pool, NoSpaceError("the disk is full", hint="delete files"))
    assert (str(error), error.hint) == ("cannot do it: the disk is full", "delete files")  # type: ignore[attr-defined]


def test_a_message_makes_room_first() -> None:
    """In a transaction nothing is committed for it."""
    live, pool = core()
    pool.headroom = 5
    live.allocatable_blocks = 32
    with pool.changing("x"):
        assert live.done == []
    assert pool.headroom == 0
    live.allocatable_blocks = 31
    with pool.changing("x"):
        assert live.done == ["commit"]
    live.done.clear()
    with pool.changing("x"):
        assert live.done == [], "there is nothing to commit"
    for mode in (NO_METADATA, READ_ONLY):
        live.changed, pool.mode = True, mode
        pool.make_room(32)
    pool.mode = WRITE
    pool.in_transaction = True
    pool.make_room(32)
    assert live.done == []
    pool.in_transaction, pool.mode = False, NO_DATA
    pool.make_room(32)
    assert live.done == ["commit"]
    live, pool = core()
    live.allocatable_blocks, live.after["commit"] = 0, lambda: setattr(live, "free_blocks", 0)
    with (
        pytest.raises(NoSpaceError, match="cannot x: the pool of metadata has no free metadata blocks"),
        pool.changing("x"),
    ):
        raise AssertionError
    assert live.done == ["commit"]


@pytest.mark.parametrize(
    ("mode", "change", "write"),
    [
        (WRITE, None, None),
        (NO_DATA, None, None),
        (NO_METADATA, NoSpaceError, None),
        (READ_ONLY, ReadOnlyError, ReadOnlyError),
        (FAIL, DeviceIOError, DeviceIOError),
    ],
)
def test_what_each_state_allows(
    mode: PoolMode, change: type[Exception] | None, write: type[Exception] | None
) -> None:
    """Without metadata what is mapped can be written; read-only, nothing."""
    _, pool = core()
    pool.mode = mode
    checks: Sequence[tuple[Callable[[str], None], type[Exception] | None, str]] = (
        (pool.check_provisioning, change, "cannot write to it: the pool of metadata"),
        (pool.check_writable, write, "cannot write to it: the pool of metadata"),
        (pool.check_changeable, change, "cannot it: the pool of metadata"),
    )
    for check_it, error, words in checks:
        if error is None:
            check_it("it")
            continue
        with pytest.raises(error) as caught:
            check_it("it")
        assert str(caught.value).startswith("the pool of metadata has failed" if mode is FAIL else words)
    if mode is NO_METADATA:
        pool.check_changeable("it", READ_ONLY)


def test_why_a_pool_is_read_only() -> None:
    for read_only, words in ((True, "is open for reading only"), (False, "is read-only and needs a check")):
        _, pool = core(read_only=read_only)
        pool.mode = READ_ONLY
        with pytest.raises(ReadOnlyError, match=f"cannot x: the pool of metadata {words}"):
            pool.check_changeable("x")


# -- space -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allocatable", "free", "low", "headroom"),
    [
        # of 90 - 10 needed - 32 kept 48 are left; half of them, in leaves of 83 mappings at worst
        (90, 5000, 0, 24 * 83),
        (91, 5000, 0, 24 * 83),
        (90, 1000, 100, 1000 - 6 - 100),  # up to the low-water mark
        (90, 106, 100, 0),
        (90, 50, 100, 0),
        (42, 5000, 0, 0),
    ],
)
def test_how_far_single_writes_may_go_on(allocatable: int, free: int, low: int, headroom: int) -> None:
    live, pool = core(options=PoolOptions(low_water_chunks=low))
    live.allocatable_blocks, live.data.free = allocatable, free
    pool.headroom = -1
    pool.keep_metadata_free(DEVICE, {1, 2}, 6)
    assert pool.headroom == headroom
    assert live.asked == (4, {1, 2}, 6)
    assert live.done == []


@pytest.mark.parametrize(
    ("allocatable", "needed", "chunks", "fits"),
    [
        (41, 10, 6, True),  # committed, 41 are free as before, and 10 and 32 do not fit; (41 - 16) // 3 do
        (41, 10, 8, True),
        (41, 10, 9, False),
        (0, 10, 1, True),  # a single one is let through: its commit says whether it fits
        (0, 10, 2, False),
        (17, 10, 1, True),
        (22, 10, 2, True),
        (21, 10, 2, False),
    ],
)
def test_little_metadata(allocatable: int, needed: int, chunks: int, fits: bool) -> None:
    live, pool = core()
    live.allocatable_blocks, live.needed, pool.headroom = allocatable, needed, 5
    if fits:
        pool.keep_metadata_free(DEVICE, {0}, chunks)
    else:
        with pytest.raises(Shortage):
            pool.keep_metadata_free(DEVICE, {0}, chunks)
    assert live.done == ["commit"]
    assert pool.headroom == 0


@pytest.mark.parametrize(("freed", "fits"), [(73, True), (72, True), (71, False)])
def test_metadata_that_the_commit_frees_is_used(freed: int, fits: bool) -> None:
    """40 are needed for 1000 chunks, and 32 are kept; (71 - 16) // 3 is far less than 1000."""
    live, pool = core()
    live.allocatable_blocks, live.needed = 20, 40
    live.after["commit"] = lambda: setattr(live, "allocatable_blocks", freed)
    if fits:
        pool.keep_metadata_free(DEVICE, {0}, 1000)
    else:
        with pytest.raises(Shortage):
            pool.keep_metadata_free(DEVICE, {0}, 1000)
    assert live.asked == (4, {0}, 1000)


def test_metadata_that_is_full_after_the_commit() -> None:
    live, pool = core()
    live.allocatable_blocks, live.after["commit"] = 0, lambda: setattr(live, "free_blocks", 0)
    with pytest.raises(NoSpaceError, match="cannot write: the pool of metadata has no free metadata blocks"):
        pool.keep_metadata_free(DEVICE, {0}, 1)


@pytest.mark.parametrize(
    ("allocatable", "blocks", "fits"), [(27, 3, True), (26, 3, False), (27, 2, False), (1000, 41, True)]
)
def test_little_metadata_in_a_transaction(allocatable: int, blocks: int, fits: bool) -> None:
    """Nothing is committed; what is pending goes into the trees, and what then may not fit is refused, while
    the 24 blocks that a commit may take are left, and 3 that a chunk may."""
    live, pool = core()
    pool.begin()
    live.done.clear()
    live.changed = True
    live.metadata.allocatable, live.allocatable_blocks = allocatable, blocks
    pool.headroom = 5
    if fits:
        pool.keep_metadata_free(DEVICE, {0}, 1)
    else:
        with pytest.raises(NoSpaceError) as caught:
            pool.keep_metadata_free(DEVICE, {0}, 1)
        assert str(caught.value) == "cannot write: the pool of metadata has too few free metadata blocks"
    assert live.done == ["flush_maps"]
    assert pool.headroom == 0, "the next one is looked at as well"
    live.fails["flush_maps"] = DeviceIOError("bad")
    live.allocatable_blocks = 0
    with pytest.raises(DeviceIOError, match="cannot write: bad; the pool of metadata is read-only"):
        pool.keep_metadata_free(DEVICE, {0}, 1)


def test_chunks_are_handed_out() -> None:
    live, pool = core()
    assert pool.allocate(3).tolist() == [0, 1, 2]
    assert (live.data.asked, live.done) == ([3], [])


@pytest.mark.parametrize(("wanted", "told"), [(397, False), (398, True), (400, True)])
def test_the_low_water_mark_is_looked_at_before_each_chunk(wanted: int, told: bool) -> None:
    """500 are free: the 398th is taken while 103 are."""
    live, pool = core(options=PoolOptions(low_water_chunks=103))
    said: list[object] = []
    pool.on_low_water = said.append
    pool.allocate(wanted)
    assert said == ([pool] if told else [])
    assert pool.low_water_reported is told
    live.data.allocatable = 400
    pool.allocate(400)
    assert said == [pool], "once"
    live, pool = core(options=PoolOptions(low_water_chunks=500))
    pool.allocate(1)  # nobody wants to know
    assert pool.low_water_reported is True


def test_without_free_chunks_those_that_were_freed_are_committed() -> None:
    live, pool = core()
    live.data.allocatable, pool.zeroed._end = 2, 9

    def commit() -> None:
        live.data.allocatable = 3
        assert pool.zeroed._end == 0

    live.after["commit"] = commit
    assert len(pool.allocate(3)) == 3
    assert live.data.asked == [3, 3]
    assert live.done == ["commit"]
    live.changed, live.data.allocatable, live.after = True, 0, {}
    live.after["commit"] = lambda: setattr(pool.zeroed, "_end", 9)
    with pytest.raises(Shortage):
        pool.allocate(3)
    assert live.done == ["commit", "commit"]
    assert pool.zeroed._end == 0
    live.done.clear()
    with pytest.raises(Shortage):
        pool.allocate(3)
    assert live.done == [], "there was nothing to commit"
    live.changed, live.after["commit"] = True, lambda: setattr(live, "free_blocks", 0)
    with pytest.raises(NoSpaceError, match="cannot write: the pool of metadata has no free metadata blocks"):
        pool.allocate(3)


def test_a_transaction_searches_again_for_what_it_freed_itself() -> None:
    """The search ends at the device's end; what came free before it is found by the next one."""
    live, pool = core()
    pool.begin()
    live.changed = True
    live.done.clear()
    live.data.asked.clear()
    first = live.data.allocate

    def allocate(wanted: int) -> Any:
        live.data.allocate = first  # type: ignore[method-assign]
        live.data.asked.append(-wanted)
        raise NoSpaceError("end")

    live.data.allocate = allocate  # type: ignore[assignment, method-assign]
    live.data.allocatable = 3
    assert len(pool.allocate(3)) == 3
    assert live.data.asked == [-3, 3]
    assert live.done == []
    live.data.allocatable = 2
    with pytest.raises(Shortage):
        pool.allocate(3)
    assert live.data.asked == [-3, 3, 3]


def test_a_full_pool_commits_before_it_gives_up() -> None:
    live, pool = core()
    pool.mode = NO_DATA
    assert len(pool.allocate(1)) == 1, "the commit freed some"
    assert live.done == ["commit"]
    live, pool = core()
    pool.mode, live.data.free = NO_DATA, 0
    with pytest.raises(Shortage):
        pool.allocate(1)
    assert live.done == ["commit"]
    live.done.clear()
    with pytest.raises(Shortage):
        pool.allocate(1)
    assert (live.done, live.data.asked) == ([], [])
    live, pool = core()
    pool.begin()
    pool.mode, live.changed = NO_DATA, True
    live.done.clear()
    with pytest.raises(Shortage):
        pool.allocate(1)
    assert live.done == []


@pytest.mark.parametrize("mode", [WRITE, NO_DATA])
def test_full_data_is_an_error_at_once(mode: PoolMode) -> None:
    live, pool = core()
    pool.mode = mode
    with pytest.raises(NoSpaceError) as caught:
        pool.wait_for_space("it")
    assert str(caught.value) == "cannot write to it: all 1000 chunks of data are in use"
    assert "data" in str(caught.value.hint)
    assert (pool.mode, live.done) == (NO_DATA, [])


def test_full_data_in_a_transaction_says_what_it_holds() -> None:
    live, pool = core()
    pool.begin()
    live.done.clear()
    live.after["flush_maps"] = lambda: setattr(live.data, "held", 7)
    with pytest.raises(
        NoSpaceError, match="it: all 1000 chunks of data are in use, 7 of them until this chan"
    ):
        pool.wait_for_space("it")
    assert live.done == ["flush_maps"]
    live.fails["flush_maps"] = DeviceIOError("bad")
    with pytest.raises(DeviceIOError, match="cannot write to it: bad"):
        pool.wait_for_space("it")


def wait(
    pool: Any, become: Callable[[], object], *, timeout: float = 60
) -> tuple[list[float], BaseException | None]:
    """Wait for space; once the pool waits, *become* is called instead. The seconds it would have waited."""
    asked: list[float] = []

    def wait_for(ready: Callable[[], bool], seconds: float) -> bool:
        asked.append(seconds)
        assert pool.mode is NO_DATA
        assert not ready()
        become()
        return ready() if seconds else False

    pool.changed_mode.wait_for = wait_for
    pool.options = PoolOptions(no_space_timeout=timeout)
    try:
        with pool.lock:
            pool.wait_for_space("it")
    except BaseException as error:
        return asked, error
    return asked, None


def test_full_data_is_waited_for() -> None:
    _, pool = core(options=PoolOptions())
    assert wait(pool, pool.set_writable, timeout=7) == ([7], None)
    assert (pool.mode, pool.erroring) == (WRITE, False)
    ready = []

    def close() -> None:
        pool.closed = True

    _, pool = core(options=PoolOptions())
    asked, error = wait(pool, close)
    assert isinstance(error, UsageError)
    _, pool = core(options=PoolOptions())
    asked, error = wait(pool, lambda: pool.set_mode(READ_ONLY))
    assert isinstance(error, ReadOnlyError)
    assert str(error).startswith("cannot write to it: ")
    _, pool = core(options=PoolOptions())
    asked, error = wait(pool, lambda: ready.append(1))
    assert isinstance(error, NoSpaceError)
    assert (asked, ready, pool.mode, pool.erroring) == ([60], [1], NO_DATA, True), "the time is over"


def test_who_waits_is_woken() -> None:
    """By a change of mode, by a pool that closes, and by another one's time-out."""
    for change in ("mode", "closed", "erroring"):
        _, pool = core(options=PoolOptions())
        pool.mode = NO_DATA
        ready: list[Callable[[], bool]] = []
        pool.changed_mode.wait_for = lambda condition, _seconds, ready=ready: ready.append(condition)
        with pytest.raises(NoSpaceError):
            pool.wait_for_space("it")
        pool.erroring = False
        assert not ready[0]()
        setattr(pool, change, WRITE if change == "mode" else True)
        assert ready[0]()
    _, pool = core(options=PoolOptions())
    pool.lock.release()
    woken, waits = threading.Event(), threading.Event()

    def look() -> None:
        with pool.changed_mode:
            waits.set()
            if pool.changed_mode.wait_for(lambda: pool.mode is READ_ONLY, 20):
                woken.set()

    thread = threading.Thread(target=look)
    thread.start()
    waits.wait(20)
    with pool.lock:
        pool.set_mode(READ_ONLY)
    thread.join()
    assert woken.is_set()


# -- on a small pool -------------------------------------------------------------------------------


def test_a_mapping_root_is_brought_up_to_date() -> None:
    metadata = MemoryDevice(1 << 20, name="metadata")
    pool = Pool.create(metadata, MemoryDevice(64 * CHUNK), chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, 1 << 20)
    root = pool.mapping_root(1)
    volume.write(0, b"x")
    changed = pool.mapping_root(1)
    assert pool.live.maps.highest(changed) == 0
    assert pool.mapping_root(1) == changed == pool.live.map_of(volume.device).root
    assert root != changed or pool.live.maps.highest(root) == 0
    pool.commit()
    assert Metadata.open(metadata).roots == {1: changed}
    volume.write(CHUNK, b"x")

    def fail_it(*_: object) -> None:
        raise DeviceIOError("bad")

    pool.live.flush_map = fail_it  # type: ignore[method-assign]
    with pytest.raises(
        DeviceIOError, match="cannot update the map of thin device 1: bad; the pool of metadata"
    ):
        pool.mapping_root(1)
    assert pool.mode is READ_ONLY
    assert metadata.content[4] == NEEDS_CHECK
    pool.closed = True
    with pytest.raises(UsageError):
        pool.mapping_root(1)
    report = check(metadata)
    assert not report.problems
