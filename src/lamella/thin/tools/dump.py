# SPDX-License-Identifier: Apache-2.0
"""Metadata as text: the XML that ``thin_restore`` reads, or lines for people.

Byte for byte what ``thin_dump`` 0.9 writes: every device with all of its mappings. (The 1.x series writes
sub-trees that devices share once, as ``def`` and ``ref``; both forms restore to the same metadata.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lamella.thin.format.mappings import merge
from lamella.thin.format.text_columns import Field, Layout, render

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lamella.thin.format.arrays import Uint64s
    from lamella.thin.format.details import DeviceDetails
    from lamella.thin.format.mappings import Runs
    from lamella.thin.metadata.reader import Metadata

MAPPINGS_AT_ONCE = 1 << 18
"""Mappings turned into text together."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values to write instead of the superblock's; None leaves them."""

    transaction_id: int | None = None
    data_block_size: int | None = None
    nr_data_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What a dump says of the pool as a whole."""

    time: int
    transaction_id: int
    flags: int
    version: int
    data_block_size: int
    nr_data_blocks: int


class Format(Protocol):
    """How each part of a dump is written."""

    def begin(self, header: Header) -> str: ...
    def end(self) -> str: ...
    def begin_device(self, dev_id: int, details: DeviceDetails) -> str: ...
    def end_device(self) -> str: ...
    def runs(self, runs: Runs) -> bytes: ...


class Xml:
    """thin-provisioning-tools' XML."""

    _LINES = Layout(
        (
            Field(('    <single_mapping origin_block="', '    <range_mapping origin_begin="')),
            Field(('" data_block="', '" data_begin="')),
            Field(("", '" length="'), blank_zero=True),
            Field(('" time="', '" time="')),
        ),
        ('"/>\n', '"/>\n'),
    )

    def begin(self, header: Header) -> str:
        return (
            f'<superblock uuid="" time="{header.time}" transaction="{header.transaction_id}" '
            f'flags="{header.flags}" version="{header.version}" '
            f'data_block_size="{header.data_block_size}" nr_data_blocks="{header.nr_data_blocks}">\n'
        )

    def end(self) -> str:
        return "</superblock>\n"

    def begin_device(self, dev_id: int, details: DeviceDetails) -> str:
        return (
            f'  <device dev_id="{dev_id}" mapped_blocks="{details.mapped_blocks}" '
            f'transaction="{details.transaction_id}" creation_time="{details.creation_time}" '
            f'snap_time="{details.snapshotted_time}">\n'
        )

    def end_device(self) -> str:
        return "  </device>\n"

    def runs(self, runs: Runs) -> bytes:
        several = runs.length > 1
        lengths = np.where(several, runs.length, 0)
        return render(self._LINES, several.astype(np.intp), (runs.begin, runs.data, lengths, runs.time))


class HumanReadable:
    """thin_dump's form for people."""

    _LINES = Layout(
        (
            Field(("    ", "    (")),
            Field(("", ".."), blank_zero=True),
            Field((" -> ", ") -> (")),
            Field(("", ".."), blank_zero=True),
            Field((", ", "), ")),
        ),
        ("\n", "\n"),
    )

    def begin(self, header: Header) -> str:
        return (
            f'begin superblock: "", {header.time}, {header.transaction_id}, {header.flags}, '
            f"{header.version}, {header.data_block_size}, {header.nr_data_blocks}\n"
        )

    def end(self) -> str:
        return "end superblock\n"

    def begin_device(self, dev_id: int, details: DeviceDetails) -> str:
        return (
            f"device: {dev_id}\nmapped_blocks: {details.mapped_blocks}\n"
            f"transaction: {details.transaction_id}\ncreation time: {details.creation_time}\n"
            f"snap time: {details.snapshotted_time}\n"
        )

    def end_device(self) -> str:
        return "\n"

    def runs(self, runs: Runs) -> bytes:
        several = runs.length > 1
        more = runs.length - 1
        last = np.where(several, runs.begin + more, 0)
        data_last = np.where(several, runs.data + more, 0)
        columns = (runs.begin, last, runs.data, data_last, runs.time)
        return render(self._LINES, several.astype(np.intp), columns)


