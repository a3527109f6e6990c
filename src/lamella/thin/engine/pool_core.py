# SPDX-License-Identifier: Apache-2.0
"""The inside of a pool: its transaction, the states that it can be in, and its space.

The states, what each of them allows, the metadata reserve and what happens when metadata fails follow the
kernel's ``drivers/md/dm-thin.c``.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import SECTOR
from lamella.errors import (
    BusyError,
    CorruptError,
    DeviceIOError,
    ExistsError,
    LamellaError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    Remedy,
    UnsupportedError,
    UsageError,
)
from lamella.interruptible import make_lock
from lamella.thin.engine.live_metadata import LEAF_UNITS
from lamella.thin.engine.zeroing import ZeroedAhead
from lamella.thin.format.runs import consecutive
from lamella.thin.status import PoolMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from lamella.block import BlockDevice
    from lamella.thin.engine.device_record import Device
    from lamella.thin.engine.live_metadata import LiveMetadata
    from lamella.thin.format.arrays import Int64s
    from lamella.thin.status import PoolOptions

log = logs.logger(__name__)

_ROOM = 32
"""Metadata blocks that creating, deleting or a small commit may take at most; fewer free: commit first."""
_LEAST_FREE = 24
"""Metadata blocks that any commit may take; a device so small that its reserve is less stops here."""


class Shortage(Exception):
    """Less space is free than a batch of writes needs, even after a commit; half of the batch may fit.

    Internal to the engine: it never leaves :class:`lamella.thin.engine.volume.Volume`.
    """


class PoolCore:
    """What :class:`lamella.thin.engine.pool.Pool` and its volumes build on."""

    def __init__(
        self, live: LiveMetadata, data: BlockDevice, options: PoolOptions, *, read_only: bool
    ) -> None:
        self.live = live
        self.metadata_device = live.device
        self.data_device = data
        self.options = options
        live.pass_down = options.discards == "passdown"
        self.chunk_size = live.superblock.data_block_size * SECTOR
        self.name = live.device.name
        self.on_low_water: Callable[[Any], None] | None = None
        """Called with the pool when its free chunks fall to ``low_water_chunks``, once until the data device
        grows. It may grow the device and call ``resize_data``."""
        self.zeroed = ZeroedAhead(data, self.chunk_size)
        self.data_written = False
        self.mode = PoolMode.READ_ONLY if read_only or live.superblock.needs_check else PoolMode.WRITE
        self.opened_read_only = read_only
        self.headroom = 0
        """Mappings that may still be made without asking :meth:`keep_metadata_free`."""
        self.erroring = options.error_if_no_space
        self.low_water_reported = False
        self.closed = False
        self.in_transaction = False
        """Whether a caller's transaction is open, which nobody else commits."""
        self._lost = False
        self._discard_replaced = False
        self.stopped = False
        """Closed, or what is written now would be lost: the open transaction was rolled back already."""
        self.lock = make_lock()
        self.changed_mode = threading.Condition(self.lock)  # type: ignore[arg-type]
        with self.lock:
            self.check_metadata_space()

    # -- the transaction -------------------------------------------------------------------------

    def begin(self, *, discard: bool = False) -> None:
        """Begin a transaction: what is done from here on becomes durable by :meth:`commit`, all together,
        and :meth:`abort` takes all of it back. What was done before is committed first.

        Until then nothing else commits, not even where that would make space (the operation then raises
        :class:`NoSpaceError`), and no chunk of the committed state is written to: one that a volume writes to
        is replaced by a copy. With *discard* those that were replaced are discarded after the commit.

        An error that spoils the transaction rolls it back at once; every change raises until :meth:`abort`.
        Raises :class:`BusyError` where a transaction is open.
        """
        with self.lock:
            self.refuse_transaction("begin a transaction")
            self.check_changeable("begin a transaction", PoolMode.READ_ONLY)
            self.commit()
            self.in_transaction = True
            self._discard_replaced = discard
            try:
                for device in self.live.devices.values():
                    if device.opens:
                        self.live.keep_committed(device, discard=discard)
            except BaseException:
                self._end_transaction()
                raise

    def commit(self) -> None:
        """Make everything written so far durable, data first. Cheap when nothing has changed.

        A metadata device that fails leaves the last committed state: the pool goes back to it, is marked as
        needing a check, and is read-only from then on.
        """
        with self.lock:
            self.check_usable()
            self._check_not_lost("commit")
            if self.mode >= PoolMode.READ_ONLY:
                return
            self.headroom = 0
            if not self.live.changed:
                self.live.keep_no_longer()
                self.flush_data()
            else:
                with self.updating("commit"):
                    discards = self.live.commit(self.flush_data)
                log.debug("pool metadata committed, transaction id %d", self.live.transaction_id)
                self.zeroed.forget()
                self._pass_down(discards)
                self.check_metadata_space()
            self._end_transaction()
            self._leave_out_of_data_space()

    def abort(self) -> None:
        """Forget everything since the last commit. Open volumes show the committed state."""
        with self.lock:
            self.check_usable()
            self._end_transaction()
            self._go_back()

    def _go_back(self) -> None:
        self.headroom = 0
        log.info("pool metadata: back to the last commit")
        try:
            self.live.abort()
        except LamellaError:
            self.set_mode(PoolMode.FAIL)
            raise
        self.zeroed.forget()
        self._leave_out_of_data_space()

    def _leave_out_of_data_space(self) -> None:
        if self.mode is PoolMode.OUT_OF_DATA_SPACE and self.live.data.free:
            self.set_writable()

    def _end_transaction(self) -> None:
        self.in_transaction = self._lost = self._discard_replaced = False
        self.stopped = self.closed

    def _lose_transaction(self) -> None:
        """It was rolled back before its owner has ended it."""
        if self.in_transaction:
            self._lost = self.stopped = True

    def _check_not_lost(self, doing: str) -> None:
        if self._lost:
            raise DeviceIOError(
                f"cannot {doing}: the transaction of the pool of {self.name} failed and was rolled back",
                hint="see the error before this one",
            )

    def refuse_transaction(self, doing: str) -> None:
        """Raise :class:`BusyError` where a transaction is open, which *doing* would commit half of."""
        if self.in_transaction:
            raise BusyError(
                f"cannot {doing}: a transaction is open in the pool of {self.name}",
                hint="wait until the operation that began it has ended",
            )

    def keep_committed(self, device: Device) -> None:
        """*device* is about to be written to."""
        if self.in_transaction:
            self.live.keep_committed(device, discard=self._discard_replaced)

    def flush_data(self) -> None:
        """Make the data device durable, if something was written to it."""
        if self.data_written:
            self.data_device.flush()
            self.data_written = False

    def _pass_down(self, blocks: Int64s) -> None:
        """Discard chunks that came free and whose freeing is committed."""
        if not len(blocks):
            return
        for start, end in consecutive(blocks):
            try:
                self.data_device.discard(
                    int(blocks[start]) * self.chunk_size, (end - start) * self.chunk_size
                )
            except DeviceIOError:
                # A discard is advice: the pool is right without it, as the kernel has it too.
                return

    # -- states ------------------------------------------------------------------------------------

    def set_mode(self, mode: PoolMode) -> None:
        self.mode = mode
        self.changed_mode.notify_all()

    def set_writable(self) -> None:
        self.erroring = self.options.error_if_no_space
        self.set_mode(PoolMode.WRITE)

    def check_metadata_space(self) -> None:
        live = self.live
        full = not live.free_blocks or live.metadata.free < _LEAST_FREE
        if full and self.mode < PoolMode.OUT_OF_METADATA_SPACE and live.superblock.mapping_root:
            self.set_mode(PoolMode.OUT_OF_METADATA_SPACE)

    def check_usable(self) -> None:
        if self.closed:
            raise UsageError(f"the pool of {self.name} is closed", hint="open it again")
        if self.mode is PoolMode.FAIL:
            raise DeviceIOError(
                f"the pool of {self.name} has failed: its metadata could not be read back",
                hint="check the metadata device, then open the pool again",
            )

    def check_changeable(self, doing: str, limit: PoolMode = PoolMode.OUT_OF_METADATA_SPACE) -> None:
        self.check_usable()
        self._check_not_lost(doing)
        if self.mode < limit:
            return
        if self.mode is PoolMode.OUT_OF_METADATA_SPACE:
            raise NoSpaceError(
                f"cannot {doing}: the pool of {self.name} has no free metadata blocks",
                steps=[Remedy.GROW_METADATA],
            )
        if self.opened_read_only:
            raise ReadOnlyError(
                f"cannot {doing}: the pool of {self.name} is open for reading only",
                hint="open it for writing",
            )
        raise ReadOnlyError(
            f"cannot {doing}: the pool of {self.name} is read-only and needs a check",
            steps=[Remedy.CLEAR_NEEDS_CHECK],
        )

    @contextmanager
    def changing(self, doing: str) -> Iterator[None]:
        """Around a message that changes metadata."""
        with self.lock:
            self.headroom = 0
            self.check_changeable(doing)
            self.make_room(_ROOM)
            self.check_changeable(doing)
            with self.updating(doing):
                yield

    @contextmanager
    def updating(self, doing: str) -> Iterator[None]:
        """Around changes of metadata: one that breaks off halfway is undone, and the pool goes read-only.

        A lack of space in a caller's transaction is no failure: that is rolled back, and the pool goes on.
        """
        try:
            yield
        except (BusyError, ExistsError, NotFoundError, UnsupportedError, UsageError):
            raise  # refused before anything was changed
        except (CorruptError, DeviceIOError, NoSpaceError) as error:
            if self.in_transaction and isinstance(error, NoSpaceError):
                self._lose_transaction()
                self._go_back()
                if error.hint:  # not the metadata's space, but what the device lies on
                    raise NoSpaceError(
                        f"cannot {doing}: {error.message}", hint=error.hint, steps=error.steps
                    ) from error
                raise self._metadata_too_small(doing) from error
            if self.mode < PoolMode.READ_ONLY:
                self._metadata_failed()
            state = "has failed" if self.mode is PoolMode.FAIL else "is read-only and needs a check now"
            raise type(error)(
                f"cannot {doing}: {error.message}; the pool of {self.name} {state}",
                steps=[Remedy.CLEAR_NEEDS_CHECK],
            ) from error
        except BaseException:
            # Interrupted halfway: what is in memory cannot be trusted, what is on disk can.
            if self.mode < PoolMode.READ_ONLY:
                self._lose_transaction()
                self._go_back()
            raise

    def _metadata_too_small(self, doing: str) -> NoSpaceError:
        return NoSpaceError(
            f"cannot {doing}: the pool of {self.name} has too few free metadata blocks",
            steps=[Remedy.GROW_METADATA],
        )

    def _metadata_failed(self) -> None:
        """Back to the last committed transaction, and nothing more until a check."""
        self._lose_transaction()
        try:
            self.live.abort()
        except LamellaError:
            self.set_mode(PoolMode.FAIL)
            return
        self.zeroed.forget()
        self.set_mode(PoolMode.READ_ONLY)
        try:
            self.live.set_needs_check()
        except LamellaError:
            # The device takes no writes at all. The committed metadata is sound; only the mark is missing.
            return

    def make_room(self, blocks: int) -> None:
        """Commit if fewer metadata blocks are free than *blocks*: it frees those of the old transaction.

        Not in a caller's transaction, where what does not fit is refused.
        """
        if (
            not self.in_transaction
            and self.live.allocatable_blocks < blocks
            and self.live.changed
            and self.mode < PoolMode.OUT_OF_METADATA_SPACE
        ):
            self.commit()

    # -- for volumes and comparisons -------------------------------------------------------------

    def mapping_root(self, dev_id: int) -> int:
        """Root block of the device's mapping tree, brought up to date with what is not committed yet."""
        with self.lock:
            self.check_usable()
            device = self.live.get(dev_id)
            if device.map is not None and device.map.changed:
                with self.updating(f"update the map of thin device {dev_id}"):
                    self.live.flush_map(device)
            return self.live.map_of(device).root

    def check_writable(self, what: str) -> None:
        """Raise unless chunks that are mapped already may be written."""
        self.check_usable()
        if self.mode is PoolMode.READ_ONLY or self._lost:
            self.check_changeable(f"write to {what}")

    def check_provisioning(self, what: str) -> None:
        """Raise unless metadata may change for a write to *what*; full data is :meth:`allocate`'s to say."""
        self.check_changeable(f"write to {what}")

    def keep_metadata_free(self, device: Device, pages: set[int], chunks: int) -> None:
        """*chunks* mappings of *device*, in *pages* of its map, are about to change: keep metadata blocks
        free for their leaves.

        Raises :class:`Shortage` when there are not enough for so many at once; a single one is let through,
        or refused by :class:`NoSpaceError` in a transaction that could not be committed with it.
        """
        live = self.live
        room = live.allocatable_blocks - live.blocks_needed(device, pages, chunks) - _ROOM
        if room >= 0:
            # Single writes may go on so far without looking again, here and at the low-water mark.
            spare = live.data.free - chunks - self.options.low_water_chunks
            self.headroom = max(min(room // 2 * LEAF_UNITS, spare), 0)
            return
        self.headroom = 0
        if self.in_transaction:
            # What is pending takes less than was guessed, as a rule; now it has taken it.
            with self.updating("write"):
                live.flush_maps()
            if live.metadata.allocatable < _LEAST_FREE + 3 or live.allocatable_blocks < 3:
                raise self._metadata_too_small("write")
        else:
            self.commit()
            self.check_changeable("write")
        # Nothing is pending now, and a chunk changes its leaf and divides it at worst.
        few = chunks <= max(1, (live.allocatable_blocks - _ROOM // 2) // 3)
        if not few and live.blocks_needed(device, pages, chunks) + _ROOM > live.allocatable_blocks:
            raise Shortage

    def allocate(self, wanted: int) -> Int64s:
        """*wanted* free data chunks, each with one reference. Raises :class:`Shortage`."""
        if self.mode is PoolMode.OUT_OF_DATA_SPACE:
            if self.live.changed and not self.in_transaction:
                self.commit()  # a discard may have made space; the kernel's timer does this
            if self.mode is PoolMode.OUT_OF_DATA_SPACE:
                raise Shortage
        # As the kernel, which looks before it takes each single chunk.
        low = self.live.data.free - wanted + 1 <= self.options.low_water_chunks
        if low and not self.low_water_reported:
            self.low_water_reported = True
            if self.on_low_water is not None:
                self.on_low_water(self)
        try:
            return self.live.data.allocate(wanted)
        except NoSpaceError:
            self.zeroed.forget()  # the search restarts at chunks that may have been written since
            if not self.live.changed or (self.in_transaction and self.live.data.allocatable < wanted):
                raise Shortage from None
        if not self.in_transaction:
            # What was freed can be used as soon as that is committed.
            self.commit()
            self.check_changeable("write")
        try:
            return self.live.data.allocate(wanted)
        except NoSpaceError:
            self.zeroed.forget()
            raise Shortage from None

    def wait_for_space(self, what: str) -> None:
        """The data device is full: wait for it to grow, or raise :class:`NoSpaceError`."""
        if self.mode is PoolMode.WRITE:
            self.set_mode(PoolMode.OUT_OF_DATA_SPACE)
        if not self.erroring:
            self.changed_mode.wait_for(
                lambda: self.mode is not PoolMode.OUT_OF_DATA_SPACE or self.closed or self.erroring,
                self.options.no_space_timeout,
            )
            self.check_changeable(f"write to {what}")
            if self.mode is PoolMode.WRITE:
                return
            self.erroring = True
        held = 0
        if self.in_transaction:
            with self.updating(f"write to {what}"):
                self.live.flush_maps()  # which releases what was replaced
            held = self.live.data.held
        until = f", {held} of them until this change is complete" if held else ""
        raise NoSpaceError(
            f"cannot write to {what}: all {self.live.data.size} chunks of {self.data_device.name} are in use"
            f"{until}",
            steps=[Remedy.GROW_DATA],
        )
