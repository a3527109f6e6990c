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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.lvm.format.text import Section

READ, WRITE, WRITE_LOCKED = "READ", "WRITE", "WRITE_LOCKED"
VISIBLE, RESIZEABLE, EXPORTED, ALLOCATABLE = "VISIBLE", "RESIZEABLE", "EXPORTED", "ALLOCATABLE"
MISSING, PARTIAL, CLUSTERED, SHARED = "MISSING", "PARTIAL", "CLUSTERED", "SHARED"

POLICIES = ("contiguous", "cling", "cling_by_tags", "normal", "anywhere", "inherit")


@dataclass(slots=True, eq=False)
class PhysicalVolume:
    """One disk of a group, or (with ``group_name`` empty) a disk that belongs to none yet.

    ``device`` is the path at which the disk was found, or the text's hint while it is missing.
    """

    uuid: str
    device: str
    name: str = ""
    """Its key in the group's text: ``pv0``, ``pv1``; given anew at every write, as LVM does."""
    status: list[str] = field(default_factory=lambda: [ALLOCATABLE])
    flags: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    dev_sectors: int = 0
    """The size in the text: what LVM may use of the disk (``--setphysicalvolumesize`` lowers it)."""
    pe_start: int = 0
    """Where extent 0 lies on the disk, in sectors."""
    pe_count: int = 0
    ba_start: int = 0
    """Boot loader area, in sectors; size 0 means none."""
    ba_size: int = 0
    device_id: str = ""
    device_id_type: str = ""
    extra: Section = field(default_factory=dict)
    missing: bool = False
    """No device with its UUID was found."""

    @property
    def size(self) -> int:
        """Bytes that LVM may use of the disk, its own metadata included."""
        return self.dev_sectors * SECTOR

    @property
    def allocatable(self) -> bool:
        return ALLOCATABLE in self.status

    @property
    def exported(self) -> bool:
        return EXPORTED in self.status


@dataclass(slots=True, eq=False)
class Area:
    """Where one stripe of a segment lies: extents of a physical volume, or of another logical volume."""

    pv: PhysicalVolume | None
    extent: int
    """First extent on ``pv`` or in ``lv``."""
    lv: str = ""


@dataclass(slots=True, eq=False)
class Segment:
    """A run of a logical volume's extents that is mapped in one way.

    This base class stands for every type that Lamella reads and reports but does not change
    (raid*, mirror, cache, snapshot, vdo, error, ...): its own keys are in ``extra``, in order.
    """

    type: str
    """The text's word, flags included ("cache-pool+METADATA_FORMAT"); a linear one is "striped"."""
    start_extent: int
    extent_count: int
    tags: list[str] = field(default_factory=list)
    extra: Section = field(default_factory=dict)
    mapped: list[Area] = field(default_factory=list)
    """What the text's ``stripes`` or ``mirrors`` list says."""

    @property
    def kind(self) -> str:
        """The type without its ``+FLAG`` suffixes."""
        return self.type.partition("+")[0]

    @property
    def type_flags(self) -> list[str]:
        return self.type.split("+")[1:]

    @property
    def area_extents(self) -> int:
        """Extents that the segment takes from each of ``mapped``."""
        if self.kind in ("striped", "raid0") and self.mapped:
            return self.extent_count // len(self.mapped)
        return self.extent_count

    def areas(self) -> list[Area]:
        """The data areas in order, where the type has such (stripes, mirrors, raid images)."""
        found = list(self.mapped)
        pairs = self.extra.get("raids")
        if isinstance(pairs, list):
            found += [Area(None, 0, name) for name in pairs[1::2] if isinstance(name, str)]
        pairs = self.extra.get("raid0_lvs")
        if isinstance(pairs, list):
            found += [Area(None, 0, name) for name in pairs if isinstance(name, str)]
        return found

    def metadata_areas(self) -> list[Area]:
        """A raid's metadata sub-volumes, in order."""
        pairs = self.extra.get("raids")
        if not isinstance(pairs, list):
            return []
        return [Area(None, 0, name) for name in pairs[::2] if isinstance(name, str)]

    def references(self) -> Iterator[tuple[str, str]]:
        """(role, name) of every logical volume that this segment is built on or points at.

        Roles are the text's keys; those of areas are "area" and "metadata_area".
        """
        for area in self.areas():
            if area.lv:
                yield "area", area.lv
        for area in self.metadata_areas():
            yield "metadata_area", area.lv
        for key in REFERENCE_KEYS:
            value = self.extra.get(key)
            if isinstance(value, str) and value:
                yield key, value

    def rename(self, old: str, new: str) -> None:
        """Let every reference to the logical volume *old* say *new*."""
        for key, value in self.extra.items():
            if key in REFERENCE_KEYS and value == old:
                self.extra[key] = new
            elif key in ("raids", "raid0_lvs") and isinstance(value, list):
                self.extra[key] = [new if item == old else item for item in value]
        for area in self.mapped:
            if area.lv == old:
                area.lv = new


