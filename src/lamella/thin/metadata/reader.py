# SPDX-License-Identifier: Apache-2.0
"""A pool's metadata for reading: superblock, devices, and every device's mappings as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import NotFoundError
from lamella.thin.format import superblock as superblock_format
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.node import BLOCK_VALUE, DEVICE_DETAILS, MAPPING, max_entries
from lamella.thin.metadata.block_reader import BlockReader
from lamella.thin.metadata.btree import NO_NODE, Forest
from lamella.thin.metadata.findings import Problems

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import numpy.typing as npt

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Int64s, Uint64s
    from lamella.thin.format.superblock import Superblock


class Metadata:
    """The committed state of *device*, or of the metadata snapshot held in it. Only reads.

    ``superblock`` is that of the state read; ``details`` and ``roots`` go by device id, ascending.
    """

    def __init__(self, reader: BlockReader, superblock: Superblock, *, tolerant: bool = False) -> None:
        self.reader = reader
        self.superblock = superblock
        self.details: dict[int, DeviceDetails] = {}
        self.roots: dict[int, int] = {}
        self.problems = Problems()
        """What was found damaged and is left out; only a tolerant reader gets to see any."""
        self.older: dict[int, list[tuple[Uint64s, Uint64s]]] = {}
        """Mappings (keys and values, gap by gap) that an older copy has of what is damaged, by root block."""
        self.tolerant = tolerant
        self._forest: Forest | None = None
        self._loaded: set[int] = set()

    @classmethod
    def open(
        cls,
        device: BlockDevice,
        *,
        snapshot: bool = False,
        snapshot_block: int | None = None,
        mapping_root: int | None = None,
        details_root: int | None = None,
        tolerant: bool = False,
    ) -> Metadata:
        """Read superblock and device lists.

        *snapshot* reads the held metadata snapshot instead (:class:`NotFoundError` if there is
        none), *snapshot_block* the superblock copy in that block; the roots override those in the
        superblock. With *tolerant* damaged nodes of the mapping trees are left out and noted in
        ``problems``. Raises :class:`lamella.errors.CorruptError` and
        :class:`lamella.errors.UnsupportedError`.
        """
        reader = BlockReader(device)
        problems = Problems()
        if tolerant and not snapshot and snapshot_block is None:
            fields = _decode_superblock(reader, problems)
        else:
            fields = read_superblock(reader, snapshot=snapshot, snapshot_block=snapshot_block)
        if mapping_root is not None:
            fields.mapping_root = mapping_root
        if details_root is not None:
            fields.details_root = details_root
        found = cls(reader, fields, tolerant=tolerant)
        found.problems.found += problems.found
        problems = Problems()
        found.details = read_details(reader, fields.details_root, problems)
        found.roots = read_roots(reader, fields.mapping_root, problems)
        problems.raise_if_fatal(reader.name)
        for dev_id in sorted(set(found.details) - set(found.roots)):
            found.problems.add(f"thin device {dev_id}", "it has details, but no mapping tree")
        if not tolerant:
            found.problems.raise_if_fatal(reader.name)
        return found

    def load(self, dev_ids: Collection[int] | None = None) -> None:
        """Read the mappings of all devices or of *dev_ids*; blocks that devices share are read once.

        Raises :class:`lamella.errors.CorruptError` naming the damaged blocks.
        """
        wanted = set(self.roots if dev_ids is None else dev_ids) & set(self.roots)
        if self._forest is not None and wanted <= self._loaded:
            return
        problems = self.problems if self.tolerant else Problems()
        forest = Forest(self.reader, MAPPING, problems, "mapping tree", keep=True)
        forest.walk(np.array([self.roots[dev_id] for dev_id in sorted(wanted)], dtype=np.uint64))
        if not self.tolerant:
            problems.raise_if_fatal(self.reader.name)
        for root, gaps in self.older.items():
            node = int(forest.node_of(np.array([root], dtype=np.uint64))[0])
            leaves = [leaf for keys, values in gaps for leaf in _leaves(keys, values)]
            if node != NO_NODE and leaves:
                forest.graft(node, leaves)
        self._forest, self._loaded = forest, wanted

    def mappings(self, dev_id: int) -> tuple[Uint64s, Uint64s]:
        """The mapped blocks of device *dev_id* (ascending) and their raw values (data block << 24 | time).

        See :mod:`lamella.thin.format.mappings` for taking values apart. Raises :class:`NotFoundError` for
        an unknown device. Call :meth:`load` first when more than one device is wanted.
        """
        if dev_id not in self.roots:
            raise NotFoundError(
                f"{self.reader.name} has no thin device {dev_id}", hint="thin_dump --skip-mappings lists them"
            )
        forest, nodes = self.trees([dev_id])
        return forest.gather(forest.leaves_of(nodes)[0])

    def trees(self, dev_ids: Sequence[int]) -> tuple[Forest, Int64s]:
        """The mapping trees of *dev_ids*, read, and the node of each one's root (``NO_NODE``: lost)."""
        self.load(dev_ids)
        assert self._forest is not None
        nodes = np.full(len(dev_ids), NO_NODE, dtype=np.int64)
        present = [place for place, dev_id in enumerate(dev_ids) if dev_id in self.roots]
        roots = np.array([self.roots[dev_ids[place]] for place in present], dtype=np.uint64)
        nodes[present] = self._forest.node_of(roots)
        return self._forest, nodes


