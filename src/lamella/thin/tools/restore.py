# SPDX-License-Identifier: Apache-2.0
"""Metadata made from a description: devices and their runs of mappings, in order, as ``thin_restore`` does.

The description is checked as it comes: no device twice, runs ascending and apart, all on the data device.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import BadInputError
from lamella.thin.format.limits import MAX_DEVICE_ID
from lamella.thin.format.mappings import Runs
from lamella.thin.format.node import TIME_BITS
from lamella.thin.tools.header import Header, Overrides, is_data_block_size
from lamella.thin.tools.mapping_tree_builder import LIMIT, LeafList, TreeBuilder
from lamella.thin.tools.metadata_builder import LARGEST_DATA, MetadataBuilder
from lamella.thin.tools.xml import BeginDevice, BeginShared, EndDevice, EndShared, UseShared, read_xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Uint64s
    from lamella.thin.format.details import DeviceDetails
    from lamella.thin.tools.xml import Part

EXPANDED_AT_ONCE = 1 << 18
"""Mappings made of runs together."""
LARGEST_MAPPED = 1 << (64 - TIME_BITS)
"""Data blocks that a mapping can name."""
_HINT = "correct the description; nothing was restored"


@dataclass(slots=True)
class RestoreReport:
    """What :func:`restore` has made."""

    header: Header
    devices: int = 0
    mappings: int = 0
    """Of all devices together, shared ones once for each device."""
    blocks: int = 0
    """Metadata blocks used."""
    corrected: list[tuple[int, int, int]] = field(default_factory=list)
    """(device id, mapped blocks as described, as they are) where these differ; the latter were written."""


def restore(
    parts: Iterable[Part], target: BlockDevice, *, overrides: Overrides | None = None, name: str = "the input"
) -> RestoreReport:
    """Write metadata on *target* as *parts* describe it (see :func:`lamella.thin.tools.xml.read_xml`).

    *overrides* replace parts of the description's header, or enlarge them. The superblock comes last, after
    a flush; what was on *target* is gone. Raises :class:`BadInputError` for an invalid description and
    :class:`lamella.errors.NoSpaceError`, with the size needed, for a target too small; *target* is then
    unchanged, or, if the metadata is larger than 256 MiB, has no superblock any more.
    """
    return _Restore(parts, target, overrides or Overrides(), name).run()


def restore_xml(
    read: Callable[[int], bytes],
    target: BlockDevice,
    *,
    overrides: Overrides | None = None,
    name: str = "the input",
) -> RestoreReport:
    """:func:`restore` of the XML that *read* gives."""
    return restore(read_xml(read, name=name), target, overrides=overrides, name=name)


class _Restore:
    def __init__(self, parts: Iterable[Part], target: BlockDevice, overrides: Overrides, name: str) -> None:
        self.parts = iter(parts)
        self.name = name
        first = next(self.parts, None)
        if not isinstance(first, Header):
            raise BadInputError(f"{name} describes no metadata: it has no superblock", hint=_HINT)
        self.header = first.override(overrides)
        if not is_data_block_size(self.header.data_block_size):
            raise BadInputError(
                f"{name}: invalid data block size: {self.header.data_block_size} sectors",
                hint="--data-block-size gives the right one; nothing was restored",
            )
        if self.header.nr_data_blocks > LARGEST_DATA:
            raise BadInputError(
                f"{name}: no metadata can describe {self.header.nr_data_blocks} data blocks",
                hint="is nr_data_blocks right?",
            )
        self.builder = MetadataBuilder(target, self.header.nr_data_blocks, action=f"restore {name}")
        self.report = RestoreReport(self.header)
        self.details: dict[int, DeviceDetails] = {}
        self.roots: dict[int, int] = {}
        self.shared: dict[str, _Shared] = {}
        self.more_blocks = 0
        """Blocks that would be needed still, once the target is full and mappings are only counted."""

    def run(self) -> RestoreReport:
        for part in self.parts:
            if isinstance(part, BeginDevice):
                self._device(part)
            elif isinstance(part, BeginShared):
                self._shared(part)
            else:
                raise BadInputError(f"{self.name}: mappings outside of a device", hint=_HINT)
        if self.builder.overflowed:
            self.builder.refuse(self.more_blocks)
        # A restored pool needs no check: all of its counts are new.
        header = replace(self.header, flags=0)
        self.report.blocks = self.builder.finish(header, self.details, self.roots)
        self.report.devices = len(self.details)
        return self.report

    def _device(self, begin: BeginDevice) -> None:
        dev_id = begin.dev_id
        if dev_id > MAX_DEVICE_ID:
            raise BadInputError(
                f"{self.name}: device id {dev_id} is more than the largest that the kernel takes, "
                f"{MAX_DEVICE_ID}",
                hint=_HINT,
            )
        if dev_id in self.details:
            raise BadInputError(f"{self.name}: device {dev_id} occurs twice", hint=_HINT)
        tree = TreeBuilder(self.builder)
        total = self._fill(tree, f"device {dev_id}", EndDevice)[0]
        self.roots[dev_id] = tree.root()
        # Of a full target no leaf is known any more; a device has at least one node of its own.
        self.more_blocks += self.builder.overflowed
        self.details[dev_id] = begin.details._replace(mapped_blocks=total)
        self.report.mappings += total
        if begin.details.mapped_blocks != total:
            self.report.corrected.append((dev_id, begin.details.mapped_blocks, total))

    def _shared(self, begin: BeginShared) -> None:
        if begin.name in self.shared:
            raise BadInputError(f"{self.name}: def {begin.name!r} occurs twice", hint=_HINT)
        tree = TreeBuilder(self.builder, sure=False)
        total, first, last = self._fill(tree, f"def {begin.name!r}", EndShared)
        self.shared[begin.name] = _Shared(tree.leaves(), total, first, last)

    def _fill(
        self, tree: TreeBuilder, what: str, end: type[EndDevice] | type[EndShared]
    ) -> tuple[int, int, int]:
        """Put what comes up to *end* into *tree*; returns (mappings, first block, last block)."""
        total, first, last = 0, -1, -1
        for part in self.parts:
            if isinstance(part, end):
                return total, first, last
            if isinstance(part, UseShared):
                other = self.shared.get(part.name)
                if other is None:
                    raise BadInputError(f"{self.name}: {what}: there is no def {part.name!r}", hint=_HINT)
                if not other.total:
                    continue
                self._check_order(what, other.first, last)
                begin, last, count = other.first, other.last, other.total
                if self.builder.overflowed:
                    self.more_blocks += len(other.leaves.blocks) // LIMIT + 1
                else:
                    tree.push(other.leaves)
            elif isinstance(part, Runs):
                if not len(part.begin):
                    continue
                self._check(part, what, last)
                begin = int(part.begin[0])
                last = int(part.begin[-1]) + int(part.length[-1]) - 1
                count = self._expand(part, tree)
            else:
                raise BadInputError(f"{self.name}: {what} is not closed", hint=_HINT)
            first = begin if first < 0 else first
            total += count
        raise BadInputError(f"{self.name}: {what} is not closed", hint=_HINT)

    def _check_order(self, what: str, begin: int, last: int) -> None:
        if begin <= last:
            raise BadInputError(
                f"{self.name}: {what}: block {begin} is mapped after block {last}; "
                "mappings must ascend and not overlap",
                hint=_HINT,
            )

    def _check(self, runs: Runs, what: str, last: int) -> None:
        """Refuse runs that are empty, out of order, overlapping, or outside either device."""
        one = np.uint64(1)
        empty = np.flatnonzero(runs.length == 0)
        if len(empty):
            raise BadInputError(
                f"{self.name}: {what}: the mapping of block {int(runs.begin[empty[0]])} has length 0",
                hint=_HINT,
            )
        limit = min(self.header.nr_data_blocks, LARGEST_MAPPED)
        size = np.uint64(limit)
        outside = np.flatnonzero((runs.data >= size) | (runs.length > size - np.minimum(runs.data, size)))
        if len(outside):
            data, length = int(runs.data[outside[0]]), int(runs.length[outside[0]])
            raise BadInputError(
                f"{self.name}: {what}: mapping beyond end of data device ({data + length - 1} >= {limit})",
                hint=_HINT,
            )
        ends = runs.begin + (runs.length - one)
        wraps = np.flatnonzero(ends < runs.begin)
        if len(wraps):
            raise BadInputError(
                f"{self.name}: {what}: the mapping of block {int(runs.begin[wraps[0]])} goes past 2**64",
                hint=_HINT,
            )
        self._check_order(what, int(runs.begin[0]), last)
        wrong = np.flatnonzero(runs.begin[1:] <= ends[:-1])
        if len(wrong):
            self._check_order(what, int(runs.begin[wrong[0] + 1]), int(ends[wrong[0]]))

    def _expand(self, runs: Runs, tree: TreeBuilder) -> int:
        """Every mapping of *runs* into *tree*, few at a time in memory; returns how many."""
        lengths = runs.length
        limit = np.uint64(EXPANDED_AT_ONCE)
        start = 0
        while start < len(lengths) and not self.builder.overflowed:
            if lengths[start] > limit:
                self._expand_long(Runs(*(column[start : start + 1] for column in runs)), tree)
                start += 1
                continue
            # Each counts at most that much, so that the sum cannot wrap.
            window = np.minimum(lengths[start : start + EXPANDED_AT_ONCE], limit + np.uint64(1))
            stop = start + int(np.searchsorted(np.cumsum(window), limit, side="right"))
            tree.add(*expand(Runs(*(column[start:stop] for column in runs))))
            start = stop
        self._count_only(sum(lengths[start:].tolist()))
        return sum(lengths.tolist())

    def _count_only(self, mappings: int) -> None:
        """The target is full: only add up what these *mappings* would need."""
        self.more_blocks += -(-mappings // LIMIT) + mappings // LIMIT // (LIMIT // 2)

    def _expand_long(self, run: Runs, tree: TreeBuilder) -> None:
        begin, data, length, time = (int(column[0]) for column in run)
        while length:
            if self.builder.overflowed:
                self._count_only(length)
                return
            count = min(length, EXPANDED_AT_ONCE)
            columns = (np.array([number], dtype=np.uint64) for number in (begin, data, count, time))
            tree.add(*expand(Runs(*columns)))
            begin, data, length = begin + count, data + count, length - count


@dataclass(frozen=True, slots=True)
class _Shared:
    leaves: LeafList
    total: int
    first: int
    last: int


def expand(runs: Runs) -> tuple[Uint64s, Uint64s]:
    """The single mappings of *runs*: blocks, and raw values (data block << 24 | time)."""
    lengths = runs.length.astype(np.int64)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    steps = np.arange(total, dtype=np.uint64) - np.repeat((ends - lengths).astype(np.uint64), lengths)
    keys = np.repeat(runs.begin, lengths) + steps
    shift = np.uint64(TIME_BITS)
    values = np.repeat(runs.data << shift | runs.time, lengths) + (steps << shift)
    return keys, values
