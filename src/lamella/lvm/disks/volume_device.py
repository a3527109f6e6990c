# SPDX-License-Identifier: Apache-2.0
"""A logical volume as a block device, mapped to the disks extent by extent."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR, BlockDevice
from lamella.block.part import Part
from lamella.block.ranges import merged
from lamella.errors import CorruptError, ReadOnlyError, UnsupportedError
from lamella.lvm.format.segments import StripedSegment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.segments import Segment

MAX_DEPTH = 8
"""How deep volumes may be stacked."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of the volume that is mapped in one way. All in bytes."""

    start: int
    length: int
    stripe_size: int
    areas: tuple[tuple[BlockDevice, int], ...]
    """(disk, where on it the area begins)."""


def open_lv(found: FoundGroup, name: str, *, read_only: bool = False) -> BlockDevice:
    """The linear or striped logical volume *name*, over the disks of its group.

    Closing it leaves the disks open. Writing locks the disks against other programs. Raises
    :class:`NotFoundError`, :class:`CorruptError` if a disk is missing, and
    :class:`UnsupportedError` for other types (a thin pool's ``_tdata`` and ``_tmeta`` are linear).
    """
    lv = found.group.find_lv(name)
    pieces = _pieces(found, lv, read_only, 0)
    label = f"{found.group.name}/{name}"
    if len(pieces) == 1 and len(pieces[0].areas) == 1:
        device, start = pieces[0].areas[0]
        part = Part(device, start, pieces[0].length, name=label)
        part.read_only = part.read_only or read_only
        return part
    return VolumeDevice(label, pieces, read_only)


def _pieces(found: FoundGroup, lv: LogicalVolume, read_only: bool, depth: int) -> list[_Piece]:
    if depth > MAX_DEPTH:
        raise CorruptError(f"logical volume {found.group.name}/{lv.name} is built on too many others")
    extent = found.group.extent_size
    pieces = []
    for segment in lv.segments:
        if not isinstance(segment, StripedSegment):
            raise UnsupportedError(
                f"logical volume {found.group.name}/{lv.name} is of type {segment.type}, which can only be "
                "opened by the kernel",
                hint="linear and striped volumes can be opened here",
            )
        pieces.append(
            _Piece(
                segment.start_extent * extent,
                segment.extent_count * extent,
                segment.stripe_size * SECTOR,
                _areas(found, lv, segment, read_only, depth),
            )
        )
    return pieces


def _areas(
    found: FoundGroup, lv: LogicalVolume, segment: Segment, read_only: bool, depth: int
) -> tuple[tuple[BlockDevice, int], ...]:
    extent = found.group.extent_size
    areas: list[tuple[BlockDevice, int]] = []
    for area in segment.areas():
        if area.pv is None:
            below = found.group.lvs[area.lv]
            device: BlockDevice = VolumeDevice(
                f"{found.group.name}/{area.lv}", _pieces(found, below, read_only, depth + 1), read_only
            )
            areas.append((device, area.extent * extent))
            continue
        disk = found.disks.get(area.pv.uuid)
        if disk is None:
            raise CorruptError(
                f"logical volume {found.group.name}/{lv.name} lies on a missing disk "
                f"(PV {area.pv.uuid}, last seen as {area.pv.device})",
                hint="attach the disk, or name it with --devices",
            )
        start = area.pv.pe_start * SECTOR + area.extent * extent
        length = segment.area_extents * extent
        if start + length > disk.size:
            raise CorruptError(
                f"logical volume {found.group.name}/{lv.name} reaches past the end of {disk.path}",
                hint="the disk has become smaller; restore it or its size",
            )
        areas.append((disk.reader if read_only else disk.writer, start))
    return tuple(areas)


