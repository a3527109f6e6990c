# SPDX-License-Identifier: Apache-2.0
"""Layers: unpacking one into a snapshot of the layer below, and packing it again, bit for bit."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from lamella import logs
from lamella.driver.state import BASE
from lamella.fs.tar.split import TarSplitWriter, reassemble
from lamella.images.chain import chain_id
from lamella.store.catalog import Layer
from lamella.store.names import new_id
from lamella.store.tar_split_rows import SplitPieces, SplitReader

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Protocol

    from lamella.driver.device_set import DeviceSet
    from lamella.driver.state import Device, State
    from lamella.store.catalog import Catalog
    from lamella.store.claims import Claims
    from lamella.thin.interface import ThinVolume

    class TarStream(Protocol):
        """An uncompressed tar whose end is only reached if its digest is right."""

        def readinto(self, target: memoryview, /) -> int: ...

    class Out(Protocol):
        """Where packed bytes go."""

        def write(self, data: bytes, /) -> object: ...


log = logs.logger(__name__)


class _Counted:
    """A stream that counts the bytes read from it."""

    def __init__(self, stream: TarStream) -> None:
        self._stream = stream
        self.position = 0

    def readinto(self, target: memoryview, /) -> int:
        count = self._stream.readinto(target)
        self.position += count
        return count


def read_to_end(stream: TarStream) -> None:
    """Read what is left of *stream*, which verifies its digest."""
    buffer = memoryview(bytearray(1 << 16))
    while stream.readinto(buffer):
        pass


class Layers:
    """Unpacks and packs the layers of one open store."""

    def __init__(self, state: State, catalog: Catalog, devices: DeviceSet, claims: Claims) -> None:
        self._state = state
        self._catalog = catalog
        self._devices = devices
        self.claims = claims
        """What other threads are making and need."""

    def unpack(
        self,
        parent: str | None,
        diff_id: str,
        stream: TarStream,
        report: Callable[[int], None],
        *,
        size: int | None = None,
    ) -> Layer:
        """Unpack one layer upon the chain *parent*, and record it.

        *report* is called as the work goes on, with bytes of the tar that were dealt with since. *size* is
        that of the new device in bytes, by default the parent's. The layer becomes visible when
        the whole stream was read, and with that verified, and everything is durable. On any error
        the pool and ``state.db`` are unchanged. A layer that is there, damaged, gets the new device.
        """
        chain = chain_id(parent, diff_id)
        with self.claims.claimed(chain):
            there = self._catalog.layer(chain)
            if there is not None and self.is_whole(chain):
                read_to_end(stream)  # another thread has unpacked it; this one's digest counts all the same
                return there
            return self._unpack(chain, parent, diff_id, stream, report, size)

    def _unpack(
        self,
        chain: str,
        parent: str | None,
        diff_id: str,
        stream: TarStream,
        report: Callable[[int], None],
        size: int | None,
    ) -> Layer:
        damaged = self._catalog.layer(chain)
        if damaged is not None:
            size = self._size_of(damaged.device, parent)
        if parent is None and self._devices.damage(BASE):
            self._devices.make_base_anew()
        name = new_id()
        counted = _Counted(stream)
        content = 0
        rows = SplitPieces()
        log.info("unpacking layer %s on %s", diff_id, parent or "the base device")

        def fill(volume: ThinVolume) -> None:
            nonlocal content
            with io.BufferedWriter(rows) as buffer, TarSplitWriter(buffer) as split:
                stats = self._devices.filesystem.apply_layer(volume, counted, recorder=split, progress=report)
                read_to_end(counted)
            content = stats.bytes_written

        def record(connection: sqlite3.Connection, device: Device) -> None:
            made = Layer(chain, diff_id, parent, device.hash, content, counted.position)
            if damaged is None:
                self._catalog.add_layer(made)
            else:
                self._state.mark_deleted(self._catalog.move_layer(made))
            rows.insert(connection, chain)

        self._devices.add(name, self._catalog.device_of(parent), size=size, fill=fill, record=record)
        if damaged is not None:
            self._devices.retry_deletions()
        return Layer(chain, diff_id, parent, name, content, counted.position)

    def _size_of(self, device: str, parent: str | None) -> int:
        """Bytes for the device that replaces *device*: as many, but no fewer than its parent has."""
        old, below = self._state.device(device), self._devices.get(self._catalog.device_of(parent))
        return max(old.size if old else 0, below.size)

    def is_whole(self, chain: str) -> bool:
        """Whether the layer is there, with nothing of it missing."""
        layer = self._catalog.layer(chain)
        return layer is not None and not self._devices.damage(layer.device)

    def drop_unused(self) -> None:
        """Remove layers that nothing uses, as an interrupted load leaves them."""
        if not self._catalog.unused_tops():
            return

        def record(_: object) -> None:
            for top in self._catalog.unused_tops():
                for layer in self._catalog.drop_unused_layers(top):
                    self._state.mark_deleted(layer.device)

        self._devices.delete([], record=record)

    def pack(self, layer: Layer, out: Out) -> None:
        """Write the tar that the layer was unpacked from, byte for byte; the caller verifies its diff id.

        Raises :class:`lamella.errors.CorruptError` where a file has changed.
        """
        with (
            self._devices.volume(layer.device) as volume,
            self._devices.filesystem.reader(volume) as reader,
            io.BufferedReader(SplitReader(self._state, layer.chain_id)) as split,
        ):
            reassemble(split, reader.read, out, name=f"the record of layer {layer.diff_id}")
