# SPDX-License-Identifier: Apache-2.0
"""The metadata of a running pool: the transaction that is open, its commit and its abort.

Everything that changes is new blocks in memory until :meth:`LiveMetadata.commit` writes them, flushes,
and only then overwrites the superblock that makes them count. Whoever opens the metadata after a crash
finds the last committed transaction, whole. What a transaction means (times, roots, reference counts)
is the kernel's ``drivers/md/dm-thin-metadata.c``.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import BusyError, ExistsError, NotFoundError, UnsupportedError, UsageError
from lamella.thin.engine.block_cache import BlockStore
from lamella.thin.engine.btree_update import TreeWriter
from lamella.thin.engine.device_map import DeviceMap, PageBudget
from lamella.thin.engine.device_record import Device
from lamella.thin.engine.space_map_disk import DataSpaceMap, MetadataSpaceMap
from lamella.thin.engine.superblock import read_superblock
from lamella.thin.format import superblock as superblock_format
from lamella.thin.format.checksum import BLOCK_SIZE, SUPERBLOCK_XOR
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.limits import MAX_DEVICE_ID
from lamella.thin.format.node import BLOCK_VALUE, DEVICE_DETAILS, MAPPING, TIME_BITS, TIME_MASK
from lamella.thin.format.space_map import MAX_METADATA_BLOCKS, SpaceMapRoot
from lamella.thin.format.superblock import NEEDS_CHECK, Superblock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    import numpy.typing as npt

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Int64s, Uint64s

MAX_MAPPED = 1 << 48
"""More chunks than this no device can have mapped: they would be more than 2**64 bytes."""
MAX_RESERVE = 4096
PAGE_LIMIT = 6144
"""Most map pages held (8 KiB each) before clean ones go, and changed ones go into the tree."""
LEAF_UNITS = 83
"""Mappings that fill a metadata block at worst: no leaf is less than a third full."""
PAGE_LEAVES = 8
PAGE_UNITS = PAGE_LEAVES * LEAF_UNITS
"""What a map page's first change counts against the room that was found, in mappings."""
SPILL = 8192
"""Most changed blocks held before they are written ahead of the commit (32 MiB)."""
_NO_ROOT = SpaceMapRoot(0, 0, 0, 0)