FORMATS: dict[str, Callable[[], Format]] = {"xml": Xml, "human_readable": HumanReadable}


def header_of(metadata: Metadata, overrides: Overrides) -> Header:
    """The header for *metadata*. A held snapshot knows no number of data blocks; it says 0."""
    fields = metadata.superblock

    def choose(value: int | None, default: int) -> int:
        return default if value is None else value

    return Header(
        fields.time,
        choose(overrides.transaction_id, fields.transaction_id),
        fields.flags,
        fields.version,
        choose(overrides.data_block_size, fields.data_block_size),
        choose(overrides.nr_data_blocks, fields.data_sm_root.nr_blocks),
    )


def dump(
    metadata: Metadata,
    write: Callable[[bytes], object],
    *,
    format: str = "xml",
    skip_mappings: bool = False,
    dev_ids: Collection[int] | None = None,
    overrides: Overrides | None = None,
) -> None:
    """Give the text of *metadata* to *write* in pieces.

    *dev_ids* limits it to these devices (unknown ones are passed over), *skip_mappings* to the
    devices' own lines. All that is dumped is read and checked before the first piece is written;
    raises :class:`lamella.errors.CorruptError` for damage.
    """
    form = FORMATS[format]()
    chosen = sorted(set(metadata.details) if dev_ids is None else set(metadata.details) & set(dev_ids))
    if not skip_mappings:
        metadata.load(chosen)
    write(form.begin(header_of(metadata, overrides or Overrides())).encode())
    if skip_mappings:
        for dev_id in chosen:
            write(f"{form.begin_device(dev_id, metadata.details[dev_id])}{form.end_device()}".encode())
    else:
        _write_devices(metadata, form, write, chosen)
    write(form.end().encode())


def _write_devices(
    metadata: Metadata, form: Format, write: Callable[[bytes], object], dev_ids: list[int]
) -> None:
    """Devices with their mappings: large ones piece by piece, small ones many at a time."""
    totals = metadata.count_mappings(dev_ids)
    ends = np.cumsum(totals)
    start = 0
    while start < len(dev_ids):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + MAPPINGS_AT_ONCE, side="right")), start + 1)
        group = dev_ids[start:stop]
        if len(group) == 1:
            write(form.begin_device(group[0], metadata.details[group[0]]).encode())
            write_mappings(form, write, *metadata.mappings_of(group)[1:])
            write(form.end_device().encode())
        else:
            _write_small_devices(metadata, form, write, group)
        start = stop


def _write_small_devices(
    metadata: Metadata, form: Format, write: Callable[[bytes], object], dev_ids: list[int]
) -> None:
    counts, keys, values = metadata.mappings_of(dev_ids)
    ends = np.cumsum(counts)
    runs = merge(keys, values, ends - counts)
    text = form.runs(runs)
    # Each run is a line: find where each device's lines end.
    lines = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")) + 1
    places = np.concatenate((np.zeros(1, dtype=np.int64), lines))
    runs_before = np.searchsorted(np.cumsum(runs.length.astype(np.int64)), ends, side="right")
    offsets = places[runs_before].tolist()
    begin, footer = 0, form.end_device().encode()
    pieces: list[bytes] = []
    for dev_id, end in zip(dev_ids, offsets, strict=True):
        pieces += (form.begin_device(dev_id, metadata.details[dev_id]).encode(), text[begin:end], footer)
        begin = end
    write(b"".join(pieces))


def write_mappings(form: Format, write: Callable[[bytes], object], keys: Uint64s, values: Uint64s) -> None:
    """Give the lines for mappings (ascending *keys*, raw *values*) to *write*, runs joined."""
    start = 0
    while start < len(keys):
        end = min(start + MAPPINGS_AT_ONCE, len(keys))
        runs = merge(keys[start:end], values[start:end])
        while end < len(keys) and len(runs.length) == 1:
            # One run fills the piece: take more, until its end is in sight.
            end = min(2 * end - start, len(keys))
            runs = merge(keys[start:end], values[start:end])
        if end < len(keys):
            # The last run may go on in the next piece: leave it to that one.
            end -= int(runs.length[-1])
            runs = type(runs)(*(column[:-1] for column in runs))
        write(form.runs(runs))
        start = end
