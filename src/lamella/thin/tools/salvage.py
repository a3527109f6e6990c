# SPDX-License-Identifier: Apache-2.0
"""Damaged metadata read as well as it can be: what the superblock leads to, and what a search has to find.

Two lists make a pool: the details of its devices and the roots of their mapping trees. Where one is
damaged, every block is searched for older or lost copies of it (:mod:`lamella.thin.metadata.node_scan`).
Two lists belong together when they name the same devices, and the more so the more of these have as many
mappings as their details say; among such pairs the newer goes first, by transaction id and time. A single
device that the chosen lists lack is taken from another list. Details that are nowhere are made up from the
tree. Parts of a device's tree that are lost are taken from the newest older copy that has them
(:mod:`lamella.thin.tools.older_copies`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lamella import logs
from lamella.errors import CorruptError, UnsupportedError, UsageError
from lamella.thin.format import superblock as superblock_format
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.limits import MAX_DEVICE_ID
from lamella.thin.format.node import TIME_MASK
from lamella.thin.format.space_map import ENTRIES_PER_BITMAP, SpaceMapRoot
from lamella.thin.format.superblock import Superblock
from lamella.thin.metadata.block_reader import BlockReader
from lamella.thin.metadata.device_lists import (
    DetailsList,
    MappingTrees,
    RootList,
    read_details_list,
    read_root_list,
    search,
)
from lamella.thin.metadata.findings import Problems
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.header import Overrides, check_data_block_size
from lamella.thin.tools.lost_trees import descendants, unchanged_snapshots
from lamella.thin.tools.older_copies import Age, Found, OlderTree, broken, fill_gaps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from lamella.block import BlockDevice
    from lamella.thin.format.arrays import Int64s

    Rank = tuple[bool, bool, tuple[int, int], int, int, int]

log = logs.logger(__name__)

_LARGEST = (1 << 64) - 1


@dataclass(slots=True)
class Recovered:
    """What :func:`recover` has read."""

    metadata: Metadata
    """Ready for dumping and copying; ``problems`` has the damage."""
    searched: bool = False
    """Whether the superblock did not lead to both lists of devices."""
    notes: dict[int, str] = field(default_factory=dict)
    """Device ids that were not simply there, and what was done for them."""
    lost: list[tuple[int, int]] = field(default_factory=list)
    """Devices with details, but without any tree that could be found, and their mapped blocks."""


def recover(
    device: BlockDevice,
    *,
    overrides: Overrides | None = None,
    fallback: Overrides | None = None,
    expected: Collection[int] = (),
) -> Recovered:
    """Read what can be saved of the metadata on *device*, which is only read.

    Of the transaction id and of the number of data blocks the largest is used of what the superblock says,
    *overrides* give and was found; *fallback* is used for a superblock that is gone. Lists that name exactly
    the *expected* devices go before others that a search finds: the kernel deletes a device in a commit of
    its own, and what was before that looks as new. Raises :class:`CorruptError` if no list of devices can be
    found, :class:`UsageError` if the data block size is in none of these places or one that no kernel takes,
    and :class:`UnsupportedError` for unknown features.
    """
    reader = BlockReader(device)
    return _Recovery(reader, overrides or Overrides(), fallback or Overrides(), frozenset(expected)).run()


class _Table(NamedTuple):
    """What is known of several lists that name the same devices."""

    totals: Int64s
    """Mappings by list and device; -1 where some are missing."""
    times: list[int]
    """The latest time of each list."""


class _Recovery:
    def __init__(
        self, reader: BlockReader, overrides: Overrides, fallback: Overrides, expected: frozenset[int]
    ) -> None:
        self.reader = reader
        self.expected = expected
        self.overrides = overrides
        self.fallback = fallback
        self.problems = Problems()
        self.sealed = False
        self.fields = self._read_superblock()
        self.notes: dict[int, str] = {}
        self.doubtful: set[int] = set()
        """Devices whose mappings may be shared in ways that their details do not know of."""
        self.made_up: set[int] = set()
        """Devices whose details were nowhere."""
        self.trees: MappingTrees
        self.known: list[RootList] = []
        self.nodes: list[int] = []
        self.lists: tuple[list[DetailsList], list[RootList]] = [], []
        """All lists that a search has found and that are not newer than the superblock."""

    # -- the superblock --------------------------------------------------------------------------

    def _read_superblock(self) -> Superblock:
        content = self.reader.read_one(superblock_format.LOCATION)
        fields = superblock_format.decode(content)
        self.sealed = superblock_format.is_sealed(content)
        for reason in superblock_format.faults(content):
            self.problems.add("superblock", reason)
        if self.sealed:
            unknown = superblock_format.unknown_features(fields)
            if unknown:
                raise UnsupportedError(
                    f"cannot read the metadata {self.reader.name}: {unknown}",
                    hint="a newer version made it; use that one",
                )
        usable = self.sealed or fields.magic == superblock_format.MAGIC
        return Superblock(
            fields.data_sm_root if self.sealed else SpaceMapRoot(0, 0, 0, 0), SpaceMapRoot(0, 0, 0, 0),
            # Of a superblock with a bad checksum the roots are only tried.
            fields.mapping_root if usable else 0, fields.details_root if usable else 0,
            fields.data_block_size if self.sealed else 0, fields.transaction_id if self.sealed else 0,
            fields.time if self.sealed else 0,
            fields.flags & superblock_format.NEEDS_CHECK if self.sealed else 0,
            version=fields.version if self.sealed else superblock_format.VERSION,
        )  # fmt: skip

    def _choose(self, details: DetailsList, roots: RootList) -> None:
        """Fill in what the superblock lacks, or what is given in its place."""
        given, known, fields = self.overrides, self.fallback, self.fields
        trees = MappingTrees(self.reader, roots.roots.values())
        needed = trees.data_blocks_needed(roots.roots.values())
        recorded = fields.data_sm_root.nr_blocks
        trusted = self.sealed
        if recorded > self.reader.nr_blocks * ENTRIES_PER_BITMAP:
            self.problems.add(
                "superblock", f"it records {recorded} data blocks, more than its metadata can count"
            )
            recorded, trusted = 0, False
        if given.nr_data_blocks is not None:
            chosen = max(given.nr_data_blocks, recorded, needed)
        elif trusted:
            chosen = recorded
        else:
            chosen = needed if known.nr_data_blocks is None else known.nr_data_blocks
        fields.data_sm_root = replace(fields.data_sm_root, nr_blocks=chosen)
        if not self.sealed:
            newest = max((one.transaction_id for one in details.devices.values()), default=0)
            if given.transaction_id is None and known.transaction_id is None:
                # Whoever counts transactions raises the id after it has made a device.
                newest = min(newest + 1, _LARGEST)
            fields.transaction_id = max(newest, known.transaction_id or 0)
        fields.transaction_id = max(fields.transaction_id, given.transaction_id or 0)
        sectors = given.data_block_size
        if sectors is None:
            sectors = fields.data_block_size if self.sealed else known.data_block_size
        if sectors is None:
            raise UsageError(
                "data block size needs to be provided due to corruption in the superblock",
                hint="add --data-block-size; the volume group's metadata or an old dump tell the value",
            )
        check_data_block_size(sectors)
        fields.data_block_size = sectors

    # -- the lists -------------------------------------------------------------------------------

    def run(self) -> Recovered:
        fields = self.fields
        # The roots of a superblock with a bad checksum are a guess, and no damage if they are wrong.
        problems = self.problems if self.sealed else Problems()
        details = read_details_list(self.reader, fields.details_root, problems)
        roots = read_root_list(self.reader, fields.mapping_root, problems)
        for dev_id in sorted(details.devices.keys() | roots.roots.keys()):
            if dev_id > MAX_DEVICE_ID:
                # No kernel takes such an id, and thin_restore refuses it.
                problems.add(f"thin device {dev_id}", f"its id is more than {MAX_DEVICE_ID}, the largest")
                details.devices.pop(dev_id, None)
                roots.roots.pop(dev_id, None)
        searched = not (self.sealed and self._agree(details, roots))
        damaged = [] if searched else broken(self.reader, roots.roots)
        if searched or damaged:
            self._find_lists(roots)
        if searched:
            details, roots = self._search(details, roots)
            damaged = broken(self.reader, roots.roots)
        return self._finish(details, roots, searched, damaged)

    @staticmethod
    def _agree(details: DetailsList, roots: RootList) -> bool:
        return details.whole and roots.whole and details.devices.keys() == roots.roots.keys()

    def _find_lists(self, roots: RootList) -> None:
        """Search the whole device for lists of devices."""
        all_details, all_roots, self.nodes = search(self.reader)
        self.known = [one for one in (roots, *all_roots) if one.roots]
        self.trees = MappingTrees(self.reader, (root for one in self.known for root in one.roots.values()))
        if self.sealed:
            # Nothing in the last state is newer than its superblock says.
            limit = self.fields.time
            all_details = [one for one in all_details if one.age()[1] <= limit]
            all_roots = [one for one in all_roots if self._time_of(one) <= limit]
        self.lists = all_details, all_roots

    def _search(self, details: DetailsList, roots: RootList) -> tuple[DetailsList, RootList]:
        all_details, all_roots = self.lists
        known, nodes = self.known, self.nodes
        if self.sealed and details.whole:
            if not roots.whole:
                roots = self._best_roots(details, (roots, *all_roots))
                roots = self._fill_roots(details, roots, all_roots)
                roots = self._adopt(details, roots, known, nodes)
        elif self.sealed and roots.whole:
            details = self._best_details(roots, (details, *all_details))
        else:
            details, roots = self._best_pair((details, *all_details), (roots, *all_roots))
        roots = self._fill_roots(details, roots, all_roots)
        return self._fill_details(details, roots, all_details), roots

    def _time_of(self, roots: RootList) -> int:
        return max((time for _, _, time in self.trees.totals(roots.roots.values())), default=0)

    def _matches(self, details: DetailsList, roots: RootList) -> int:
        """How many devices have all the mappings that their details say."""
        common = [dev_id for dev_id in details.devices if dev_id in roots.roots]
        found = self.trees.totals(roots.roots[dev_id] for dev_id in common)
        return sum(
            whole and total == details.devices[dev_id].mapped_blocks
            for dev_id, (total, whole, _) in zip(common, found, strict=True)
        )

    def _best_roots(self, details: DetailsList, choices: Iterable[RootList]) -> RootList:
        def rank(one: RootList) -> tuple[int, int, int]:
            overlap = len(details.devices.keys() & one.roots.keys())
            return self._matches(details, one), overlap, self._time_of(one)

        own, *others = choices
        best = max((own, *others), key=rank)
        wanted = {dev_id: root for dev_id, root in best.roots.items() if dev_id in details.devices}
        if best is not own:
            found = self.trees.totals(wanted.values())
            for (dev_id, _), (total, whole, _) in zip(wanted.items(), found, strict=True):
                if not whole or total != details.devices[dev_id].mapped_blocks:
                    self.doubtful.add(dev_id)
                    self.notes[dev_id] = "its mapping tree was found by searching, and may be older"
        return RootList(wanted, best.whole)

    def _best_details(self, roots: RootList, choices: Iterable[DetailsList]) -> DetailsList:
        def rank(one: DetailsList) -> tuple[bool, int, int, tuple[int, int]]:
            same = one.devices.keys() == roots.roots.keys()
            overlap = len(one.devices.keys() & roots.roots.keys())
            return same, self._matches(one, roots), overlap, one.age()

        best = max(choices, key=rank)
        self._mark_doubtful(best, roots)
        wanted = {dev_id: one for dev_id, one in best.devices.items() if dev_id in roots.roots}
        found = self.trees.totals(roots.roots[dev_id] for dev_id in wanted)
        for (dev_id, one), (total, whole, _) in zip(wanted.items(), found, strict=True):
            if whole and total != one.mapped_blocks:
                self.notes[dev_id] = "its details were found by searching, and may be older"
        return DetailsList(wanted, best.whole)

    def _mark_doubtful(self, details: DetailsList, roots: RootList) -> None:
        """Details older than the trees may not know of the last snapshots."""
        if details.devices.keys() != roots.roots.keys():
            self.doubtful |= details.devices.keys() & roots.roots.keys()

    def _best_pair(
        self, all_details: tuple[DetailsList, ...], all_roots: tuple[RootList, ...]
    ) -> tuple[DetailsList, RootList]:
        """The newest lists that name the same devices; the superblock's own, tried first, win any tie."""
        first = (all_details[0], all_roots[0])
        if self._agree(*first) and 2 * self._matches(*first) >= len(first[0].devices):
            return first
        by_devices: dict[frozenset[int], list[RootList]] = {}
        for one in all_roots:
            if one.roots:
                by_devices.setdefault(frozenset(one.roots), []).append(one)
        tables = {devices: self._table(devices, lists) for devices, lists in by_devices.items()}
        best: tuple[Rank, DetailsList, RootList] | None = None
        for details in all_details:
            devices = frozenset(details.devices)
            if devices not in tables:
                continue
            count = len(devices)
            age = details.age()
            wanted = np.array([details.devices[dev_id].mapped_blocks for dev_id in sorted(devices)])
            matches = (tables[devices].totals == wanted).sum(axis=1).tolist()
            for roots, match, time in zip(by_devices[devices], matches, tables[devices].times, strict=True):
                # Commits without a new transaction or snapshot only ever add mappings, discards apart.
                mapped = int(wanted.sum())
                latest = age[0], max(age[1], time)
                rank = (2 * match >= count, devices == self.expected, latest, match, count, mapped)
                if best is None or rank > best[0]:
                    best = (rank, details, roots)
        if best is not None:
            _, details, roots = best
            log.info("found lists of %d devices with the same ids, age %s", len(roots.roots), details.age())
            return details, roots
        named = [one for one in all_roots if one.roots]
        if not named:
            raise CorruptError(
                f"no compatible roots found: {self.reader.name} no longer holds a list of devices",
                hint="restore a copy of the metadata",
            )
        newest = max(
            named, key=lambda roots: (max(self._matches(one, roots) for one in all_details), len(roots.roots))
        )
        return self._best_details(newest, all_details), newest

    def _table(self, devices: frozenset[int], lists: list[RootList]) -> _Table:
        order = sorted(devices)
        found = self.trees.totals(one.roots[dev_id] for one in lists for dev_id in order)
        shape = (len(lists), len(order))
        totals = np.array([total if whole else -1 for total, whole, _ in found]).reshape(shape)
        return _Table(totals, np.array([time for _, _, time in found]).reshape(shape).max(axis=1).tolist())

    def _fill_roots(self, details: DetailsList, roots: RootList, others: list[RootList]) -> RootList:
        """Look in other lists for the trees of devices that *roots* lacks."""
        found = dict(roots.roots)
        for dev_id in sorted(details.devices.keys() - found.keys()):
            wanted = details.devices[dev_id].mapped_blocks
            choices = sorted({one.roots[dev_id] for one in others if dev_id in one.roots})
            if not choices:
                continue
            known = dict(zip(choices, self.trees.totals(choices), strict=True))

            def rank(root: int) -> tuple[bool, bool, int, int]:
                total, whole, time = known[root]  # noqa: B023 - used in this turn only
                return whole and total == wanted, whole, time, total  # noqa: B023 - as above

            found[dev_id] = max(choices, key=rank)
            self.notes[dev_id] = "its mapping tree was found by searching"
            if not rank(found[dev_id])[0]:
                self.doubtful.add(dev_id)
        return RootList(found, roots.whole)

    def _adopt(
        self, details: DetailsList, roots: RootList, known: list[RootList], nodes: list[int]
    ) -> RootList:
        """Find whole trees, in no list at all, for devices that have not the tree that they should have."""
        found = dict(roots.roots)
        totals = dict(zip(found, self.trees.totals(found.values()), strict=True))
        unsure = {
            dev_id: one.mapped_blocks
            for dev_id, one in details.devices.items()
            if one.mapped_blocks and totals.get(dev_id, (0, False, 0))[:2] != (one.mapped_blocks, True)
        }
        if not unsure:
            return roots
        listed = {root for one in known for root in one.roots.values()}
        orphans = [block for block in nodes if block not in listed]
        by_total: dict[int, list[int]] = {}
        counted = MappingTrees(self.reader, orphans).totals(orphans)
        for block, (total, whole, time) in zip(orphans, counted, strict=True):
            if whole and time <= self.fields.time:
                by_total.setdefault(total, []).append(block)
        choices = {dev_id: by_total[count] for dev_id, count in unsure.items() if count in by_total}
        adopted = descendants(self.reader, found, choices)
        found.update(adopted)
        sure = {dev_id: root for dev_id, root in found.items() if dev_id not in unsure or dev_id in adopted}
        times = MappingTrees(self.reader, sure.values()).totals(sure.values())
        latest = {dev_id: time for dev_id, (_, _, time) in zip(sure, times, strict=True)}
        twins = unchanged_snapshots(details.devices, sure, latest, unsure.keys() - adopted.keys())
        found.update(twins)
        for dev_id in (*adopted, *twins):
            self.notes[dev_id] = "its mapping tree was in no list, and was found by its mappings"
            self.doubtful.discard(dev_id)
        return RootList(found, roots.whole)

    def _fill_details(self, details: DetailsList, roots: RootList, others: list[DetailsList]) -> DetailsList:
        """Look in other lists for the details of devices that *details* lacks; make them up otherwise."""
        found = dict(details.devices)
        missing = sorted(roots.roots.keys() - found.keys())
        totals = self.trees.totals(roots.roots[dev_id] for dev_id in missing)
        for dev_id, (total, _, time) in zip(missing, totals, strict=True):
            choices = [one.devices[dev_id] for one in others if dev_id in one.devices]
            self.doubtful.add(dev_id)
            if choices:
                found[dev_id] = max(
                    choices,
                    key=lambda one: (one.mapped_blocks == total, one.transaction_id, one.snapshotted_time),
                )
                self.notes[dev_id] = "its details were found by searching"
            else:
                found[dev_id] = DeviceDetails(total, 0, time, time)
                self.made_up.add(dev_id)
                self.notes[dev_id] = "its details were lost and have been made up"
        return DetailsList(found, details.whole)

    # -- lost parts of trees ---------------------------------------------------------------------

    def _age_of(self, roots: RootList) -> Age:
        """How old a list is, by the details that fit it best."""
        same = [one for one in self.lists[0] if one.devices.keys() == roots.roots.keys()]
        best = max(same, key=lambda one: (self._matches(one, roots), one.age()), default=None)
        time = self._time_of(roots)
        return Age(0, time) if best is None else Age(best.age()[0], max(best.age()[1], time))

    def _older(self, roots: RootList, damaged: list[int]) -> dict[int, Found]:
        """What older copies have of the trees of *damaged* devices; notes say so of each."""
        if not damaged:
            return {}
        wanted = set(damaged)
        lists = [one for one in self.lists[1] if wanted & one.roots.keys()]
        # Commits without a new transaction or snapshot only ever add mappings, discards apart.
        size = {id(one): sum(total for total, _, _ in self.trees.totals(one.roots.values())) for one in lists}
        aged = sorted(
            ((self._age_of(one), size[id(one)], place) for place, one in enumerate(lists)), reverse=True
        )
        older: dict[int, list[OlderTree]] = {dev_id: [] for dev_id in damaged}
        for age, _, place in aged:
            for dev_id in sorted(wanted & lists[place].roots.keys()):
                root = lists[place].roots[dev_id]
                if root != roots.roots[dev_id] and all(root != tree.root for tree in older[dev_id]):
                    older[dev_id].append(OlderTree(root, age))
        latest = self.fields.time if self.sealed else _LARGEST
        found = fill_gaps(
            self.reader, roots.roots, older,
            latest=latest, data_chunks=self.fields.data_sm_root.nr_blocks,
        )  # fmt: skip
        # Devices with the same root have the same content, and lack the same.
        by_root = {roots.roots[dev_id]: one for dev_id, one in reversed(found.items())}
        filled = {dev_id: by_root[root] for dev_id, root in roots.roots.items() if root in by_root}
        for dev_id, one in filled.items():
            self.doubtful.add(dev_id)
            self.notes[dev_id] = self._describe(one)
        return filled

    def _describe(self, found: Found) -> str:
        ages = " and ".join(
            f"of transaction {age.transaction_id} or later, time {age.time}" for age in found.ages
        )
        now = f"the pool's is {self.fields.transaction_id}, time {self.fields.time}"
        text = f"{found.count} of them are from an older copy of its tree ({ages}; {now}): check its content"
        if found.given_away:
            text += f"; {found.given_away} of that copy were left out, their space is in other use now"
        return text

    # -- the end ---------------------------------------------------------------------------------

    def _finish(self, details: DetailsList, roots: RootList, searched: bool, damaged: list[int]) -> Recovered:
        devices = {dev_id: one for dev_id, one in details.devices.items() if dev_id in roots.roots}
        lost = [
            (dev_id, one.mapped_blocks)
            for dev_id, one in sorted(details.devices.items())
            if dev_id not in roots.roots
        ]
        if details.devices and not devices:
            raise CorruptError(
                f"no compatible roots found: no mapping tree of any device is left in {self.reader.name}",
                hint="restore a copy of the metadata",
            )
        self._choose(details, roots)
        fields = self.fields
        for dev_id in self.made_up & devices.keys():
            devices[dev_id] = devices[dev_id]._replace(transaction_id=max(fields.transaction_id - 1, 0))
        if not self.sealed:
            fields.time = max(details.age()[1], self._time_of(roots))
        if fields.time > TIME_MASK:
            # The kernel puts it below the block number of each new mapping, which more bits would change.
            self.problems.add("superblock", f"its time {fields.time} is more than {TIME_MASK}, the largest")
            fields.time = TIME_MASK
        kept = {dev_id: roots.roots[dev_id] for dev_id in devices}
        older = self._older(RootList(kept, roots.whole), [dev_id for dev_id in damaged if dev_id in kept])
        if self.doubtful:
            # A time after all of their mappings makes the kernel copy whatever might be shared.
            later = fields.time + 1
            fields.time = min(later, TIME_MASK)
            for dev_id in self.doubtful & devices.keys():
                devices[dev_id] = devices[dev_id]._replace(snapshotted_time=later)
        metadata = Metadata(self.reader, fields, tolerant=True)
        metadata.problems.merge(self.problems)
        metadata.details = dict(sorted(devices.items()))
        metadata.roots = {dev_id: roots.roots[dev_id] for dev_id in metadata.details}
        metadata.older = {metadata.roots[dev_id]: one.pieces for dev_id, one in older.items()}
        for dev_id, _ in lost:
            metadata.problems.add(f"thin device {dev_id}", "it has details, but no mapping tree")
        return Recovered(metadata, searched, self.notes, lost)
