# SPDX-License-Identifier: Apache-2.0
"""The kernel's engine: an active thin-pool device behind the same interface as the user engine's pool.

The kernel does the work; this sends it messages, makes and removes the device-mapper devices through
which thin devices are read and written, and reads the pool's metadata beside it where the kernel has no
answer (which devices there are, what they map).
"""

from __future__ import annotations

import time
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from lamella.block import SECTOR
from lamella.devicemapper.nodes import QUIET_COOKIE, drop_name
from lamella.devicemapper.table import Thin, sole_target
from lamella.errors import (
    BusyError,
    DeviceIOError,
    ExistsError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    UsageError,
)
from lamella.thin.format.mappings import count_beyond, ranges_that_differ
from lamella.thin.health import diagnose
from lamella.thin.kernel.active_pool import ActivePool
from lamella.thin.kernel.quick_removal import quick_remove
from lamella.thin.status import PoolMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lamella.thin.format.details import DeviceDetails
    from lamella.thin.kernel.volume import KernelVolume
    from lamella.thin.metadata.reader import Metadata

LARGEST_VOLUME = 1 << 44
"""Bytes of a thin device that is activated to discard all of it, whatever size it was made with."""
_REMOVAL_TIMEOUT = 2.0
"""Seconds that the kernel may need to take a device apart, whose name it has forgotten already."""


