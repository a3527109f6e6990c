# SPDX-License-Identifier: Apache-2.0
"""The check of a whole pool's metadata: everything that ``thin_check`` examines, and the data's reference
counts as well.

What is examined: the superblock's checksum, place, magic and feature flags; checksum, place, shape, key
order and fill of every node of every tree, those of a held snapshot among them; that all mappings lie on
the data device; that each device has details, a tree, and as many mappings as its details say; and the
count of every data block and every metadata block against the references found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lamella.block import SECTOR
from lamella.thin.format import superblock as superblock_format
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.limits import MAX_DEVICE_ID
from lamella.thin.format.mappings import data_blocks
from lamella.thin.format.node import BLOCK_VALUE, DEVICE_DETAILS, MAPPING
from lamella.thin.metadata.block_reader import BlockReader
from lamella.thin.metadata.btree import NO_NODE, Forest, Leaves
from lamella.thin.metadata.findings import Problem, Problems
from lamella.thin.metadata.leaks import Leaks
from lamella.thin.metadata.reference_counts import CountedTooHigh, DataReferences, MetadataReferences, compare
from lamella.thin.metadata.space_map import SpaceMapReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Int64s, Uint64s
    from lamella.thin.format.superblock import Superblock


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What to check, and against what; the default is everything there is."""

    superblock_only: bool = False
    skip_mappings: bool = False
    """Leave out the mappings and, with them, all reference counts."""
    snapshot: bool = False
    """Check the trees of the held metadata snapshot only, as one must while the pool is live."""
    mapping_root: int | None = None
    """Take this block for the mapping tree's root; without reference counts, which would not fit."""
    details_root: int | None = None
    transaction_id: int | None = None
    """The transaction id that the superblock ought to have."""
    data_blocks: int | None = None
    """Blocks of the true data device, when known."""


@dataclass(slots=True)
class CheckReport:
    """The outcome of :func:`check`."""

    name: str
    superblock: Superblock | None = None
    """None if it could not be read."""
    devices: dict[int, DeviceDetails] = field(default_factory=dict)
    mappings: int = 0
    """Entries in all mapping leaves, each leaf counted once however often shared."""
    nodes: int = 0
    """B-tree nodes visited."""
    complete: bool = False
    """Whether everything was examined, reference counts among it."""
    metadata_leaks: int = 0
    """Metadata blocks counted more often than referred to: lost space, no danger."""
    data_leaks: int = 0
    leaks: Leaks | None = None
    """What these come to; None where the counts were not compared."""
    space_map_faults: int = 0
    """Problems of the space maps that are not fatal, leaks among them."""
    found: Problems = field(default_factory=Problems)
    metadata_references: MetadataReferences | None = None
    """The references found, of a complete check: what the space maps ought to say."""
    tree_references: MetadataReferences | None = None
    """The same without what the space maps themselves are made of."""
    data_references: DataReferences | None = None

    @property
    def problems(self) -> list[Problem]:
        """What is wrong, in the order found (only the first thousand)."""
        return self.found.found

    @property
    def fatal(self) -> bool:
        """Whether anything is wrong that endangers data."""
        return self.found.fatal_count > 0

    @property
    def ok(self) -> bool:
        return self.found.fatal_count + self.found.other_count == 0

    @property
    def only_space_maps(self) -> bool:
        """Whether all that is wrong are harmless faults of the space maps, which new ones do away with."""
        return self.complete and not self.fatal and 0 < self.space_map_faults == self.found.other_count

    @property
    def free_metadata_blocks(self) -> int:
        """Metadata blocks that the superblock's space map root leaves free."""
        if self.superblock is None:
            return 0
        root = self.superblock.metadata_sm_root
        return max(root.nr_blocks - root.nr_allocated, 0)


def check(
    device: BlockDevice,
    options: CheckOptions | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    started: Callable[[CheckReport], None] | None = None,
) -> CheckReport:
    """Check the metadata on *device*; nothing is written and no damage raises.

    *started* is called once the superblock has been read, that of the snapshot too if it is what is checked;
    *progress* is called with the name of each part before it is examined.
    """
    run = _Check(device, options or CheckOptions(), progress or (lambda part: None))
    if run.read_superblock():
        if started:
            started(run.report)
        run.examine()
    return run.report