def _leaves(keys: Uint64s, values: Uint64s) -> Iterator[tuple[Uint64s, Uint64s]]:
    """As many entries as fit into one leaf, in turn."""
    limit = max_entries(MAPPING.itemsize)
    for start in range(0, len(keys), limit):
        yield keys[start : start + limit], values[start : start + limit]


def read_superblock(
    reader: BlockReader, *, snapshot: bool = False, snapshot_block: int | None = None
) -> Superblock:
    """The sound superblock of *reader*'s device, or of its held snapshot.

    Raises :class:`lamella.errors.CorruptError`, :class:`lamella.errors.UnsupportedError`, and
    :class:`NotFoundError` when a snapshot is wanted and none is held.
    """
    fields = superblock_format.unpack(reader.read_one(0), name=reader.name, read_only=True)
    if not snapshot and snapshot_block is None:
        return fields
    block = fields.held_root if snapshot_block is None else snapshot_block
    if not block:
        raise NotFoundError(
            f"{reader.name} has no current metadata snapshot",
            hint="send the pool reserve_metadata_snap first",
        )
    return superblock_format.unpack(reader.read_one(block), name=reader.name, location=block, read_only=True)


def _decode_superblock(reader: BlockReader, problems: Problems) -> Superblock:
    """The superblock whatever it says, so long as its checksum is right; the rest goes to *problems*."""
    content = reader.read_one(superblock_format.LOCATION)
    if not superblock_format.is_sealed(content):
        return superblock_format.unpack(content, name=reader.name, read_only=True)
    for reason in superblock_format.faults(content):
        problems.add("superblock", reason)
    return superblock_format.decode(content)


def read_details(reader: BlockReader, root: int, problems: Problems) -> dict[int, DeviceDetails]:
    """All device details, by device id; damage goes to *problems*."""
    forest = Forest(reader, DEVICE_DETAILS, problems, "device details tree", keep=True)
    keys, values = _entries(forest, root)
    return {key: DeviceDetails(*value) for key, value in zip(keys.tolist(), values.tolist(), strict=True)}


def read_roots(reader: BlockReader, root: int, problems: Problems) -> dict[int, int]:
    """The root block of each device's mapping tree, by device id; damage goes to *problems*."""
    forest = Forest(reader, BLOCK_VALUE, problems, "top level of the mapping tree", keep=True)
    keys, values = _entries(forest, root)
    return dict(zip(keys.tolist(), values.tolist(), strict=True))


def _entries(forest: Forest, root: int) -> tuple[Uint64s, npt.NDArray[np.void] | Uint64s]:
    roots = np.array([root], dtype=np.uint64)
    forest.walk(roots)
    node = int(forest.node_of(roots)[0])
    return forest.entries_of(node) if node != NO_NODE else forest.gather(np.empty(0, dtype=np.int64))
