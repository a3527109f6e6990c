# SPDX-License-Identifier: Apache-2.0
"""What a pool is to those who use it, whichever engine maps the blocks.

Two engines have this interface: :class:`lamella.thin.engine.pool.Pool`, which is this process itself, and
:class:`lamella.thin.kernel.pool.KernelPool`, which talks to the kernel's thin-pool target. The
operations are dm-thin's messages; the formats on the disk are the same.

They differ in when a change is durable. In the user engine none is between :meth:`ThinPool.begin` and
:meth:`ThinPool.commit`, and :meth:`ThinPool.abort` rolls it back (``can_abort``). The kernel commits with
every message, once a second, and with every flush of a volume; so a caller that must be able to roll back
works on a snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from lamella.block import BlockDevice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from lamella.thin.format.details import DeviceDetails
    from lamella.thin.status import PoolStatus


class ThinVolume(BlockDevice):
    """A thin device that is open. What was never written reads as zeros."""

    dev_id: int
    chunk_size: int
    """Bytes of the pool's chunks."""


class MetadataView(NamedTuple):
    """Committed metadata that does not change while it is looked at."""

    device: BlockDevice
    snapshot: bool
    """Whether it is the metadata snapshot held in *device*; else what *device*'s own superblock says."""


class ThinPool(Protocol):
    """A thin pool that is open."""

    @property
    def name(self) -> str:
        """What an error message calls it."""

    @property
    def chunk_size(self) -> int:
        """Bytes of a chunk."""

    @property
    def can_abort(self) -> bool:
        """Whether :meth:`abort` rolls back what was done since :meth:`begin`."""

    @property
    def in_transaction(self) -> bool:
        """Whether :meth:`begin` was called, and neither :meth:`commit` nor :meth:`abort` since."""

    @property
    def transaction_id(self) -> int:
        """The user's own number for the pool's state."""

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed: opened so, or for a check or a failure."""

    def devices(self) -> Mapping[int, DeviceDetails]:
        """All thin devices, by id."""

    def device_ids(self) -> set[int]:
        """Their ids alone, which may cost less."""

    def has_device(self, dev_id: int) -> bool:
        """Whether there is a thin device with that id, whatever the number of the others."""

    def mapped_chunks(self, dev_id: int) -> int | None:
        """How many chunks the thin device maps, as its details say; None if there is no such device."""

    def status(self) -> PoolStatus:
        """The pool's state now."""

    def create_thin(self, dev_id: int) -> None:
        """A new, empty device. Raises :class:`lamella.errors.ExistsError`."""

    def create_snap(self, dev_id: int, origin_id: int) -> None:
        """A new device with the content of *origin_id*. Raises ``ExistsError`` and ``NotFoundError``."""

    def delete(self, dev_id: int, *, discard: bool = False) -> None:
        """Remove a device; with *discard* its unshared chunks are discarded on the data device as well.

        Raises ``NotFoundError``, and ``BusyError`` while it is open.
        """

    def set_transaction_id(self, old: int, new: int) -> None:
        """Set the transaction id to *new* if it is *old*; ``ExistsError`` otherwise."""

    def reserve_metadata_snap(self) -> None:
        """Hold the metadata as it is now. ``BusyError`` where it is held already."""

    def release_metadata_snap(self) -> None:
        """Give up the held metadata. Raises ``NotFoundError`` when none is."""

    def open_volume(
        self, dev_id: int, size: int, *, read_only: bool = False, zero_fresh: bool | None = None
    ) -> ThinVolume:
        """The thin device *dev_id* with *size* bytes.

        *zero_fresh*: the rest of a partly written new chunk is zeroed; None: as the pool does it.
        """

    def metadata_view(self) -> AbstractContextManager[MetadataView]:
        """Committed metadata, for readers of all of it; valid within the block."""

    def differing_ranges(self, dev_a: int, dev_b: int) -> Iterator[tuple[int, int]]:
        """(first chunk, length) of the chunks that two devices map differently, in order."""

    def chunks_beyond(self, origin: int, dev: int) -> int:
        """How many chunks *dev* maps that are not *origin*'s: what a snapshot takes beyond its origin."""

    def begin(self, *, discard: bool = False) -> None:
        """Begin a transaction, which ends with :meth:`commit` or :meth:`abort`.

        Where ``can_abort``, nothing is committed until then, and nothing that is committed is written to:
        volumes that are written to get new chunks. With *discard* those replaced are discarded on the data
        device after the commit. Raises ``BusyError`` where a transaction is open.
        """

    def commit(self) -> None:
        """Everything done so far is durable when this returns, and the transaction has ended."""

    def abort(self) -> None:
        """End the transaction; where ``can_abort``, everything since the last commit is forgotten."""

    def trim(self) -> int:
        """Discard what the data device holds in free chunks; gives the number of bytes."""

    def resize_data(self) -> None:
        """The data device has grown: use all of it."""

    def resize_metadata(self) -> None:
        """The metadata device has grown: use all of it."""

    def close(self) -> None:
        """Commit pending changes and close the pool. Closing twice is harmless."""