class KernelPool(ActivePool):
    """A thin pool that the kernel runs; the parameters are those of :class:`ActivePool`."""

    can_abort = False
    in_transaction = False

    _ids: set[int] | None = None
    _mapped: Mapping[int, int] = MappingProxyType({})
    """Chunks that the devices mapped when they were last read."""
    _expected: int | None = None
    """The transaction id that the next commit has to find."""

    # -- what it is ------------------------------------------------------------------------------

    def devices(self) -> dict[int, DeviceDetails]:
        """All thin devices as last committed, by id."""
        found = self.committed(lambda metadata: metadata.details)
        self._ids = set(found)
        self._mapped = {dev_id: details.mapped_blocks for dev_id, details in found.items()}
        return found

    def device_ids(self) -> set[int]:
        """The ids of all thin devices; read once, as this object's user is the only one to change them."""
        return set(self._known_ids())

    def has_device(self, dev_id: int) -> bool:
        """Whether there is a thin device with that id; also from what was read once."""
        return dev_id in self._known_ids()

    def mapped_chunks(self, dev_id: int) -> int | None:
        """How many chunks the device maps, as last committed; of one that was there before, as first read."""
        if dev_id not in self._known_ids():
            return None
        if dev_id not in self._mapped:
            self.devices()
        return self._mapped.get(dev_id)

    def _known_ids(self) -> set[int]:
        if self._ids is None:
            self.devices()
            assert self._ids is not None
        return self._ids

    # -- messages --------------------------------------------------------------------------------

    def create_thin(self, dev_id: int) -> None:
        self._message(f"create_thin {dev_id}", f"create thin device {dev_id}")
        self._note(dev_id)

    def create_snap(self, dev_id: int, origin_id: int) -> None:
        """A snapshot; an origin that is active is suspended meanwhile, a file system on it frozen."""
        doing = f"create snapshot {dev_id} of thin device {origin_id}"
        name = self.name_of(origin_id)
        if self.active(origin_id) is None:
            self._message(f"create_snap {dev_id} {origin_id}", doing)
        else:
            self._refuse_to_freeze(doing)
            with self.guard.suspending(name), self.dm.suspended(name):
                self._message(f"create_snap {dev_id} {origin_id}", doing)
        self._note(dev_id)

    def _refuse_to_freeze(self, doing: str) -> None:
        """Raise where writers may be waiting for space: freezing their file system would wait for them."""
        found = self._status(flush=False)
        if found.mode is PoolMode.OUT_OF_DATA_SPACE:
            raise NoSpaceError(
                f"cannot {doing}, which is in use: the pool {self.name} is full, and its writers may wait",
                steps=self._advice(found),
            )

    def delete(self, dev_id: int, *, discard: bool = False) -> None:
        if discard and self.discards:
            self._discard(dev_id)
        end = time.monotonic() + _REMOVAL_TIMEOUT
        while True:
            try:
                self._message(f"delete {dev_id}", f"delete thin device {dev_id}")
                break
            except BusyError:
                if self.release(dev_id):
                    continue
                if self._names_of(dev_id) or time.monotonic() >= end:
                    raise
                time.sleep(0.005)
        if self._ids is not None:
            self._ids.discard(dev_id)

    def _discard(self, dev_id: int) -> None:
        """Discard on the data device what only this device maps. Advisory: errors here are ignored."""
        with (
            suppress(BusyError, ReadOnlyError, DeviceIOError),
            self.open_volume(dev_id, LARGEST_VOLUME, zero_fresh=False) as volume,
        ):
            volume.discard_all()

    def set_transaction_id(self, old: int, new: int) -> None:
        try:
            self._message(f"set_transaction_id {old} {new}", "set the transaction id")
        except UsageError as error:
            raise ExistsError(
                f"the pool {self.name} is at transaction {self.transaction_id}, not {old}",
                hint="another program uses it",
            ) from error
        self._expected = new

    def _note(self, dev_id: int) -> None:
        if self._ids is not None:
            self._ids.add(dev_id)

    def differing_ranges(self, dev_a: int, dev_b: int) -> Iterator[tuple[int, int]]:
        """(first chunk, length) of the chunks that two devices map differently, as last committed."""

        def both(metadata: Metadata) -> list[tuple[int, int]]:
            metadata.load({dev_a, dev_b})
            return list(ranges_that_differ(*metadata.mappings(dev_a), *metadata.mappings(dev_b)))

        return iter(self.committed(both))

    def chunks_beyond(self, origin: int, dev: int) -> int:
        """How many chunks *dev* maps that are not *origin*'s, as last committed."""

        def count(metadata: Metadata) -> int:
            metadata.load({origin, dev})
            return count_beyond(*metadata.mappings(origin), *metadata.mappings(dev))

        return self.committed(count)

    # -- devices ---------------------------------------------------------------------------------

    def open_volume(
        self, dev_id: int, size: int, *, read_only: bool = False, zero_fresh: bool | None = None
    ) -> KernelVolume:
        """The thin device through a device-mapper device, which is made if it is not there.

        With *zero_fresh* no new chunk shows what lay there before, even if the pool does not zero.
        """
        from lamella.thin.kernel.volume import KernelVolume

        if size <= 0 or size % SECTOR:
            raise UsageError(
                f"cannot open thin device {dev_id} of {self.name} with {size} bytes",
                hint="give a multiple of 512",
            )
        return KernelVolume(self, dev_id, size, read_only=read_only, zero_fresh=bool(zero_fresh))

    def release(self, dev_id: int) -> bool:
        """Remove a device-mapper device of *dev_id* that is not open, or all; whether there was any."""
        with suppress(BusyError, NotFoundError):  # another device has the name, or it is open
            info = self.active(dev_id)
            if info is not None and info.live_table:
                quick_remove(self.dm, info)
                drop_name(info.name)
                return True
        found = False
        for name in self._names_of(dev_id):
            with suppress(NotFoundError, BusyError):
                self.dm.remove(name, cookie=QUIET_COOKIE)
                found = True
        return found

    def _names_of(self, dev_id: int) -> list[str]:
        """Every device-mapper device, of whatever name, that is thin device *dev_id*."""
        found = []
        for name, _, _ in self.dm.list():
            with suppress(NotFoundError):
                target = sole_target(self.dm.table(name))
                if isinstance(target, Thin) and (target.pool, target.device_id) == (self.info.number, dev_id):
                    found.append(name)
        return found

    # -- the rest --------------------------------------------------------------------------------

    def begin(self, *, discard: bool = False) -> None:
        """Only note it: the kernel commits as it goes, and whoever must roll back works on a snapshot."""
        if self.in_transaction:
            raise BusyError(
                f"a transaction is open in the pool {self.name}",
                hint="wait until the operation that began it has ended",
            )
        self.in_transaction = True

    def commit(self) -> None:
        """Have the kernel commit. What lies in the page cache of a volume its own ``flush`` writes.

        A message's answer proves nothing: the kernel reports success even when the commit that ends it fails
        and is rolled back. So the pool's state is checked here.
        """
        found = self._status(flush=not self._sent)  # a message commits by itself
        behind = self._expected is not None and found.transaction_id != self._expected
        state = diagnose(found, self._facts).summary or "is at an older transaction"
        if (found.mode >= PoolMode.READ_ONLY and self._sent) or behind:
            raise DeviceIOError(
                f"the kernel could not write the metadata of the pool {self.name}, "
                f"and rolled back: it {state}",
                steps=self._advice(found),
            )
        if found.mode >= PoolMode.READ_ONLY:
            raise ReadOnlyError(f"the pool {self.name} {state}", steps=self._advice(found))
        self._expected, self._sent = None, False
        self.in_transaction = False

    def abort(self) -> None:
        """End the transaction, and roll nothing back: the kernel commits as it goes."""
        self.in_transaction = False

    def trim(self) -> int:
        """Nothing: the kernel discards what is freed by itself, or not at all."""
        return 0

    def resize_data(self) -> None:
        """Nothing: the pool takes note of its devices' sizes when its table is loaded."""

    def resize_metadata(self) -> None:
        """Nothing, for the same reason."""