class _Check:
    def __init__(self, device: BlockDevice, options: CheckOptions, progress: Callable[[str], None]) -> None:
        self.reader = BlockReader(device)
        self.options = options
        self.progress = progress
        self.report = CheckReport(device.name)
        self.problems = self.report.found
        self.references = MetadataReferences(self.reader.nr_blocks)
        self.data = DataReferences()
        self.held: Superblock | None = None
        """The superblock of the metadata snapshot."""

    # -- the superblock --------------------------------------------------------------------------

    def read_superblock(self) -> bool:
        """Whether there is a superblock to go on with."""
        if not self.reader.nr_blocks:
            self.problems.add("superblock", "the device is too small to hold one")
            return False
        fields = self._superblock_in(0, "superblock")
        if fields is None:
            return False
        self.report.superblock = fields
        options = self.options
        if options.transaction_id is not None and fields.transaction_id != options.transaction_id:
            self.problems.add(
                "superblock", f"transaction id is {fields.transaction_id}, expected {options.transaction_id}"
            )
        claimed = fields.metadata_sm_root.nr_blocks
        if claimed > self.reader.nr_blocks and not options.superblock_only:
            self.problems.add(
                "superblock",
                f"the metadata has {claimed} blocks, but the device only {self.reader.nr_blocks}",
            )
        wanted = fields.data_sm_root.nr_blocks
        if options.data_blocks is not None and wanted > options.data_blocks:
            self.problems.add(
                "superblock",
                f"the pool has {wanted} data blocks, but the data device only {options.data_blocks}",
            )
        if not options.superblock_only:
            self.held = self._held(fields)
        if options.snapshot and self.held is None:
            if not fields.held_root:
                self.problems.add("superblock", "no current metadata snap")
            return False
        return True

    def _superblock_in(self, block: int, place: str) -> Superblock | None:
        content = self.reader.read_one(block)
        faults = superblock_format.faults(content, location=block)
        fields = superblock_format.decode(content)
        unknown = superblock_format.unknown_features(fields, read_only=False)
        if unknown and not faults:
            faults = [unknown]
        for reason in faults:
            self.problems.add(place, reason, block=block)
        return None if faults else fields

    # -- the rest --------------------------------------------------------------------------------

    def examine(self) -> None:
        options, main = self.options, self.report.superblock
        assert main is not None
        if options.superblock_only:
            return
        held = self.held
        if options.snapshot:
            assert held is not None
            states = [held]
        else:
            states = [main] if held is None else [main, held]
        first = states[0]
        mapping_root = first.mapping_root if options.mapping_root is None else options.mapping_root
        details_root = first.details_root if options.details_root is None else options.details_root
        mapping_roots = [mapping_root, *(state.mapping_root for state in states[1:])]
        details_roots = [details_root, *(state.details_root for state in states[1:])]

        self.progress("device details tree")
        details = self._details(details_roots)
        self.report.devices = details[0]
        if not options.skip_mappings:
            self.progress("mapping tree")
        roots = self._top_level(mapping_roots)
        for found, wanted in zip(roots, details, strict=True):
            self._pair(found, wanted)
        if options.skip_mappings:
            return
        self._mappings(roots, details, main.data_sm_root.nr_blocks)
        overridden = (mapping_root, details_root) != (first.mapping_root, first.details_root)
        if options.snapshot or overridden or self.problems.fatal_count:
            # References that could not be found must not be taken for leaks.
            return
        self._space_maps(main)

    def _held(self, main: Superblock) -> Superblock | None:
        block = main.held_root
        if not block:
            return None
        if block >= self.reader.nr_blocks:
            self.problems.add("superblock", f"its metadata snapshot is in block {block}, outside the device")
            return None
        self.references.add_one(block)
        return self._superblock_in(block, f"metadata snapshot, block {block}")

    def _walk(self, forest: Forest, roots: list[int]) -> Int64s:
        pointers = np.array(roots, dtype=np.uint64)
        forest.walk(pointers)
        self.report.nodes += len(forest.blocks)
        self.references.add(pointers)
        self.references.add(forest.edge_child)
        return forest.node_of(pointers)

    def _details(self, roots: list[int]) -> list[dict[int, DeviceDetails]]:
        forest = Forest(self.reader, DEVICE_DETAILS, self.problems, "device details tree", keep=True)
        tables = []
        for node in self._walk(forest, roots).tolist():
            keys, values = forest.entries_of(node)
            pairs = zip(keys.tolist(), values.tolist(), strict=True)
            tables.append({key: DeviceDetails(*value) for key, value in pairs})
        return tables

    def _top_level(self, roots: list[int]) -> list[dict[int, int]]:
        pointers: list[Uint64s] = []

        def note(leaves: Leaves) -> None:
            pointers.append(leaves.values)

        place = "top level of the mapping tree"
        forest = Forest(self.reader, BLOCK_VALUE, self.problems, place, keep=True, on_leaves=note)
        tables = []
        for node in self._walk(forest, roots).tolist():
            keys, values = forest.entries_of(node)
            tables.append(dict(zip(keys.tolist(), values.tolist(), strict=True)))
        for values in pointers:
            self.references.add(values)
        return tables

    def _pair(self, roots: dict[int, int], details: dict[int, DeviceDetails]) -> None:
        """Each device must have both details and a mapping tree."""
        if self.problems.fatal_count:
            return
        for dev_id in sorted(dev_id for dev_id in details if dev_id > MAX_DEVICE_ID):
            self.problems.add(f"thin device {dev_id}", f"its id is more than {MAX_DEVICE_ID}, the largest")
        for dev_id in sorted(set(details) - set(roots)):
            self.problems.add(f"thin device {dev_id}", "it has details, but no mapping tree")
        for dev_id in sorted(set(roots) - set(details)):
            self.problems.add(f"thin device {dev_id}", "it has a mapping tree, but no details")

    def _mappings(
        self, tables: list[dict[int, int]], details: list[dict[int, DeviceDetails]], nr_data_blocks: int
    ) -> None:
        def note(leaves: Leaves) -> None:
            self.report.mappings += len(leaves.values)
            data = data_blocks(leaves.values)
            if len(data) and int(data.max()) >= nr_data_blocks:
                outside = np.repeat(leaves.blocks, leaves.counts)[data >= nr_data_blocks]
                self.problems.add_blocks(
                    "mapping tree",
                    np.unique(outside),
                    f"it maps to data outside the data device of {nr_data_blocks} blocks",
                )
            self.data.add(data, nr_data_blocks)

        forest = Forest(self.reader, MAPPING, self.problems, "mapping tree", on_leaves=note)
        all_roots = [root for table in tables for root in table.values()]
        pointers = np.array(all_roots, dtype=np.uint64)
        forest.walk(pointers)
        self.report.nodes += len(forest.blocks)
        self.references.add(forest.edge_child)
        for which, (table, wanted) in enumerate(zip(tables, details, strict=True)):
            what = "thin device" if which == 0 else "metadata snapshot, thin device"
            nodes = forest.node_of(np.array(list(table.values()), dtype=np.uint64))
            totals = np.where(nodes == NO_NODE, 0, forest.total[nodes] if len(forest.total) else 0)
            whole = (nodes != NO_NODE) & (forest.whole[nodes] if len(forest.whole) else False)
            for dev_id, total, sound in zip(table, totals.tolist(), whole.tolist(), strict=True):
                expected = wanted[dev_id].mapped_blocks if dev_id in wanted else total
                if not sound:
                    self.problems.add(
                        f"{what} {dev_id}", f"its mappings are damaged: {total} of {expected} found"
                    )
                elif total != expected:
                    self.problems.add(
                        f"{what} {dev_id}", f"it has {total} mappings, but its details say {expected}"
                    )

    def _space_maps(self, main: Superblock) -> None:
        report, before = self.report, self.problems.other_count
        self.progress("data space map")
        data_map = SpaceMapReader(self.reader, main.data_sm_root, self.problems, metadata=False)
        data = CountedTooHigh(0, 0)
        if data_map.sound:
            data = compare(data_map, self.data, "data")
            report.data_leaks = data.blocks
        self.progress("metadata space map")
        metadata_map = SpaceMapReader(self.reader, main.metadata_sm_root, self.problems, metadata=True)
        self.references.add_one(superblock_format.LOCATION)
        trees = self.references.copy()
        for space_map in (data_map, metadata_map):
            for blocks in space_map.references:
                self.references.add(blocks)
        if not (data_map.sound and metadata_map.sound):
            return
        if self.references.highest() >= metadata_map.nr_blocks:
            self.problems.add(
                metadata_map.place,
                f"it ends at block {metadata_map.nr_blocks}, but block {self.references.highest()} is in use",
            )
        metadata = compare(metadata_map, self.references, "metadata")
        report.metadata_leaks = metadata.blocks
        report.leaks = Leaks(
            data_chunks=data.lost,
            metadata_blocks=metadata.lost,
            counted_too_high=data.blocks - data.lost + metadata.blocks - metadata.lost,
            chunk_size=main.data_block_size * SECTOR,
        )
        report.space_map_faults = self.problems.other_count - before
        report.metadata_references, report.data_references = self.references, self.data
        report.tree_references = trees
        report.complete = True
