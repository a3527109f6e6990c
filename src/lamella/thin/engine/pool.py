# SPDX-License-Identifier: Apache-2.0
"""The user-space engine: a thin pool on a metadata and a data device, without device-mapper.

A :class:`Pool` does what the kernel's thin-pool target does, on the same bytes: the kernel, LVM2 and
thin-provisioning-tools open what it leaves, and it opens what they leave. Its operations are dm-thin's
messages; :meth:`Pool.open_volume` stands for a ``thin`` device. One process at a time may write a pool;
the devices that it is given see to that (:class:`lamella.block.FileDevice` locks). Threads may share one.

States, the metadata reserve and the order of a commit follow ``drivers/md/dm-thin.c``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.block import SECTOR
from lamella.errors import BusyError, ExistsError, NoSpaceError, UsageError
from lamella.thin.engine.diff import unshared
from lamella.thin.engine.live_metadata import LiveMetadata
from lamella.thin.engine.pool_core import PoolCore
from lamella.thin.engine.volume import Volume
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.limits import MAX_CHUNK, MIN_CHUNK
from lamella.thin.format.mappings import count_beyond, ranges_that_differ
from lamella.thin.format.space_map import MAX_METADATA_BLOCKS
from lamella.thin.interface import MetadataView
from lamella.thin.status import PoolMode, PoolOptions, PoolStatus, metadata_low_water

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from lamella.block import BlockDevice

__all__ = ["DeviceDetails", "Pool", "PoolMode", "PoolOptions", "PoolStatus"]


class Pool(PoolCore):
    """A thin pool that is open. Use :meth:`create` or :meth:`open`; as a context manager it commits at
    the end, or aborts when the block fails. From ``begin`` to the next :meth:`commit` or ``abort`` a
    transaction is open; without one the pool also commits by itself, where that makes space."""

    can_abort = True

    # -- opening and closing ---------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        metadata: BlockDevice,
        data: BlockDevice,
        *,
        chunk_size: int,
        options: PoolOptions | None = None,
        force: bool = False,
    ) -> Pool:
        """Format *metadata* as an empty pool over *data*, commit, and open it.

        *chunk_size* is in bytes: a multiple of 64 KiB up to 1 GiB. As with the kernel, the metadata's
        first block has to be all zeros (:class:`ExistsError` otherwise), unless *force*.
        """
        if chunk_size % MIN_CHUNK or not MIN_CHUNK <= chunk_size <= MAX_CHUNK:
            raise UsageError(
                f"cannot make a pool with chunks of {chunk_size} bytes",
                hint="give a multiple of 64 KiB, from 64 KiB to 1 GiB",
            )
        if metadata.size < 16 * BLOCK_SIZE:
            raise UsageError(
                f"cannot make a pool: the metadata device {metadata.name} has only {metadata.size} bytes",
                hint="give it 2 MiB or more",
            )
        if data.size < chunk_size:
            raise UsageError(
                f"cannot make a pool: {data.name} is smaller than one chunk of {chunk_size} bytes",
                hint="give a larger data device or smaller chunks",
            )
        if not force and any(metadata.read(0, BLOCK_SIZE)):
            raise ExistsError(
                f"cannot make a pool: the metadata device {metadata.name} is not empty",
                hint="open the pool that is there, or wipe the device's first 4096 bytes",
            )
        try:
            live = LiveMetadata.format(
                metadata, chunk_sectors=chunk_size // SECTOR, data_chunks=data.size // chunk_size
            )
        except NoSpaceError as error:
            raise NoSpaceError(
                f"cannot make a pool: the metadata device {metadata.name} is too small for a data device of "
                f"{data.size} bytes",
                hint="give a larger metadata device, or larger chunks",
            ) from error
        pool = cls(live, data, options or PoolOptions(), read_only=False)
        live.commit(lambda: None)
        pool.check_metadata_space()
        return pool

    @classmethod
    def open(
        cls,
        metadata: BlockDevice,
        data: BlockDevice,
        *,
        options: PoolOptions | None = None,
        read_only: bool = False,
    ) -> Pool:
        """Open the pool that is on *metadata*. Devices that have grown are taken note of, as in the kernel.

        Raises :class:`CorruptError` for damage, :class:`UnsupportedError` for unknown feature flags and
        :class:`UsageError` for devices smaller than the pool. A pool that needs a check opens read-only.
        """
        read_only = read_only or metadata.read_only or data.read_only
        live = LiveMetadata.open(metadata, read_only=read_only)
        chunk_size = live.superblock.data_block_size * SECTOR
        if data.size // chunk_size < live.data.size:
            raise UsageError(
                f"the data device {data.name} is too small: it has {data.size // chunk_size} chunks of "
                f"{chunk_size} bytes, its pool expects {live.data.size}",
                hint="it was truncated or is another pool's; restore its size",
            )
        pool = cls(live, data, options or PoolOptions(), read_only=read_only)
        if pool.mode is not PoolMode.READ_ONLY:
            with pool.lock:
                pool._adopt_sizes()
        return pool

    def close(self) -> None:
        """Commit pending changes and close the pool; the devices stay open. Closing twice is harmless.

        A transaction that is open is rolled back: nobody has said that it is complete.
        """
        with self.lock:
            if self.closed:
                return
            try:
                if self.in_transaction:
                    if self.mode is not PoolMode.FAIL:  # which has nothing left to go back to
                        self.abort()
                elif self.mode < PoolMode.READ_ONLY:
                    self.commit()
            finally:
                self.closed = self.stopped = True
                self.changed_mode.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with self.lock:
            if not self.closed and self.mode < PoolMode.READ_ONLY:
                self.abort()
            self.closed = self.stopped = True

    # -- what it is ------------------------------------------------------------------------------

    @property
    def transaction_id(self) -> int:
        """The user's own number for the pool's state, changed by :meth:`set_transaction_id`."""
        return self.live.transaction_id

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed: opened so, or for a check or a failure."""
        return self.mode >= PoolMode.OUT_OF_METADATA_SPACE

    @property
    def metadata_snap(self) -> int | None:
        """Block of the held metadata snapshot's superblock, or None."""
        return self.live.superblock.held_root or None

    def devices(self) -> dict[int, DeviceDetails]:
        """All thin devices, by id."""
        with self.lock:
            return self.live.all_details()

    def device_ids(self) -> set[int]:
        """The ids of all thin devices."""
        return set(self.devices())

    def has_device(self, dev_id: int) -> bool:
        """Whether there is a thin device with that id."""
        with self.lock:
            return self.live.find(dev_id) is not None

    def mapped_chunks(self, dev_id: int) -> int | None:
        """How many chunks the device maps now, uncommitted changes included."""
        with self.lock:
            device = self.live.find(dev_id)
            return None if device is None else device.mapped

    @contextmanager
    def metadata_view(self) -> Iterator[MetadataView]:
        """The metadata device, what was done so far being committed."""
        self.refuse_transaction("read the metadata")
        if not self.read_only:
            self.commit()
        yield MetadataView(self.metadata_device, snapshot=False)

    def differing_ranges(self, dev_a: int, dev_b: int) -> Iterator[tuple[int, int]]:
        """(first chunk, length) of the chunks that two devices map differently, in order. Their content
        is the same everywhere else. Raises :class:`lamella.errors.NotFoundError`."""
        with self.lock:
            roots = self.mapping_root(dev_a), self.mapping_root(dev_b)
            found = unshared(self.live.maps, *roots)
        yield from ranges_that_differ(*found)

    def chunks_beyond(self, origin: int, dev: int) -> int:
        """How many chunks *dev* maps that are not *origin*'s. Raises :class:`NotFoundError`."""
        with self.lock:
            roots = self.mapping_root(origin), self.mapping_root(dev)
            found = unshared(self.live.maps, *roots)
        return count_beyond(*found)

    def status(self) -> PoolStatus:
        """The pool's state now, uncommitted changes included."""
        with self.lock:
            live = self.live
            if self.mode < PoolMode.OUT_OF_METADATA_SPACE and live.changed:
                with self.updating("update its metadata"):
                    live.flush_maps()
            total = live.metadata.size
            return PoolStatus(
                transaction_id=live.transaction_id,
                used_metadata=total - live.free_blocks,
                total_metadata=total,
                used_data=live.data.allocated,
                total_data=live.data.size,
                held_root=live.superblock.held_root,
                mode=self.mode,
                discards=self.options.discards,
                error_if_no_space=self.erroring,
                needs_check=live.superblock.needs_check,
                metadata_low_water=metadata_low_water(self.metadata_device.size // BLOCK_SIZE),
            )

    def table_line(self) -> str:
        """The pool as device-mapper's table has it: start and length in sectors, target, parameters."""
        from lamella.devicemapper.table import ThinPool

        return ThinPool(
            0,
            self.live.data.size * self.chunk_size // SECTOR,
            metadata=self.metadata_device.name,
            data=self.data_device.name,
            chunk=self.chunk_size // SECTOR,
            low_water=self.options.low_water_chunks,
            features=self.options.features(read_only=self.opened_read_only),
        ).line

    # -- dm-thin's messages ----------------------------------------------------------------------

    def create_thin(self, dev_id: int) -> None:
        """A new, empty device. Raises :class:`ExistsError`."""
        with self.changing(f"create thin device {dev_id}"):
            self.live.create_thin(dev_id)

    def create_snap(self, dev_id: int, origin_id: int) -> None:
        """A new device with the content of *origin_id*, sharing all of it; costs the same whatever its size.

        Raises :class:`ExistsError` and :class:`NotFoundError`.
        """
        with self.changing(f"create snapshot {dev_id} of thin device {origin_id}"):
            self.live.create_snap(dev_id, origin_id)

    def delete(self, dev_id: int, *, discard: bool = False) -> None:
        """Remove a device. Raises :class:`NotFoundError`, and :class:`BusyError` while a volume has it open.

        With *discard* the chunks that nothing shares are discarded on the data device after the commit,
        as if the whole device had been discarded first.
        """
        with self.changing(f"delete thin device {dev_id}"):
            self.live.delete(dev_id, discard=discard)

    def set_transaction_id(self, old: int, new: int) -> None:
        """Set the transaction id to *new* if it is *old*; :class:`ExistsError` otherwise."""
        with self.changing("set the transaction id"):
            self.live.set_transaction_id(old, new)

    def reserve_metadata_snap(self) -> None:
        """Hold the metadata as it is now, for another program to read. Commits. One at a time."""
        self.refuse_transaction("reserve a metadata snapshot")
        with self.changing("reserve a metadata snapshot"):
            if self.live.superblock.held_root:
                raise BusyError(
                    f"the pool of {self.name} holds a metadata snapshot already",
                    hint="release it before taking another",
                )
            self.commit()
            self.live.reserve_snapshot()
        self.commit()

    def release_metadata_snap(self) -> None:
        """Give up the held metadata snapshot. Raises :class:`NotFoundError` when there is none."""
        with self.changing("release the metadata snapshot"):
            self.live.release_snapshot()

    def message(self, text: str) -> None:
        """Do what dm-thin's message *text* says, and commit, as the kernel does after each message."""
        words = text.split()
        actions: dict[str, tuple[Callable[..., None], int]] = {
            "create_thin": (self.create_thin, 1),
            "create_snap": (self.create_snap, 2),
            "delete": (self.delete, 1),
            "set_transaction_id": (self.set_transaction_id, 2),
            "reserve_metadata_snap": (self.reserve_metadata_snap, 0),
            "release_metadata_snap": (self.release_metadata_snap, 0),
        }
        action, wanted = actions.get(words[0].lower() if words else "", (None, 0))
        numbers = [int(word) for word in words[1:] if word.isascii() and word.isdigit()]
        if action is None or len(numbers) != len(words) - 1 or len(numbers) != wanted:
            raise UsageError(
                f"{text!r} is not a message of a thin pool",
                hint="known: create_thin ID, create_snap ID ORIGIN, delete ID, set_transaction_id OLD NEW, "
                "reserve_metadata_snap, release_metadata_snap",
            )
        self.refuse_transaction(f"do {text!r}")
        action(*numbers)
        self.commit()

    def open_volume(
        self,
        dev_id: int,
        size: int,
        *,
        read_only: bool = False,
        external_origin: BlockDevice | None = None,
        zero_fresh: bool | None = None,
    ) -> Volume:
        """The thin device *dev_id* as a block device of *size* bytes (which the pool does not record).

        *external_origin* shows through where nothing is mapped. *zero_fresh* says whether the rest of a
        partly written new chunk is zeroed; None: as the pool's option says.
        """
        with self.lock:
            self.check_usable()
            if size <= 0 or size % SECTOR:
                raise UsageError(
                    f"cannot open thin device {dev_id} of {self.name} with {size} bytes",
                    hint="give a multiple of 512",
                )
            device = self.live.get(dev_id)
            if not read_only:
                self.keep_committed(device)
            device.opens += 1
            return Volume(
                self,
                device,
                size,
                read_only=read_only or self.opened_read_only,
                external_origin=external_origin,
                zero_fresh=self.options.zero if zero_fresh is None else zero_fresh,
            )

    # -- space -------------------------------------------------------------------------------------

    def trim(self) -> int:
        """Discard what the data device holds in free chunks, as writes that were never committed leave it.

        Returns the number of bytes. Nothing is done in a pool that does not pass discards down.
        """
        with self.lock:
            self.check_writable("its free chunks")
            if self.options.discards != "passdown":
                return 0
            size, total = self.chunk_size, 0
            end = self.live.data.size * size
            for offset, length in self.data_device.data_ranges(0, end):
                last = -(-(offset + length) // size)
                for first, stop in self.live.data.free_runs(offset // size, last):
                    self.data_device.discard(first * size, (stop - first) * size)
                    total += (stop - first) * size
            self.zeroed.forget()
            return total

    def resize_data(self) -> None:
        """The data device has grown: use all of it. Writers that wait for space go on."""
        with self.lock:
            self.check_changeable("record the data device's new size")
            self._adopt_sizes()

    def resize_metadata(self) -> None:
        """The metadata device has grown: use all of it."""
        with self.lock:
            self.check_changeable("record the metadata device's new size", PoolMode.READ_ONLY)
            self._adopt_sizes()

    def _adopt_sizes(self) -> None:
        live = self.live
        self.headroom = 0
        metadata_blocks = min(self.metadata_device.size // BLOCK_SIZE, MAX_METADATA_BLOCKS)
        chunks = self.data_device.size // self.chunk_size
        if metadata_blocks < live.metadata.size or chunks < live.data.size:
            small = self.metadata_device if metadata_blocks < live.metadata.size else self.data_device
            raise UsageError(
                f"{small.name} has become smaller than its pool", hint="restore its size at once"
            )
        if metadata_blocks > live.metadata.size:
            with self.updating("grow the metadata"):
                live.extend_metadata(metadata_blocks)
            if self.mode is PoolMode.OUT_OF_METADATA_SPACE:
                self.set_writable()
        grown = chunks > live.data.size
        if grown:
            with self.updating("grow the data device"):
                live.extend_data(chunks)
            self.low_water_reported = False
            self.zeroed.forget()
        if live.changed and not self.in_transaction:
            self.commit()
        if grown and self.mode is PoolMode.OUT_OF_DATA_SPACE:
            self.set_writable()
