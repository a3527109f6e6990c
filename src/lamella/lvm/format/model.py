# SPDX-License-Identifier: Apache-2.0
"""The volume group as LVM2 has it: physical volumes, logical volumes and their segments.

Sizes named ``*_sectors`` count 512-byte sectors, sizes named ``extents`` or ``*_extent`` count the
group's extents; properties named ``size`` are bytes. Names and defaults follow LVM2's text format
(lib/format_text/export.c and import_vsn1.c). Whatever a text holds that this model has no field
for is kept in ``extra`` and written back.

Logical volumes refer to one another by name (``group.lvs[segment.pool]``), as the text does;
:meth:`VolumeGroup.rename_lv` keeps the references right. Areas refer to a
:class:`PhysicalVolume` object or to a logical volume's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.block.ranges import gaps
from lamella.errors import NotFoundError, UsageError
from lamella.lvm.format import history
from lamella.lvm.format.physical_volume import EXPORTED
from lamella.lvm.format.segments import ThinPoolSegment, ThinSegment

if TYPE_CHECKING:
    from lamella.lvm.format.history import HistoricalVolume
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.format.segments import Segment
    from lamella.lvm.format.text import Section

READ, WRITE, WRITE_LOCKED = "READ", "WRITE", "WRITE_LOCKED"
VISIBLE, RESIZEABLE = "VISIBLE", "RESIZEABLE"
MISSING, CLUSTERED = "MISSING", "CLUSTERED"

POLICIES = ("contiguous", "cling", "cling_by_tags", "normal", "anywhere", "inherit")


@dataclass(slots=True, eq=False)
class LogicalVolume:
    """A logical volume; ``segments`` follow one another without gaps from extent 0."""

    name: str
    uuid: str
    status: list[str] = field(default_factory=lambda: [READ, WRITE, VISIBLE])
    flags: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    creation_time: int = 0
    """Seconds since 1970; 0 where the text has none."""
    creation_host: str = ""
    allocation_policy: str = ""
    """"" stands for inherit."""
    profile: str = ""
    read_ahead: int | None = None
    """Sectors; None is "auto", 0 is "none"."""
    major: int | None = None
    minor: int | None = None
    lock_args: str = ""
    segments: list[Segment] = field(default_factory=list)
    extra: Section = field(default_factory=dict)

    @property
    def extents(self) -> int:
        """Its length in extents."""
        return sum(segment.extent_count for segment in self.segments)

    @property
    def visible(self) -> bool:
        """The VISIBLE flag itself; :meth:`VolumeGroup.is_visible` is what LVM shows."""
        return VISIBLE in self.status

    @property
    def writable(self) -> bool:
        return WRITE in self.status

    @property
    def kind(self) -> str:
        """The type of the first segment, "linear" for a striped one with one area; "" without segments."""
        if not self.segments:
            return ""
        first = self.segments[0]
        return "linear" if first.kind == "striped" and len(first.mapped) < 2 else first.kind

    @property
    def thin_pool(self) -> ThinPoolSegment | None:
        """The pool's segment, if this is a thin pool."""
        first = self.segments[0] if self.segments else None
        return first if isinstance(first, ThinPoolSegment) else None

    @property
    def thin(self) -> ThinSegment | None:
        """The thin volume's segment, if this is one."""
        first = self.segments[0] if self.segments else None
        return first if isinstance(first, ThinSegment) else None


