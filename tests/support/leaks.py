# SPDX-License-Identifier: Apache-2.0
"""Pools with leaked blocks, as after a power cut: space map counts higher than the trees' references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.thin.format import superblock
from lamella.thin.metadata.reference_counts import DataReferences
from lamella.thin.tools.check import check
from lamella.thin.tools.leak_repair import _FreeBlocks
from lamella.thin.tools.space_map_builder import SpaceMapWriter

if TYPE_CHECKING:
    from lamella.block import BlockDevice


def leak(device: BlockDevice, *, data: int = 0, metadata: int = 0, too_high: int = 0) -> None:
    """Raise counts in the sound metadata on *device*.

    Of *data* free data blocks (the first ones) and *metadata* free metadata blocks (the last ones) from 0 to
    1, and of *too_high* data blocks that are in use by two.
    """
    report = check(device)
    assert report.ok
    fields, trees, every = report.superblock, report.tree_references, report.metadata_references
    assert fields is not None
    assert trees is not None
    assert every is not None
    assert report.data_references is not None
    nr_blocks, nr_data = fields.metadata_sm_root.nr_blocks, fields.data_sm_root.nr_blocks
    counts = report.data_references.counts(0, nr_data)
    raised = counts.copy()
    raised[np.flatnonzero(counts == 0)[:data]] = 1
    raised[np.flatnonzero(counts)[:too_high]] += 2
    references = DataReferences()
    references.add(np.repeat(np.arange(nr_data), raised).astype(np.uint64), nr_data)

    free = np.flatnonzero(every.counts(0, nr_blocks) == 0)
    lost, free = free[len(free) - metadata :], free[: len(free) - metadata]
    trees.add(lost)
    blocks = _FreeBlocks(device, free.astype(np.uint64))
    writer = SpaceMapWriter(blocks.take, blocks.write)
    fields.data_sm_root = writer.data_map(nr_data, references)
    fields.metadata_sm_root = writer.metadata_map(trees.counts(0, nr_blocks))
    device.write(superblock.LOCATION, fields.pack())
    device.flush()
    again = check(device)
    assert again.only_space_maps == bool(data or metadata or too_high)
    assert (again.metadata_leaks, again.data_leaks) == (metadata, data + too_high)
