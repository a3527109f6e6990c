# SPDX-License-Identifier: Apache-2.0
"""Extending the volumes of a direct-lvm pool in their volume group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.driver.grow_size import wanted_size
from lamella.errors import NoSpaceError
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.direct_lvm.group import Disks
    from lamella.driver.direct_lvm.record import Record
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.session.activator_interface import Activator
    from lamella.lvm.session.session import Session


class GroupGrowth:
    """Growing a pool in a volume group, with *activator* also while the kernel has it active."""

    def __init__(self, disks: Disks, record: Record, activator: Activator | None) -> None:
        self.disks = disks
        self.record = record
        self.activator = activator

    def run(
        self, *, data: str, metadata: str, paths: Sequence[str], force: bool
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Add *paths* to the group, then extend the pool; (data, metadata) in bytes before and after.

        *data* and *metadata* are as :func:`wanted_size` has them, "" for no growth; where only disks are
        named, data gets their space. Raises :class:`NoSpaceError` where the group has no room.
        """
        with self._session(paths) as session:
            new = self._check_disks(session, paths, force)
            with session.all_locked(), session.editing(self.record.group) as found:
                if new:
                    self._check_sizes(found, data, metadata, new)
                    self._add_disks(session, found, list(new), force)
                return self._grow(session, found, data, metadata, only_disks=bool(paths))

    def _session(self, paths: Sequence[str]) -> Session:
        from lamella.lvm.disks.disk import open_shared
        from lamella.lvm.session.session import Session

        looked, _ = self.disks.find(self.record.group, self.record.disks)
        known = looked.paths
        looked.close()
        return Session(
            list(dict.fromkeys([*known, *paths])),
            self.disks.environment,
            opener=self.disks.opener if self.activator is None else open_shared,
            activator=self.activator,
        )

    def _check_disks(self, session: Session, paths: Sequence[str], force: bool) -> dict[str, int]:
        """Those of *paths* that are not in the group yet, with their sizes in bytes.

        Raises for what must not be used.
        """
        from lamella.driver.direct_lvm.preflight import check, check_free_to_write, look_at_all

        group = session.find(self.record.group)
        there = {disk.path for disk in group.disks.values()}
        new = [path for path in paths if path not in there]
        reports = look_at_all(new, self.disks.opener)
        check(reports, force=force, own=list(self.record.disks.values()))
        for path in new:
            check_free_to_write(path, self.disks.opener)
        return {report.path: report.size for report in reports}

    def _check_sizes(self, found: FoundGroup, data: str, metadata: str, new: dict[str, int]) -> None:
        """Raise, before a disk is written to, for sizes that are wrong or do not fit."""
        from lamella.driver.direct_lvm.group import pool_of
        from lamella.lvm.disks.pv_layout import DEFAULT_ALIGNMENT

        group = found.group
        _, segment = pool_of(found, self.record.pool)
        extent = group.extent_size
        more = sum(max((size - DEFAULT_ALIGNMENT) // extent, 0) for size in new.values())
        free = (group.free_extents() + more) * extent
        needed = 0
        for text, volume in ((metadata, segment.metadata), (data, segment.data)):
            if text:
                now = group.size_of(group.lvs[volume])
                needed += wanted_size(text, now, free=free) - now
        if needed > free:
            raise NoSpaceError(
                f"cannot extend {group.name}/{self.record.pool} by {human_size(needed)}: with "
                f"{', '.join(new)} its volume group has {human_size(free)} free",
                hint="ask for less, or give it a larger disk",
            )

    def _add_disks(self, session: Session, found: FoundGroup, paths: list[str], force: bool) -> None:
        from lamella.lvm.format.ids import new_uuid
        from lamella.lvm.operations.physical_volumes import PvOptions, create_pv
        from lamella.lvm.operations.volume_groups import extend_group
        from lamella.lvm.session.devices_file import change_list

        uuids = {path: self.record.disks.get(path) or new_uuid() for path in paths}
        if self.record.made:  # recorded first, so that a teardown knows them however this ends
            self.record.disks.update(uuids)
            self.record.save(self.disks.root / "direct-lvm.json")
        change_list(self.disks.list_path, paths)
        for path, uuid in uuids.items():
            label = session.find_disk(path).label
            if label is None or label.uuid != uuid:
                create_pv(session, path, PvOptions(uuid=uuid, zero=True, force=int(force), yes=force))
        extend_group(session, found, paths)
        self.disks.enter(paths)

    def _grow(
        self, session: Session, found: FoundGroup, data: str, metadata: str, *, only_disks: bool
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        from lamella.driver.direct_lvm.group import pool_of
        from lamella.lvm.operations.pool_resize import resize_pool

        lv, segment = pool_of(found, self.record.pool)
        group = found.group
        parts = group.lvs[segment.data], group.lvs[segment.metadata]
        before = group.size_of(parts[0]), group.size_of(parts[1])
        extent = group.extent_size
        free = group.free_extents() * extent
        extents: list[int | None] = [None, None]
        if metadata:
            extents[1] = -(-wanted_size(metadata, before[1], free=free) // extent)
        if data or only_disks:
            wanted = wanted_size(data or "+100%FREE", before[0], free=free)
            share = not data or data.upper().endswith("FREE")
            extents[0] = wanted // extent if share else -(-wanted // extent)
            if share and extents[1] is None:
                extents = [self._less_metadata(found, lv, extents[0] or 0), None]
        try:
            resize_pool(session, found, lv, data_extents=extents[0], metadata_extents=extents[1])
        except NoSpaceError as error:
            raise NoSpaceError(
                error.message,
                hint=f"volume group {group.name} has {human_size(free)} free; give it another disk with: "
                "lamella grow --disk DISK",
            ) from error
        return before, (group.size_of(parts[0]), group.size_of(parts[1]))

    @staticmethod
    def _less_metadata(found: FoundGroup, lv: LogicalVolume, data: int) -> int:
        """*data* extents, or fewer, so that the metadata and its spare can grow as these need."""
        from lamella.lvm.operations.thin_sizes import estimate

        group, segment = found.group, lv.thin_pool
        assert segment is not None
        metadata = group.lvs[segment.metadata].extents
        needed = -(-estimate(data, group.extent_sectors, segment.chunk_sectors) // group.extent_sectors)
        return data - 2 * max(0, needed - metadata)
