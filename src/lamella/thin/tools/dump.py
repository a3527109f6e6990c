# SPDX-License-Identifier: Apache-2.0
"""Metadata as text: the XML that ``thin_restore`` reads, or lines for people.

Byte for byte what ``thin_dump`` of the 1.x series writes: leaves that devices share are written once, as
``def``, and referred to as ``ref``, so that the text grows with the metadata and not with the snapshots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from lamella.thin.format.mappings import data_blocks, merge
from lamella.thin.format.text_columns import Field, Layout, render
from lamella.thin.tools.header import Header, Overrides, header_of
from lamella.thin.tools.shared_runs import SharedRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from lamella.thin.format.arrays import Int64s, Uint64s
    from lamella.thin.format.details import DeviceDetails
    from lamella.thin.format.mappings import Runs
    from lamella.thin.metadata.btree import Forest
    from lamella.thin.metadata.reader import Metadata

    Part = bytes | Int64s
    """Some text, or leaves whose mappings come here."""

MAPPINGS_AT_ONCE = 1 << 18
"""Mappings turned into text together."""
LEAVES_AT_ONCE = 4096


class Format(Protocol):
    """How each part of a dump is written."""

    def begin(self, header: Header) -> str: ...
    def end(self) -> str: ...
    def begin_device(self, dev_id: int, details: DeviceDetails) -> str: ...
    def end_device(self) -> str: ...
    def begin_shared(self, name: int) -> str: ...
    def end_shared(self) -> str: ...
    def refer(self, name: int) -> str: ...
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
        flags = f'flags="{header.flags}" ' if header.flags else ""
        return (
            f'<superblock uuid="" time="{header.time}" transaction="{header.transaction_id}" '
            f'{flags}version="{header.version}" '
            f'data_block_size="{header.data_block_size}" nr_data_blocks="{header.nr_data_blocks}">\n'
        )

    def end(self) -> str:
        return "</superblock>"

    def begin_device(self, dev_id: int, details: DeviceDetails) -> str:
        return (
            f'  <device dev_id="{dev_id}" mapped_blocks="{details.mapped_blocks}" '
            f'transaction="{details.transaction_id}" creation_time="{details.creation_time}" '
            f'snap_time="{details.snapshotted_time}">\n'
        )

    def end_device(self) -> str:
        return "  </device>\n"

    def begin_shared(self, name: int) -> str:
        return f'  <def name="{name}">\n'

    def end_shared(self) -> str:
        return "  </def>\n"

    def refer(self, name: int) -> str:
        return f'    <ref name="{name}"/>\n'

    def runs(self, runs: Runs) -> bytes:
        several = runs.length > 1
        lengths = np.where(several, runs.length, 0)
        return render(self._LINES, several.astype(np.intp), (runs.begin, runs.data, lengths, runs.time))


class HumanReadable:
    """thin_dump's form for people."""

    _LINES = Layout(
        (Field(("    (",)), Field(("..",)), Field((") -> (",)), Field(("..",)), Field(("), ",))), ("\n",)
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

    def begin_shared(self, name: int) -> str:
        return f"def: {name}\n"

    def end_shared(self) -> str:
        return "\n"

    def refer(self, name: int) -> str:
        return f"    ref: {name}\n"

    def runs(self, runs: Runs) -> bytes:
        more = runs.length - 1
        columns = (runs.begin, runs.begin + more, runs.data, runs.data + more, runs.time)
        return render(self._LINES, np.zeros(len(more), dtype=np.intp), columns)


FORMATS: dict[str, Callable[[], Format]] = {"xml": Xml, "human_readable": HumanReadable}


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

    *dev_ids* limits it to these devices (unknown ones are passed over), *skip_mappings* to the devices' own
    lines. All that is dumped is read and checked before the first piece is written; raises
    :class:`lamella.errors.CorruptError` for damage. Of metadata that are read despite damage, devices have as
    many mapped blocks as are dumped, and mappings outside of the data device are left out.
    """
    form = FORMATS[format]()
    header = header_of(metadata, overrides or Overrides())
    chosen = sorted(set(metadata.details) if dev_ids is None else set(metadata.details) & set(dev_ids))
    details = metadata.details
    if not skip_mappings or metadata.tolerant:
        metadata.load(chosen)
    limit = header.nr_data_blocks if metadata.tolerant else None
    if metadata.tolerant:
        counts = _count(metadata, chosen, header.nr_data_blocks)
        details = {
            dev_id: details[dev_id]._replace(mapped_blocks=count)
            for dev_id, count in zip(chosen, counts, strict=True)
        }
    write(form.begin(header).encode())
    if skip_mappings:
        for dev_id in chosen:
            write(f"{form.begin_device(dev_id, details[dev_id])}{form.end_device()}".encode())
    elif chosen:
        forest, nodes = metadata.trees(chosen)
        devices = [(dev_id, details[dev_id]) for dev_id in chosen]
        _Writer(forest, form, write, limit).write(_parts(forest, nodes, form, devices))
    write(form.end().encode())


def _count(metadata: Metadata, dev_ids: list[int], nr_data_blocks: int) -> list[int]:
    """Mappings of each device that lie on the data device; what lies outside becomes a problem."""
    forest, nodes = metadata.trees(dev_ids)
    distinct, which = np.unique(nodes, return_inverse=True)
    leaves, owners = forest.leaves_of(distinct)
    counts = forest.counts.copy()
    outside = 0
    each = np.unique(leaves)
    for start in range(0, len(each), LEAVES_AT_ONCE):
        part = each[start : start + LEAVES_AT_ONCE]
        wild = data_blocks(forest.gather(part)[1]) >= np.uint64(nr_data_blocks)
        if wild.any():
            owner = np.repeat(np.arange(len(part)), forest.counts[part])
            counts[part] -= np.bincount(owner[wild], minlength=len(part))
            outside += int(np.count_nonzero(wild))
    if outside:
        metadata.problems.add(
            "mapping tree", f"{outside} mappings lead past the data device's {nr_data_blocks} blocks"
        )
    totals = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(totals, owners, counts[leaves])
    found: list[int] = totals[which].tolist()
    return found


def _parts(
    forest: Forest, nodes: Int64s, form: Format, devices: list[tuple[int, DeviceDetails]]
) -> Iterator[Part]:
    """All of the dump between its first and its last line, in order; *nodes* are the roots of *devices*."""
    distinct, which = np.unique(nodes, return_inverse=True)
    leaves, owners = forest.leaves_of(distinct)
    times = np.bincount(which, minlength=len(distinct))
    runs = SharedRuns(leaves, owners, len(forest.blocks), times)
    heads = runs.shared()
    heads = heads[np.argsort(forest.blocks[heads])]
    names = forest.blocks
    for head, leaves in zip(heads.tolist(), runs.runs(heads), strict=True):
        yield form.begin_shared(int(names[head])).encode()
        yield leaves
        yield form.end_shared().encode()
    trees = list(runs.devices(len(distinct)))
    for (dev_id, details), place in zip(devices, which.tolist(), strict=True):
        yield form.begin_device(dev_id, details).encode()
        for piece in trees[place]:
            yield form.refer(int(names[piece])).encode() if isinstance(piece, int) else piece
        yield form.end_device().encode()


class _Writer:
    """Writes parts in order: long stretches of leaves piece by piece, the mappings of short ones together."""

    def __init__(
        self, forest: Forest, form: Format, write: Callable[[bytes], object], limit: int | None
    ) -> None:
        self.forest = forest
        self.form = form
        self._write = write
        self.limit = limit
        """Data blocks from here on are left out; None: there are none."""
        self.waiting: list[Part] = []
        self.mappings = 0

    def write(self, parts: Iterator[Part]) -> None:
        for part in parts:
            count = 0 if isinstance(part, bytes) else int(self.forest.counts[part].sum())
            if self.mappings + count > MAPPINGS_AT_ONCE:
                self._flush()
            if not isinstance(part, bytes) and count > MAPPINGS_AT_ONCE:
                write_mappings(self.form, self._write, *self._entries(part)[1:])
                continue
            self.waiting.append(part)
            self.mappings += count
            if len(self.waiting) > MAPPINGS_AT_ONCE:
                self._flush()
        self._flush()

    def _entries(self, leaves: Int64s) -> tuple[Int64s, Uint64s, Uint64s]:
        """(mappings of each leaf, keys, values), those outside left out."""
        keys, values = self.forest.gather(leaves)
        counts = self.forest.counts[leaves]
        if self.limit is not None:
            inside = data_blocks(values) < np.uint64(self.limit)
            if not inside.all():
                owner = np.repeat(np.arange(len(leaves)), counts)
                counts = np.bincount(owner[inside], minlength=len(leaves))
                keys, values = keys[inside], values[inside]
        return counts, keys, values

    def _flush(self) -> None:
        stretches = [part for part in self.waiting if not isinstance(part, bytes)]
        text = b""
        offsets: Iterator[int] = iter(())
        if stretches:
            counts, keys, values = self._entries(np.concatenate(stretches))
            lengths = np.array([len(part) for part in stretches], dtype=np.int64)
            ends = np.cumsum(counts)[np.cumsum(lengths) - 1]
            starts = np.concatenate((np.zeros(1, dtype=np.int64), ends[:-1]))
            runs = merge(keys, values, starts[starts < len(keys)])
            text = self.form.runs(runs) if len(keys) else b""
            # Each run is a line: find where each stretch's lines end.
            lines = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")) + 1
            places = np.concatenate((np.zeros(1, dtype=np.int64), lines))
            runs_before = np.searchsorted(np.cumsum(runs.length.astype(np.int64)), ends, side="right")
            offsets = iter(places[runs_before].tolist())
        pieces: list[bytes] = []
        begin = 0
        for part in self.waiting:
            if isinstance(part, bytes):
                pieces.append(part)
            else:
                end = next(offsets)
                pieces.append(text[begin:end])
                begin = end
        if pieces:
            self._write(b"".join(pieces))
        self.waiting, self.mappings = [], 0


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