@dataclass(slots=True, eq=False)
class VolumeGroup:
    """A volume group, as one metadata text describes it."""

    name: str
    uuid: str
    seqno: int = 0
    format: str = "lvm2"
    status: list[str] = field(default_factory=lambda: [RESIZEABLE, READ, WRITE])
    flags: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    system_id: str = ""
    lock_type: str = ""
    lock_args: str = ""
    extent_sectors: int = 8192
    max_lv: int = 0
    max_pv: int = 0
    allocation_policy: str = ""
    """"" stands for normal."""
    profile: str = ""
    metadata_copies: int = 0
    """How many metadata areas to use; 0 is "unmanaged" (all)."""
    pvs: list[PhysicalVolume] = field(default_factory=list)
    lvs: dict[str, LogicalVolume] = field(default_factory=dict)
    historical: list[HistoricalVolume] = field(default_factory=list)
    extra: Section = field(default_factory=dict)
    description: str = ""
    creation_host: str = ""
    creation_time: int = 0
    remarks: list[str] = field(default_factory=list)
    """LVM2's warnings about values in the text that were replaced."""

    @property
    def extent_size(self) -> int:
        """Bytes in an extent."""
        return self.extent_sectors * SECTOR

    @property
    def exported(self) -> bool:
        return EXPORTED in self.status

    @property
    def clustered(self) -> bool:
        return CLUSTERED in self.status

    @property
    def write_locked(self) -> bool:
        """Whether the text says WRITE_LOCKED in place of WRITE, which programs that do not know of system IDs
        and lock types take for read-only. Authority: lib/format_text/export.c.
        """
        return bool(self.system_id) or self.lock_type not in ("", "none")

    @property
    def shared(self) -> bool:
        """Managed by lvmlockd on several hosts."""
        return self.lock_type in ("sanlock", "dlm", "idm")

    @property
    def extents(self) -> int:
        """All extents of all physical volumes."""
        return sum(pv.pe_count for pv in self.pvs)

    @property
    def policy(self) -> str:
        return self.allocation_policy or "normal"

    def size_of(self, lv: LogicalVolume) -> int:
        """Bytes."""
        return lv.extents * self.extent_size

    def pv_by_device(self, path: str) -> PhysicalVolume | None:
        """The physical volume found at *path*."""
        return next((pv for pv in self.pvs if pv.device == path and not pv.missing), None)

    def find_lv(self, name: str) -> LogicalVolume:
        """The volume called *name*. Raises :class:`NotFoundError` with LVM2's message."""
        lv = self.lvs.get(name)
        if lv is None:
            raise NotFoundError(
                f'Failed to find logical volume "{self.name}/{name}"',
                hint=f"lvs -a {self.name} lists its volumes",
            )
        return lv

    def pool_segment(self, lv: LogicalVolume) -> ThinPoolSegment:
        """The segment of the thin pool *lv*. Raises :class:`UsageError` for other volumes."""
        if lv.thin_pool is None:
            raise UsageError(f"{self.name}/{lv.name} is not a thin pool.", hint=f"lvs {self.name}")
        return lv.thin_pool

    def snapshot_records(self) -> dict[str, LogicalVolume]:
        """The hidden ``snapshotN`` volumes that make others stores of old-style snapshots, by the store."""
        found = {}
        for lv in self.lvs.values():
            if lv.segments and lv.segments[0].kind == "snapshot":
                extra = lv.segments[0].extra
                store = extra.get("cow_store") or extra.get("merging_store")
                if isinstance(store, str):
                    found[store] = lv
        return found

    def snapshot_origin(self, lv: LogicalVolume) -> LogicalVolume | None:
        """The origin of an old-style snapshot's store, or None if *lv* is not such a store."""
        return self._origin(self.snapshot_records().get(lv.name))

    def _origin(self, record: LogicalVolume | None) -> LogicalVolume | None:
        name = record.segments[0].extra.get("origin") if record is not None else None
        return self.lvs.get(name) if isinstance(name, str) else None

    def is_visible(self, lv: LogicalVolume) -> bool:
        """Whether LVM lists it without ``-a``: as :meth:`visible_lvs`."""
        return self._is_visible(lv, self.snapshot_records())

    def visible_lvs(self) -> list[LogicalVolume]:
        """What ``lvs`` without ``-a`` lists, in the group's own order.

        Of old-style snapshots LVM2 hides the record, and the store of one that is being merged. It takes a
        hidden origin for a virtual one (``lvcreate -s --virtualsize``), and shows the snapshot in its place.
        """
        records = self.snapshot_records()
        return [lv for lv in self.lvs.values() if self._is_visible(lv, records)]

    def _is_visible(self, lv: LogicalVolume, records: dict[str, LogicalVolume]) -> bool:
        if lv.segments and lv.segments[0].kind == "snapshot":
            return False
        record = records.get(lv.name)
        origin = self._origin(record)
        if record is None or origin is None:
            return lv.visible
        return not origin.visible or "merging_store" not in record.segments[0].extra

    def users(self) -> dict[str, list[tuple[LogicalVolume, Segment, str]]]:
        """For every volume that others refer to: (volume, its segment, role). Computed by each call."""
        found: dict[str, list[tuple[LogicalVolume, Segment, str]]] = {}
        for lv in self.lvs.values():
            for segment in lv.segments:
                for role, name in segment.references():
                    found.setdefault(name, []).append((lv, segment, role))
        return found

    def thin_volumes(self, pool: LogicalVolume) -> list[LogicalVolume]:
        """The thin volumes of a pool, in the group's order."""
        return [lv for lv in self.lvs.values() if lv.thin is not None and lv.thin.pool == pool.name]

    def merging_snapshot(self, origin: LogicalVolume) -> LogicalVolume | None:
        """The thin snapshot that takes the place of *origin* when that is activated next."""
        return next(
            (lv for lv in self.lvs.values() if lv.thin is not None and lv.thin.merge == origin.name), None
        )

    def pool_was_used(self, pool: LogicalVolume) -> bool:
        """Whether the text knows of volumes that the thin pool has or had, beside those that are queued."""
        segment = self.pool_segment(pool)
        queued = {what for verb, what in segment.messages if verb == "create"}
        if segment.transaction_id > bool(segment.messages):
            return True
        return any(lv.name not in queued for lv in self.thin_volumes(pool))

    def used_ranges(self, pv: PhysicalVolume) -> list[tuple[int, int, LogicalVolume, Segment]]:
        """(first extent, count, volume, segment) of every used run on *pv*, by first extent."""
        return self.extent_map().get(pv.uuid, [])

    def extent_map(self) -> dict[str, list[tuple[int, int, LogicalVolume, Segment]]]:
        """:meth:`used_ranges` of all physical volumes at once, keyed by UUID."""
        found: dict[str, list[tuple[int, int, LogicalVolume, Segment]]] = {pv.uuid: [] for pv in self.pvs}
        for lv in self.lvs.values():
            for segment in lv.segments:
                for area in segment.mapped:
                    if area.pv is not None:
                        found[area.pv.uuid].append((area.extent, segment.area_extents, lv, segment))
        for ranges in found.values():
            ranges.sort(key=lambda used: used[0])
        return found

    def free_ranges(self, pv: PhysicalVolume) -> list[tuple[int, int]]:
        """(first extent, count) of every unused run on *pv*, in order."""
        used = ((start, count) for start, count, _lv, _segment in self.used_ranges(pv))
        return list(gaps(used, pv.pe_count))

    def free_extents(self, pv: PhysicalVolume | None = None) -> int:
        """Unused extents of *pv*, or of the whole group."""
        if pv is not None:
            return sum(count for _start, count in self.free_ranges(pv))
        used = self.extent_map()
        return sum(pv.pe_count - sum(run[1] for run in used[pv.uuid]) for pv in self.pvs)

    def rename_lv(self, lv: LogicalVolume, new: str) -> None:
        """Give *lv* another name everywhere in the group; its place in the order stays."""
        old = lv.name
        lv.name = new
        self.lvs = {volume.name: volume for volume in self.lvs.values()}
        for volume in self.lvs.values():
            for segment in volume.segments:
                segment.rename(old, new)
        history.rename(self.historical, old, new)

    def forget_lv(self, lv: LogicalVolume, *, recorded: int = 0) -> None:
        """Remove *lv* from the group, and from what names it without being built on it.

        A thin volume with ancestors or descendants is kept as a record, as removed at the time *recorded*
        (seconds since 1970), unless that is 0.
        """
        if recorded:
            self._record(lv, recorded)
        del self.lvs[lv.name]
        for other in self.lvs.values():
            thin = other.thin
            if thin is not None:
                thin.origin = "" if thin.origin == lv.name else thin.origin
                thin.merge = "" if thin.merge == lv.name else thin.merge
        history.forget(self.historical, lv.name)

    def _record(self, lv: LogicalVolume, now: int) -> None:
        origin = self.origin_or_record(lv)
        below = [other.name for other in self.thin_snapshots(lv)]
        if origin or below or any(record.origin == lv.name for record in self.historical):
            record = history.HistoricalVolume(lv.name, lv.uuid, lv.creation_time, now, origin, below)
            history.add(self.historical, record)

    def origin_or_record(self, lv: LogicalVolume) -> str:
        """The thin volume, or the record of one, of which *lv* was made; "" if it was made of none."""
        if lv.thin is None:
            return ""
        return lv.thin.origin or history.above(self.historical, lv.name)

    def thin_snapshots(self, lv: LogicalVolume) -> list[LogicalVolume]:
        """The thin snapshots of the thin volume *lv*, in the group's order."""
        return [one for one in self.lvs.values() if one.thin is not None and one.thin.origin == lv.name]

    def drop_old_history(self) -> list[str]:
        """Remove the records of removed volumes that no volume descends from, as LVM2 does; their names."""
        dropped = history.without_descendants(self.historical)
        self.historical = [record for record in self.historical if record not in dropped]
        return [record.name for record in dropped]