REFERENCE_KEYS = (
    "cache_pool",
    "origin",
    "cow_store",
    "merging_store",
    "data",
    "metadata",
    "mirror_log",
    "writecache",
    "vdo_pool",
    "integrity_meta_dev",
    "external_origin",
    "thin_pool",
    "pool",
    "merge",
)
"""Keys of segments (of all types) whose value names another logical volume."""


@dataclass(slots=True, eq=False)
class StripedSegment(Segment):
    """Linear (one area) or striped (``stripe_size`` sectors on each area in turn)."""

    stripe_size: int = 0
    """Sectors; 0 with a single stripe."""

    @property
    def stripes(self) -> list[Area]:
        """The same as ``mapped``."""
        return self.mapped


@dataclass(slots=True, eq=False)
class ThinPoolSegment(Segment):
    """A thin pool: metadata and data volumes, and what LVM has yet to tell dm-thin (``messages``)."""

    metadata: str = ""
    data: str = ""
    transaction_id: int = 0
    chunk_sectors: int = 128
    discards: str = "passdown"
    """"passdown", "nopassdown" or "ignore"."""
    zero: bool = False
    crop_metadata: bool | None = None
    """Whether metadata is cut to what the oldest kernels took; None where the text does not say."""
    messages: list[tuple[str, str | int]] = field(default_factory=list)
    """("create", thin volume's name) or ("delete", device id), in order."""

    @property
    def chunk_size(self) -> int:
        """Bytes."""
        return self.chunk_sectors * SECTOR

    def areas(self) -> list[Area]:
        return [Area(None, 0, self.data)]

    def metadata_areas(self) -> list[Area]:
        return []

    def references(self) -> Iterator[tuple[str, str]]:
        yield "metadata", self.metadata
        yield "pool", self.data
        for verb, name in self.messages:
            if verb == "create" and isinstance(name, str):
                yield "message", name

    def rename(self, old: str, new: str) -> None:
        self.metadata = new if self.metadata == old else self.metadata
        self.data = new if self.data == old else self.data
        self.messages = [(verb, new if what == old else what) for verb, what in self.messages]


