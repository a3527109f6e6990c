# SPDX-License-Identifier: Apache-2.0
"""Crash tests: record every write and flush, and give the devices as any power cut could leave them.

    recording = Recording(folder)
    metadata = recording.wrap(FileDevice(...), "metadata")
    data = recording.wrap(FileDevice(...), "data")
    ... work on the two devices, with recording.mark("what is finished now") in between ...
    for crash in recording.crashes(random.Random(1), every=3):
        crash.devices["metadata"], crash.devices["data"]   # scratch devices, to be opened and checked
        crash.finished                                     # the marks that had been reached

A flush makes what was written to *its* device before it durable. Of what a device was given after its
last flush, a crash keeps any part, in any order, in pieces of a sector (or of *atomic* bytes). A file that
has grown has its old size until then, and nothing behind that. A crash device holds in memory only what was
written to it; contents are read from the recording's files.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.block import BlockDevice, FileDevice
from lamella.block.ranges import merged

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from typing_extensions import Buffer

BLOCK = 4096
_WRITE, _ZERO, _FLUSH, _MARK, _RESIZE = range(5)


class Recording:
    """A log of the writes, discards and flushes of some devices in order; kept in *folder*."""

    def __init__(self, folder: Path, *, watch: Callable[[], object] | None = None) -> None:
        """*watch* is asked at each event for what else there is then; a crash has it as ``beside``."""
        self.folder = folder
        self._watch = watch
        self._beside: list[object] = []
        self._beside_at = array("q")
        self.labels: list[str] = []
        self.atomic: list[int] = []
        self.marks: list[Any] = []
        self._journal = array("q")  # device, kind, offset, length, place in the spool: five numbers an event
        self._spool = os.open(folder / "spool", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._spooled = 0
        self._images: list[FileDevice] = []
        self._now: object = None
        self.recording = True

    def wrap(self, device: BlockDevice, label: str, *, atomic: int = BLOCK) -> RecordingDevice:
        """*device*, its present content being durable, with everything done to it recorded from now on.

        *atomic* is the number of bytes that a crash never tears (a power of two from 512 to 4096).
        """
        image = FileDevice.create(self.folder / f"{label}.durable", device.size)
        for offset, length in device.data_ranges():
            for start in range(offset, offset + length, 1 << 20):
                piece = device.read(start, min(1 << 20, offset + length - start))
                if any(piece):
                    image.write(start, piece)
        self.labels.append(label)
        self.atomic.append(atomic)
        self._images.append(image)
        return RecordingDevice(self, device, len(self.labels) - 1)

    def wrap_all(self, devices: Mapping[str, BlockDevice], *, atomic: int = BLOCK) -> dict[str, BlockDevice]:
        """:meth:`wrap` each of *devices*, labelled by its key."""
        return {label: self.wrap(device, label, atomic=atomic) for label, device in devices.items()}

    def note(self, device: int, kind: int, offset: int = 0, length: int = 0, data: Buffer = b"") -> None:
        """Append one event; for :class:`RecordingDevice`."""
        if not self.recording:
            return
        place = self._spooled
        if kind == _WRITE:
            os.pwrite(self._spool, data, place)
            self._spooled += length
        self._journal.extend((device, kind, offset, length, place))
        if self._watch is not None:
            found = self._watch()
            if not self._beside or found != self._beside[-1]:
                self._beside.append(found)
            self._beside_at.append(len(self._beside) - 1)

    def mark(self, value: Any) -> None:
        """Note that *value* is durable: from now on it has to survive every crash."""
        self.marks.append(value)
        self.note(-1, _MARK, len(self.marks) - 1)

    @property
    def events(self) -> int:
        return len(self._journal) // 5

    def crashes(self, chance: random.Random, *, every: int = 1, subsets: int = 1) -> Iterator[Crash]:
        """The devices as a crash may leave them, after each *every*-th event.

        Each time: with nothing lost, with everything lost that was not flushed, and *subsets* times with
        some of it lost. To be used once: the durable images move on with it. Each crash's devices are
        good until the next one is asked for.
        """
        self.recording = False
        pending: list[list[tuple[int, int, int, int]]] = [[] for _ in self.labels]
        finished: list[Any] = []
        for number in range(self.events):
            device, kind, offset, length, place = self._journal[number * 5 : number * 5 + 5]
            if self._beside:
                self._now = self._beside[self._beside_at[number]]
            if kind == _MARK:
                finished.append(self.marks[offset])
                if not any(pending):
                    continue  # what the flush before it left has been tried
            elif kind == _FLUSH:
                for event in pending[device]:
                    self._apply(device, event)
                pending[device] = []
            else:
                pending[device].append((kind, offset, length, place))
            if number % every and kind not in (_FLUSH, _MARK):
                continue
            yield self._crash(f"after event {number}, nothing lost", pending, finished)
            if not any(pending):
                continue
            none: list[list[tuple[int, int, int, int]]] = [[] for _ in pending]
            yield self._crash(f"after event {number}, all unflushed lost", none, finished)
            for again in range(subsets):
                kept = [
                    self._part(events, self.atomic[index], chance) for index, events in enumerate(pending)
                ]
                yield self._crash(f"after event {number}, some lost ({again})", kept, finished)
        for index, events in enumerate(pending):
            for event in events:
                self._apply(index, event)
        yield self._crash("at the end", [[] for _ in self.labels], finished)

    def _apply(self, device: int, event: tuple[int, int, int, int]) -> None:
        kind, offset, length, place = event
        image = self._images[device]
        if kind == _RESIZE:
            image.resize(length)
            return
        length = min(length, image.size - offset)
        if kind == _ZERO:
            image.write_zeros(offset, length)
            return
        for start in range(0, length, 1 << 20):
            piece = os.pread(self._spool, min(1 << 20, length - start), place + start)
            image.write(offset + start, piece)

    @staticmethod
    def _part(
        events: list[tuple[int, int, int, int]], atomic: int, chance: random.Random
    ) -> list[tuple[int, int, int, int]]:
        share = chance.choice((0.1, 0.5, 0.9))
        kept = []
        for kind, offset, length, place in events:
            at = offset
            while at < offset + length:
                end = min((at // atomic + 1) * atomic, offset + length)
                if kind in (_ZERO, _RESIZE):
                    end = offset + length
                if chance.random() < share:
                    kept.append((kind, at, end - at, place + at - offset))
                at = end
        if chance.random() < 0.5:
            chance.shuffle(kept)
        return kept

    def _crash(self, what: str, pending: list[list[tuple[int, int, int, int]]], finished: list[Any]) -> Crash:
        devices: dict[str, BlockDevice] = {}
        for label, image, events in zip(self.labels, self._images, pending, strict=True):
            device = CrashDevice(image, self._spool, f"{label} {what}")
            for event in events:
                device.apply(*event)
            devices[label] = device
        return Crash(what, devices, list(finished), self._now)

    def close(self) -> None:
        os.close(self._spool)
        for image in self._images:
            image.close()


@dataclass
class Crash:
    """Devices as a crash left them. They may be written, in memory."""

    what: str
    devices: dict[str, BlockDevice]
    finished: list[Any] = field(default_factory=list)
    beside: Any = None


class RecordingDevice(BlockDevice):
    """Passes all requests on to *inner* and records them."""

    def __init__(self, recording: Recording, inner: BlockDevice, index: int) -> None:
        self.recording = recording
        self.inner = inner
        self.index = index
        self.name = inner.name
        self.size = inner.size
        self.read_only = inner.read_only

    def read(self, offset: int, length: int) -> bytes:
        return self.inner.read(offset, length)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        self.inner.read_into(offset, buffer)

    def read_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        self.inner.read_many(requests)

    def write(self, offset: int, data: Buffer) -> None:
        self.inner.write(offset, data)
        view = memoryview(data).cast("B")
        self.recording.note(self.index, _WRITE, offset, len(view), view)

    def write_many(self, pieces: Iterable[tuple[int, Buffer]]) -> None:
        for offset, data in pieces:
            self.write(offset, data)

    def flush(self) -> None:
        self.inner.flush()
        self.recording.note(self.index, _FLUSH)

    @property
    def discard_zeroes(self) -> bool:
        return self.inner.discard_zeroes

    def discard(self, offset: int, length: int) -> None:
        self.inner.discard(offset, length)
        if self.inner.discard_zeroes:
            self.recording.note(self.index, _ZERO, offset, length)

    def write_zeros(self, offset: int, length: int) -> None:
        self.inner.write_zeros(offset, length)
        self.recording.note(self.index, _ZERO, offset, length)

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        return self.inner.data_ranges(offset, length)

    def resize(self, size: int) -> None:
        """Make the device larger, and that durable, as :meth:`FileDevice.resize` does."""
        assert isinstance(self.inner, FileDevice)
        self.inner.resize(size)
        self.size = self.inner.size
        self.recording.note(self.index, _RESIZE, 0, size)
        self.recording.note(self.index, _FLUSH)

    def close(self) -> None:
        self.inner.close()


class CrashDevice(BlockDevice):
    """A durable image with newer blocks over it: some in the spool, some in memory."""

    def __init__(self, image: BlockDevice, spool: int, name: str) -> None:
        self.image = image
        self.spool = spool
        self.name = name
        self.size = image.size
        self.read_only = False
        self.blocks: dict[int, int | bytearray | None] = {}
        """Block number -> its place in the spool, its bytes, or None for zeros."""

    def apply(self, kind: int, offset: int, length: int, place: int) -> None:
        """Put one recorded write, discard or change of size over the image."""
        if kind == _RESIZE:
            self.size = length
            return
        length = min(length, self.size - offset)
        first, last = -(-offset // BLOCK), (offset + length) // BLOCK
        if kind == _ZERO and last - first > 1:
            self.blocks.update(dict.fromkeys(range(first, last)))
            self.apply(_ZERO, offset, first * BLOCK - offset, 0)
            self.apply(_ZERO, last * BLOCK, offset + length - last * BLOCK, 0)
            return
        at = offset
        while at < offset + length:
            block, within = divmod(at, BLOCK)
            take = min(BLOCK - within, offset + length - at)
            if take == BLOCK:
                self.blocks[block] = None if kind == _ZERO else place + at - offset
            else:
                data = bytes(take) if kind == _ZERO else os.pread(self.spool, take, place + at - offset)
                self._own(block)[within : within + take] = data
            at += take

    def _content(self, block: int) -> bytes | bytearray:
        if block not in self.blocks:
            start = block * BLOCK
            return self.image.read(start, max(min(BLOCK, self.image.size - start), 0)).ljust(BLOCK, b"\0")
        found = self.blocks[block]
        if found is None:
            return bytes(BLOCK)
        return os.pread(self.spool, BLOCK, found).ljust(BLOCK, b"\0") if isinstance(found, int) else found

    def _own(self, block: int) -> bytearray:
        found = self.blocks.get(block)
        if not isinstance(found, bytearray):
            found = bytearray(self._content(block))
            self.blocks[block] = found
        return found

    def read(self, offset: int, length: int) -> bytes:
        self.check_range(offset, length)
        first, last = offset // BLOCK, -(-(offset + length) // BLOCK)
        if offset + length <= self.image.size and self.blocks.keys().isdisjoint(range(first, last)):
            return self.image.read(offset, length)
        whole = b"".join(bytes(self._content(block)) for block in range(first, last))
        return whole[offset - first * BLOCK : offset - first * BLOCK + length]

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        view[:] = self.read(offset, len(view))

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self.check_range(offset, len(view))
        at = 0
        while at < len(view):
            block, within = divmod(offset + at, BLOCK)
            take = min(BLOCK - within, len(view) - at)
            if take == BLOCK:
                self.blocks[block] = bytearray(view[at : at + take])
            else:
                self._own(block)[within : within + take] = view[at : at + take]
            at += take

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """As the base class says: what the image has, and what lies over it."""
        end = self.size if length is None else offset + length
        self.check_range(offset, end - offset)
        below = min(end, self.image.size)
        pieces = list(self.image.data_ranges(offset, below - offset)) if below > offset else []
        for block, content in self.blocks.items():
            start, stop = max(block * BLOCK, offset), min((block + 1) * BLOCK, end)
            if content is not None and start < stop:
                pieces.append((start, stop - start))
        yield from merged(sorted(pieces))

    def flush(self) -> None:
        """Nothing to do: the device lives in memory."""

    @property
    def discard_zeroes(self) -> bool:
        return True

    def discard(self, offset: int, length: int) -> None:
        self.check_range(offset, length)
        self.apply(_ZERO, offset, length, 0)

    def write_zeros(self, offset: int, length: int) -> None:
        self.discard(offset, length)