class VolumeDevice(BlockDevice):
    """Linear and striped pieces, one after another. Made by :func:`open_lv`."""

    def __init__(self, name: str, pieces: list[_Piece], read_only: bool) -> None:
        self.name = name
        self.read_only = read_only
        self.size = pieces[-1].start + pieces[-1].length if pieces else 0
        self._pieces = pieces
        self._starts = [piece.start for piece in pieces]
        devices: list[BlockDevice] = []
        for piece in pieces:
            devices += [device for device, _start in piece.areas if device not in devices]
        self._devices = devices

    def _split(self, offset: int, length: int) -> Iterator[tuple[BlockDevice, int, int, int]]:
        """(disk, offset on it, position in the request, length) for every unbroken run of a request."""
        position = 0
        while length:
            piece = self._pieces[bisect_right(self._starts, offset) - 1]
            inside = offset - piece.start
            take = min(length, piece.length - inside)
            if len(piece.areas) == 1:
                device, start = piece.areas[0]
                yield device, start + inside, position, take
            else:
                chunk, within = divmod(inside, piece.stripe_size)
                take = min(take, piece.stripe_size - within)
                row, column = divmod(chunk, len(piece.areas))
                device, start = piece.areas[column]
                yield device, start + row * piece.stripe_size + within, position, take
            offset += take
            position += take
            length -= take

    def _by_device(
        self, requests: Iterable[tuple[int, Buffer]]
    ) -> dict[BlockDevice, list[tuple[int, memoryview]]]:
        """Every request's runs, by disk."""
        by_device: dict[BlockDevice, list[tuple[int, memoryview]]] = {}
        for offset, buffer in requests:
            view = memoryview(buffer).cast("B")
            self.check_range(offset, len(view))
            for device, place, position, take in self._split(offset, len(view)):
                by_device.setdefault(device, []).append((place, view[position : position + take]))
        return by_device

    def read_into(self, offset: int, buffer: Buffer) -> None:
        self.read_many([(offset, buffer)])

    def read_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        for device, runs in self._by_device(requests).items():
            device.read_many(runs)

    def write(self, offset: int, data: Buffer) -> None:
        self.write_many([(offset, data)])

    def write_many(self, pieces: Iterable[tuple[int, Buffer]]) -> None:
        self._check_writable()
        for device, runs in self._by_device(pieces).items():
            device.write_many(runs)

    def flush(self) -> None:
        for device in self._devices:
            device.flush()

    @property
    def discard_zeroes(self) -> bool:
        return all(device.discard_zeroes for device in self._devices)

    def discard(self, offset: int, length: int) -> None:
        self._check_writable()
        self.check_range(offset, length)
        for device, place, take in self._runs(offset, length):
            device.discard(place, take)

    def write_zeros(self, offset: int, length: int) -> None:
        self._check_writable()
        self.check_range(offset, length)
        for device, place, take in self._runs(offset, length):
            device.write_zeros(place, take)

    def _runs(self, offset: int, length: int) -> Iterator[tuple[BlockDevice, int, int]]:
        """The runs of a range, adjacent ones on a disk joined: one call for each."""
        joined: dict[BlockDevice, list[tuple[int, int]]] = {}
        for device, place, _position, take in self._split(offset, length):
            runs = joined.setdefault(device, [])
            if runs and sum(runs[-1]) == place:
                runs[-1] = (runs[-1][0], runs[-1][1] + take)
            else:
                runs.append((place, take))
        for device, runs in joined.items():
            for place, take in runs:
                yield device, place, take

    def data_ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """As the base class says. Striped pieces count as data throughout."""
        asked = self.size - offset if length is None else length
        self.check_range(offset, asked)
        yield from merged(self._data_pieces(offset, offset + asked))

    def _data_pieces(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        for piece in self._pieces:
            low, high = max(offset, piece.start), min(end, piece.start + piece.length)
            if low >= high:
                continue
            if len(piece.areas) == 1:
                device, start = piece.areas[0]
                shift = piece.start - start
                for at, count in device.data_ranges(low - shift, high - low):
                    yield at + shift, count
            else:
                yield low, high - low

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError(f"{self.name} is open for reading only", hint="open it for writing")