@dataclass(slots=True, eq=False)
class ThinSegment(Segment):
    """A thin volume; the names are of other logical volumes, "" where there is none."""

    pool: str = ""
    transaction_id: int = 0
    device_id: int = 0
    external_origin: str = ""
    origin: str = ""
    merge: str = ""

    def areas(self) -> list[Area]:
        return []

    def metadata_areas(self) -> list[Area]:
        return []

    def references(self) -> Iterator[tuple[str, str]]:
        yield "thin_pool", self.pool
        for role in ("external_origin", "origin", "merge"):
            if name := getattr(self, role):
                yield role, name

    def rename(self, old: str, new: str) -> None:
        for role in ("pool", "external_origin", "origin", "merge"):
            if getattr(self, role) == old:
                setattr(self, role, new)


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
        return WRITE in self.status or WRITE_LOCKED in self.status

    @property
    def kind(self) -> str:
        """The type of the first segment, "linear" for a striped one with one area."""
        first = self.segments[0]
        if first.kind == "striped" and len(first.areas()) == 1:
            return "linear"
        return first.kind

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
class HistoricalVolume:
    """A removed thin volume that LVM still remembers (``metadata/record_lvs_history``)."""

    name: str
    uuid: str
    creation_time: int = 0
    removal_time: int = 0
    origin: str = ""
    descendants: list[str] = field(default_factory=list)
    extra: Section = field(default_factory=dict)


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
        return next((pv for pv in self.pvs if pv.device == path), None)

    def is_visible(self, lv: LogicalVolume) -> bool:
        """Whether LVM lists it without ``-a``: an old snapshot's store counts, its record does not."""
        return self._is_visible(lv, self._snapshot_records())

    def _is_visible(self, lv: LogicalVolume, records: dict[str, LogicalVolume]) -> bool:
        if lv.segments and lv.segments[0].kind == "snapshot":
            return False
        record = records.get(lv.name)
        if record is None or "merging_store" in record.segments[0].extra:
            return lv.visible
        origin = self._origin(record)
        # An origin that exists only virtually is hidden while its snapshot is shown.
        return origin is None or origin.visible or origin.name.endswith("_vorigin")

    def _origin(self, record: LogicalVolume) -> LogicalVolume | None:
        name = record.segments[0].extra.get("origin")
        return self.lvs.get(name) if isinstance(name, str) else None

    def snapshot_record(self, lv: LogicalVolume) -> LogicalVolume | None:
        """The hidden ``snapshotN`` volume that makes *lv* the store of an old-style snapshot."""
        return self._snapshot_records().get(lv.name)

    def snapshot_origin(self, lv: LogicalVolume) -> LogicalVolume | None:
        """The origin of an old-style snapshot's store, or None if *lv* is not such a store."""
        record = self.snapshot_record(lv)
        return None if record is None else self._origin(record)

    def _snapshot_records(self) -> dict[str, LogicalVolume]:
        found = {}
        for lv in self.lvs.values():
            if lv.segments and lv.segments[0].kind == "snapshot":
                extra = lv.segments[0].extra
                store = extra.get("cow_store") or extra.get("merging_store")
                if isinstance(store, str):
                    found[store] = lv
        return found

    def visible_lvs(self) -> list[LogicalVolume]:
        """What ``lvs`` without ``-a`` would list, in the group's own order."""
        records = self._snapshot_records()
        return [lv for lv in self.lvs.values() if self._is_visible(lv, records)]

    def users(self) -> dict[str, list[tuple[LogicalVolume, Segment, str]]]:
        """For every volume that others refer to: (volume, its segment, role). Built anew by each call."""
        found: dict[str, list[tuple[LogicalVolume, Segment, str]]] = {}
        for lv in self.lvs.values():
            for segment in lv.segments:
                for role, name in segment.references():
                    found.setdefault(name, []).append((lv, segment, role))
        return found

    def thin_volumes(self, pool: LogicalVolume) -> list[LogicalVolume]:
        """The thin volumes of a pool, in the group's order."""
        return [lv for lv in self.lvs.values() if lv.thin is not None and lv.thin.pool == pool.name]

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
        return _gaps(self.used_ranges(pv), pv.pe_count)

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


def _gaps(used: list[tuple[int, int, LogicalVolume, Segment]], count: int) -> list[tuple[int, int]]:
    free, at = [], 0
    for start, length, _lv, _segment in used:
        if start > at:
            free.append((at, start - at))
        at = max(at, start + length)
    if at < count:
        free.append((at, count - at))
    return free