class LiveMetadata:
    """dm-thin metadata on *device*, open for changes (unless *read_only*). Made by :meth:`open` or
    :meth:`format`."""

    def __init__(self, device: BlockDevice, fields: Superblock, *, read_only: bool) -> None:
        self.device = device
        self.read_only = read_only
        self.blocks = BlockStore(device)
        self.budget = PageBudget()
        self.pass_down = True
        """Whether the commit hands out what discards have freed."""
        self.devices: dict[int, Device] = {}
        self._begin(fields)

    # -- beginning -------------------------------------------------------------------------------

    @classmethod
    def format(cls, device: BlockDevice, *, chunk_sectors: int, data_chunks: int) -> LiveMetadata:
        """Empty metadata, not yet committed."""
        total = min(device.size // BLOCK_SIZE, MAX_METADATA_BLOCKS)
        fields = Superblock(
            _NO_ROOT, _NO_ROOT, 0, 0, chunk_sectors, metadata_nr_blocks=device.size // BLOCK_SIZE
        )
        made = cls(device, fields, read_only=False)
        metadata = MetadataSpaceMap.create(made.blocks, total)
        data = DataSpaceMap.create(made.blocks, metadata, data_chunks)
        made._use(metadata, data)
        made.mapping_root = made.top.make_empty()
        made.details_root = made.details.make_empty()
        made._superblock_changed = True
        return made

    @classmethod
    def open(cls, device: BlockDevice, *, read_only: bool = False) -> LiveMetadata:
        """The metadata on *device* as last committed.

        Raises :class:`CorruptError`, or :class:`UnsupportedError` for feature flags that are not known.
        """
        return cls(device, read_superblock(device, read_only), read_only=read_only)

    def _begin(self, fields: Superblock) -> None:
        self.superblock = fields
        self._superblock_changed = False
        self.mapping_root = fields.mapping_root
        self.details_root = fields.details_root
        self.time = fields.time
        self.transaction_id = fields.transaction_id
        metadata = MetadataSpaceMap(self.blocks, fields.metadata_sm_root)
        self._use(metadata, DataSpaceMap(self.blocks, metadata, fields.data_sm_root))

    def _use(self, metadata: MetadataSpaceMap, data: DataSpaceMap) -> None:
        self.metadata = metadata
        self.data = data
        self.budget.data_chunks = data.size
        self.maps = TreeWriter(
            self.blocks, metadata, MAPPING,
            retain=lambda values: data.retain(values >> TIME_BITS),
            replaced=lambda values: self.free_data(values, discard=self._discard_replaced),
            removed=lambda values: self.free_data(values, discard=self._discarding),
        )  # fmt: skip
        self.top = TreeWriter(
            self.blocks, metadata, BLOCK_VALUE, retain=metadata.retain, removed=self._destroy_maps
        )
        self.details = TreeWriter(self.blocks, metadata, DEVICE_DETAILS)
        self._discarding = False
        self._discard_replaced = False
        self._kept: dict[int, tuple[int, int]] = {}
        self._created: set[int] = set()
        self._to_discard: list[Int64s] = []
        self._changed_maps: dict[int, Device] = {}

    def free_data(self, values: Uint64s, *, discard: bool) -> None:
        """One reference less to the data blocks of mapping *values*.

        With *discard* those that come free are handed out by the commit, to be discarded after it.
        """
        freed = self.data.release(values >> np.uint64(TIME_BITS))
        if discard and self.pass_down and len(freed):
            self._to_discard.append(freed)

    @contextmanager
    def _discards(self, wanted: bool = True) -> Iterator[None]:
        """Chunks that come free by removals within the block are handed out by the commit, if *wanted*."""
        self._discarding = wanted
        try:
            yield
        finally:
            self._discarding = False

    def _destroy_maps(self, roots: npt.NDArray[Any]) -> None:
        for root in roots.tolist():
            self.maps.destroy(root)

    # -- devices ---------------------------------------------------------------------------------

    def find(self, dev_id: int) -> Device | None:
        """The device, or None."""
        device = self.devices.get(dev_id)
        if device is None:
            found = self.details.lookup(self.details_root, dev_id)
            if found is None:
                return None
            details = DeviceDetails(*found.item())
            if details.mapped_blocks > MAX_MAPPED:
                raise self.blocks.corrupt(
                    self.details_root, f"is the root of device details that are invalid for device {dev_id}"
                )
            device = self.devices[dev_id] = Device(dev_id, details)
        return device

    def get(self, dev_id: int) -> Device:
        """The device; :class:`NotFoundError` without one."""
        device = self.find(dev_id)
        if device is None:
            raise NotFoundError(
                f"there is no thin device {dev_id} in the pool of {self.device.name}",
                hint="list the devices with thin_ls",
            )
        return device

    def map_of(self, device: Device) -> DeviceMap:
        """The device's map."""
        if device.map is None:
            root = self.top.lookup(self.mapping_root, device.dev_id)
            if root is None:
                raise self.blocks.corrupt(
                    self.mapping_root, f"is the root of a mapping tree that lacks device {device.dev_id}"
                )
            device.map = DeviceMap(int(root), self.budget)
        return device.map

    def note_change(self, device: Device) -> None:
        """The device's map has got changes that its tree does not know."""
        self._changed_maps[device.dev_id] = device

    def all_details(self) -> dict[int, DeviceDetails]:
        """Every device's details, by id."""
        keys, values = self.details.read_range(self.details_root)
        found = {
            key: DeviceDetails(*value) for key, value in zip(keys.tolist(), values.tolist(), strict=True)
        }
        found.update((dev_id, d.details()) for dev_id, d in self.devices.items() if d.changed)
        return found

    def _check_new(self, dev_id: int) -> None:
        if not 0 <= dev_id <= MAX_DEVICE_ID:
            raise UsageError(f"invalid device id {dev_id}", hint=f"give a number from 0 to {MAX_DEVICE_ID}")
        if self.find(dev_id) is not None:
            raise ExistsError(
                f"thin device {dev_id} exists already in the pool of {self.device.name}",
                hint="choose another id",
            )

    def keep_committed(self, device: Device, *, discard: bool) -> None:
        """Until the commit, write to no chunk that *device* has now: as if it had just been snapshotted, each
        is replaced instead. With *discard* the commit hands out what comes free by that.

        What the next commit records of the device is as without this.
        """
        if device.dev_id in self._created or device.dev_id in self._kept:
            return
        if not self._kept:
            self._next_time()
        self._discard_replaced = discard
        self._kept[device.dev_id] = device.snapshotted_time, self.time
        device.snapshotted_time = self.time

    def keep_no_longer(self) -> None:
        """The end of what :meth:`keep_committed` began, before the commit."""
        for dev_id, (before, since) in self._kept.items():
            device = self.devices.get(dev_id)
            # Unless a snapshot was taken meanwhile, what was mapped between the two times is not shared.
            if device is not None and device.snapshotted_time == since:
                device.snapshotted_time = before
        self._kept = {}
        self._discard_replaced = False

    def _next_time(self) -> None:
        if self.time >= TIME_MASK:
            raise UnsupportedError(
                f"the pool of {self.device.name} has had {self.time} snapshots, the format's limit",
                hint="copy its devices to a new pool",
            )
        self.time += 1

    def _add(self, dev_id: int, root: int, details: DeviceDetails) -> None:
        self.mapping_root = self.top.put(self.mapping_root, dev_id, root).root
        self.details_root = self.details.put(self.details_root, dev_id, details).root
        self._created.add(dev_id)
        self._superblock_changed = True

    def create_thin(self, dev_id: int) -> None:
        """A new device without mappings. Raises :class:`ExistsError`."""
        self._check_new(dev_id)
        self._add(dev_id, self.maps.make_empty(), DeviceDetails(0, self.transaction_id, self.time, self.time))

    def create_snap(self, dev_id: int, origin_id: int) -> None:
        """A new device that shares all of *origin_id*'s mappings."""
        self._check_new(dev_id)
        origin = self.get(origin_id)
        self._next_time()
        root = self.map_of(origin).root
        if origin_id in self._changed_maps:
            self.flush_map(origin)
            root = self.map_of(origin).root
        self.metadata.retain((root,))
        origin.snapshotted_time = self.time
        origin.changed = True
        self._add(dev_id, root, DeviceDetails(origin.mapped, self.transaction_id, self.time, self.time))

    def delete(self, dev_id: int, *, discard: bool = False) -> None:
        """Remove a device that is not open; with *discard*, chunks that come free are discarded."""
        device = self.get(dev_id)
        if device.opens:
            raise BusyError(
                f"thin device {dev_id} of the pool of {self.device.name} is open",
                hint="close it first, then delete it",
            )
        if dev_id in self._changed_maps:
            self.flush_map(device)
        with self._discards(discard):
            self.mapping_root = self.top.remove(self.mapping_root, dev_id).root
        self.details_root = self.details.remove(self.details_root, dev_id).root
        if device.map is not None:
            device.map.forget()
        device.gone = True
        del self.devices[dev_id]
        self._superblock_changed = True

    def set_transaction_id(self, old: int, new: int) -> None:
        """Compare and set. Raises :class:`ExistsError` when it is not *old*."""
        if self.transaction_id != old:
            raise ExistsError(
                f"the transaction id of the pool of {self.device.name} is {self.transaction_id}, not {old}",
                hint="another program has changed the pool; check its state first",
            )
        if not 0 <= new < 1 << 64:
            raise UsageError(f"invalid transaction id {new}", hint="give a number from 0 to 2**64 - 1")
        self.transaction_id = new
        self._superblock_changed = True

    # -- maps into trees -------------------------------------------------------------------------

    def _own_root(self, device: Device) -> DeviceMap:
        """The device's map, its root's place in the top tree not shared with a held snapshot."""
        found = self.map_of(device)
        if self.top.shared(self.mapping_root, device.dev_id):
            self.mapping_root = self.top.put(self.mapping_root, device.dev_id, found.root).root
        return found

    def _set_root(self, device: Device, root: int) -> None:
        found = self.map_of(device)
        if root != found.root:
            found.root = root
            self.mapping_root = self.top.put(self.mapping_root, device.dev_id, root).root
        self._superblock_changed = True

    def flush_map(self, device: Device) -> None:
        """Bring the device's mapping tree up to date with its map in memory."""
        keys, values, gone = self._own_root(device).take_changes()
        self._changed_maps.pop(device.dev_id, None)
        with self._discards():
            change = self.maps.update(self.map_of(device).root, keys, values, gone)
        self._set_root(device, change.root)
        if self.blocks.dirty > SPILL:
            self.blocks.write_out()

    def unmap(self, device: Device, first: int, last: int) -> None:
        """Discard the chunks *first* to *last* (included), however many, straight in the tree."""
        if device.dev_id in self._changed_maps:
            self.flush_map(device)
        found = self._own_root(device)
        keys, _ = self.maps.read_range(found.root, first, last)
        with self._discards():
            for start in range(0, len(keys), 1 << 18):
                part = keys[start : start + (1 << 18)]
                self.count_unmapped(device, len(part))
                change = self.maps.update(
                    found.root, part, np.zeros(len(part), MAPPING), np.ones(len(part), dtype=np.bool_)
                )
                self._set_root(device, change.root)
        device.changed = True
        found.forget(first, last)

    def remap(self, device: Device, chunks: Int64s, values: Uint64s, *, discard: bool = False) -> None:
        """Map ascending *chunks* of *device* to *values*; chunks that only this transaction had mapped
        release their data blocks."""
        released = self.map_of(device).store(chunks, values, self.maps)
        device.changed = True
        self.note_change(device)
        if len(released):
            self.free_data(released, discard=discard)

    def count_unmapped(self, device: Device, chunks: int) -> None:
        """*chunks* mappings of *device* are about to go."""
        if chunks > device.mapped:
            raise self.blocks.corrupt(
                self.details_root,
                f"is the root of device details that give device {device.dev_id} too few mapped blocks",
            )
        device.mapped -= chunks
        device.changed = True

    def trim(self) -> None:
        """Release memory when the maps hold too much of it."""
        if self.budget.held <= PAGE_LIMIT:
            return
        if sum(len(self.map_of(device).changed) for device in self._changed_maps.values()) > PAGE_LIMIT // 2:
            for device in list(self._changed_maps.values()):
                self.flush_map(device)
        for device in self.devices.values():
            if device.map is not None:
                device.map.drop_clean()

    # -- the transaction -------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether a commit would have anything to write."""
        return bool(self._superblock_changed or self._changed_maps)

    @property
    def reserve(self) -> int:
        """Metadata blocks that the kernel keeps for its commits and reports as used."""
        return min(MAX_RESERVE, self.metadata.size // 10)

    @property
    def free_blocks(self) -> int:
        """Free metadata blocks, without the reserve."""
        return max(self.metadata.free - self.reserve, 0)

    @property
    def allocatable_blocks(self) -> int:
        """Those of them that need no commit first."""
        return max(self.metadata.allocatable - self.reserve, 0)

    def blocks_needed(self, device: Device, pages: set[int], chunks: int) -> int:
        """A generous guess at the metadata blocks that the pending changes of all maps will take.

        *chunks* more mappings of *device*, in *pages* of its map, are to change as well.
        """
        total = 0
        for other in {*self._changed_maps.values(), device}:
            changed = len(other.map.changed) if other.map is not None else 0
            mapped = other.mapped
            if other is device:
                changed += len(pages - other.map.changed) if other.map is not None else len(pages)
                mapped += chunks
            # A full page lies in 5 to 13 leaves.
            total += PAGE_LEAVES + min(PAGE_LEAVES * changed, mapped // LEAF_UNITS)
        return total

    def flush_maps(self) -> None:
        """Bring all trees up to date, so that counts and roots are true."""
        for device in list(self._changed_maps.values()):
            self.flush_map(device)

    def commit(self, flush_data: Callable[[], None]) -> Int64s:
        """Make everything durable. Returns data blocks, now free, that a discard asked to pass down.

        *flush_data* makes the data device durable; the superblock is written after it. Whatever fails
        leaves the committed state on disk as it was; the caller then has to :meth:`abort`.
        """
        self.flush_maps()
        self.keep_no_longer()
        changed = sorted(
            (device for device in self.devices.values() if device.changed), key=lambda d: d.dev_id
        )
        if changed:
            rows = np.array([device.details() for device in changed], dtype=DEVICE_DETAILS)
            ids = np.array([device.dev_id for device in changed], dtype=np.uint64)
            self.details_root = self.details.update(self.details_root, ids, rows).root
        self.data.flush()
        self.metadata.flush()
        fields = replace(
            self.superblock,
            data_sm_root=self.data.root(),
            metadata_sm_root=self.metadata.root(),
            mapping_root=self.mapping_root,
            details_root=self.details_root,
            time=self.time,
            transaction_id=self.transaction_id,
        )
        self.blocks.write_out()
        flush_data()
        self.device.flush()
        self.device.write(0, fields.pack())
        self.device.flush()
        self.superblock = fields
        self._superblock_changed = False
        self._created.clear()
        for device in changed:
            device.changed = False
        self.metadata.committed()
        self.data.committed()
        discards, self._to_discard = self._to_discard, []
        if not discards:
            return np.empty(0, dtype=np.int64)
        blocks = np.unique(np.concatenate(discards))
        return blocks[[self.data.count(block) == 0 for block in blocks.tolist()]]

    def abort(self) -> None:
        """Forget everything since the last commit. Raises when even the superblock cannot be read."""
        self.blocks.forget()
        self._begin(read_superblock(self.device, self.read_only))
        devices, self.devices = self.devices, {}
        self.budget.held = 0
        for device in devices.values():
            device.map = None
            found = self.details.lookup(self.details_root, device.dev_id)
            if found is None:
                device.gone = True
            elif device.opens:
                device.load(DeviceDetails(*found.item()))
                self.devices[device.dev_id] = device

    def set_needs_check(self) -> None:
        """Set needs_check in the committed metadata: no writes before a check. Call it after an abort."""
        self.superblock = replace(self.superblock, flags=self.superblock.flags | NEEDS_CHECK)
        self.device.write(0, self.superblock.pack())
        self.device.flush()

    # -- held snapshot of the metadata -------------------------------------------------------------

    def reserve_snapshot(self) -> None:
        """Keep the committed trees, so that another program can read them. Commit right before it."""
        if self.superblock.held_root:
            raise BusyError(
                f"the pool of {self.device.name} holds a metadata snapshot already",
                hint="release it before taking another",
            )
        block = self.metadata.allocate_one()
        copy = replace(self.superblock, data_sm_root=_NO_ROOT, metadata_sm_root=_NO_ROOT, blocknr=block)
        self.blocks.put_raw(block, np.frombuffer(bytearray(copy.pack()), dtype=np.uint8), SUPERBLOCK_XOR)
        self.metadata.retain((self.mapping_root,))
        self.metadata.retain((self.details_root,))
        self.superblock = replace(self.superblock, held_root=block)
        self._superblock_changed = True

    def release_snapshot(self) -> None:
        """Release the held trees."""
        held = self.superblock.held_root
        if not held:
            raise NotFoundError(
                f"the pool of {self.device.name} holds no metadata snapshot", hint="reserve one first"
            )
        block = self.blocks.raw(held, SUPERBLOCK_XOR).tobytes()
        copy = superblock_format.decode(block)
        self.superblock = replace(self.superblock, held_root=0)
        self.metadata.release((held,))
        self.blocks.drop((held,))
        self.top.destroy(copy.mapping_root)
        self.details.destroy(copy.details_root)
        self._superblock_changed = True

    # -- growing -----------------------------------------------------------------------------------

    def extend_data(self, chunks: int) -> None:
        self.data.extend(chunks)
        self.budget.data_chunks = chunks
        self._superblock_changed = True

    def extend_metadata(self, blocks: int) -> None:
        self.metadata.extend(blocks)
        self._superblock_changed = True
