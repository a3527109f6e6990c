# SPDX-License-Identifier: Apache-2.0
"""The repair of damaged metadata into a new place, as ``thin_repair`` does; the damaged one is only read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lamella import logs
from lamella.errors import CorruptError, UsageError
from lamella.thin.metadata.findings import Problems
from lamella.thin.tools.header import Header, Overrides, header_of
from lamella.thin.tools.metadata_builder import MetadataBuilder
from lamella.thin.tools.salvage import recover
from lamella.thin.tools.shared_trees import SharedTrees

if TYPE_CHECKING:
    from collections.abc import Collection

    from lamella.block import BlockDevice

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceOutcome:
    """What became of one thin device."""

    dev_id: int
    expected: int
    """Mapped blocks by its details."""
    saved: int
    note: str = ""
    """What had to be done to have it at all; empty if it was where it belongs."""

    def __str__(self) -> str:
        if self.saved > self.expected:
            text = f"{self.saved} mapped blocks saved, though its details said {self.expected}"
        else:
            text = f"{self.saved} of {self.expected} mapped blocks saved"
        return f"thin device {self.dev_id}: {text}{'; ' if self.note else ''}{self.note}"


@dataclass(slots=True)
class RepairReport:
    """The outcome of :func:`repair`."""

    header: Header
    """What the new superblock says."""
    devices: list[DeviceOutcome] = field(default_factory=list)
    """All devices by id, those that are lost (saved 0, expected more) among them."""
    problems: Problems = field(default_factory=Problems)
    """The damage met on the way."""
    searched: bool = False
    """Whether lists of devices had to be searched for."""
    outside: int = 0
    """Mappings left out because they lead past the end of the data device."""
    blocks: int = 0
    """Metadata blocks used on the target."""

    @property
    def incomplete(self) -> list[DeviceOutcome]:
        """Devices of which something is missing, or that had to be searched for."""
        return [one for one in self.devices if one.saved != one.expected or one.note]


def repair(
    damaged: BlockDevice,
    target: BlockDevice,
    *,
    overrides: Overrides | None = None,
    fallback: Overrides | None = None,
    expected: Collection[int] = (),
) -> RepairReport:
    """Read what can be saved of *damaged*, and write sound metadata with it to *target*, another device.

    What devices share stays shared, so that a target as large as the damaged metadata suffices. Transaction
    id and time are kept; a held metadata snapshot and ``needs_check`` are not. *overrides*, *fallback*,
    *expected* and most errors are those of :func:`lamella.thin.tools.salvage.recover`. Raises as well
    :class:`lamella.errors.CorruptError` if no list of devices can be found or most mappings
    lead past the data device, and :class:`lamella.errors.NoSpaceError` with the size needed; see
    :class:`lamella.thin.tools.metadata_builder.MetadataBuilder` for what is on *target* then.
    """
    if damaged is target:
        raise UsageError(
            f"cannot repair {damaged.name} in place: the repair would destroy what it reads",
            hint="give another device or file for the result",
        )
    found = recover(damaged, overrides=overrides, fallback=fallback, expected=expected)
    metadata = found.metadata
    log.info("device lists: %s", "found by searching" if found.searched else "those of the superblock")
    for dev_id, note in found.notes.items():
        log.info("thin device %d: %s", dev_id, note)
    header = replace(header_of(metadata, Overrides()), flags=0)
    report = RepairReport(header, searched=found.searched)
    dev_ids = list(metadata.details)
    forest, nodes = metadata.trees(dev_ids)
    builder = MetadataBuilder(target, header.nr_data_blocks, action=f"repair {damaged.name}")
    trees = SharedTrees(forest, builder)
    if trees.outside * 2 > trees.entries:
        raise CorruptError(
            f"cannot repair {damaged.name}: {trees.outside} of {trees.entries} mappings lead past the "
            f"{header.nr_data_blocks} data blocks that its superblock records",
            hint="give the right number with --nr-data-blocks",
        )
    blocks, totals = trees.build(nodes)
    details = {
        dev_id: metadata.details[dev_id]._replace(mapped_blocks=total)
        for dev_id, total in zip(dev_ids, totals, strict=True)
    }
    report.outside = trees.outside
    if report.outside:
        metadata.problems.add(
            "mapping tree",
            f"{report.outside} mappings lead past the data device's {header.nr_data_blocks} blocks",
        )
    report.problems = metadata.problems
    report.blocks = builder.finish(header, details, dict(zip(dev_ids, blocks, strict=True)))
    report.devices = [
        DeviceOutcome(dev_id, metadata.details[dev_id].mapped_blocks, total, found.notes.get(dev_id, ""))
        for dev_id, total in zip(dev_ids, totals, strict=True)
    ]
    report.devices += [
        DeviceOutcome(dev_id, count, 0, "its mapping tree is lost") for dev_id, count in found.lost
    ]
    report.devices.sort(key=lambda one: one.dev_id)
    return report
