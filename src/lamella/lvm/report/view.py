# SPDX-License-Identifier: Apache-2.0
"""What a report needs beside the volume group: indexes over it, its devices, and what is active.

A :class:`GroupView` is made once per group and report; everything in it is computed at first use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.format.segments import Segment
    from lamella.lvm.report.ancestry import RemovedVolume

Run = tuple[int, int, "LogicalVolume | None", "Segment | None", int]
"""First extent, count, the volume and segment that use it (None: free), first extent in that volume."""


@dataclass(slots=True, eq=False, repr=False)
class DeviceInfo:
    """A scanned device. Sizes are bytes; ``mda_*`` sum up its metadata areas."""

    path: str
    size: int
    major: int = -1
    minor: int = -1
    uuid: str = ""
    """Of the physical volume on it; "" if there is none."""
    mda_count: int = 0
    mda_used: int = 0
    mda_size: int = 0
    """The smallest area."""
    mda_free: int = 0
    """Room for text in the fullest area."""
    extension: int | None = 2
    duplicate: bool = False
    used: bool = False
    """Marked as belonging to a group."""
    group: str = ""
    """What a disk that is shown outside of a group says about its own."""


@dataclass(slots=True, eq=False, repr=False)
class Usage:
    """How full a thin pool (both) or a thin volume (``data`` only) is, in per cent; None: not known."""

    data: float | None = None
    metadata: float | None = None


@dataclass(slots=True, eq=False, repr=False)
class KernelState:
    """What the kernel's device-mapper holds for a volume."""

    major: int
    minor: int
    suspended: bool = False
    open: bool = False
    read_only: bool = False
    read_ahead: int = -1
    """Bytes."""
    live_table: bool = True
    inactive_table: bool = False
    open_count: int = 0


@dataclass(slots=True, eq=False, repr=False)
class TargetState:
    """The status of the kernel's target of a thin pool or a thin volume."""

    usage: Usage
    health: str = ""
    """"", or ``failed``, ``out_of_data``, ``metadata_read_only``."""
    needs_check: bool | None = None
    discards: str = ""


@dataclass(eq=False, repr=False)
class Sources:
    """Where reports get what is not in the metadata.

    With *activation* False device-mapper is not asked: reports then say "unknown", as LVM2
    does with ``global/activation=0``. *kernel* gives the state of an active volume, or None;
    *thin_usage* how full a thin pool or volume is where the kernel does not have it.
    """

    activation: bool = True
    kernel: Callable[[VolumeGroup, LogicalVolume], KernelState | None] = lambda vg, lv: None
    thin_usage: Callable[[VolumeGroup, LogicalVolume], Usage] = lambda vg, lv: Usage()
    mark_hidden: bool = True
    """``report/mark_hidden_devices``."""
    time_format: str = "%Y-%m-%d %H:%M:%S %z"
    active: Callable[[VolumeGroup, LogicalVolume], bool] | None = None
    """Whether a volume is active, where that is not just whether it has a state."""
    target: Callable[[VolumeGroup, LogicalVolume], TargetState | None] = lambda vg, lv: None
    top_state: Callable[[VolumeGroup, LogicalVolume], KernelState | None] | None = None
    """The state of the volume's own device, where *kernel* reports a pool's inner device."""
    monitored: Callable[[VolumeGroup, LogicalVolume], str] = lambda vg, lv: ""
    """What ``seg_monitor`` says of a thin pool."""


def pools_first(lvs: Iterable[LogicalVolume]) -> list[LogicalVolume]:
    """Volumes in the order in which LVM2's commands go through a group: its thin pools, the last one first,
    and then the others.
    """
    pools: list[LogicalVolume] = []
    others: list[LogicalVolume] = []
    for lv in lvs:
        (others if lv.thin_pool is None else pools).append(lv)
    return [*reversed(pools), *others]


@dataclass(eq=False, repr=False)
class GroupView:
    """A volume group with the indexes that its reports use. *vg* None: the disks of no group."""

    vg: VolumeGroup | None
    devices: dict[str, DeviceInfo] = field(default_factory=dict)
    """By the physical volume's UUID."""
    sources: Sources = field(default_factory=Sources)
    orphans: list[PhysicalVolume] = field(default_factory=list)
    """Without a group: its disks."""
    shown_pvs: list[PhysicalVolume] | None = None
    """Only these disks are reported; None: all."""
    shown_lvs: list[LogicalVolume] | None = None
    """Only these volumes are reported, hidden or not; None: all that are asked for."""
    with_history: bool = False
    """Whether removed volumes that the group remembers are shown too."""

    @property
    def group(self) -> VolumeGroup:
        """The group, for fields that only groups have."""
        if self.vg is None:
            raise LookupError("these disks belong to no group")
        return self.vg

    @cached_property
    def users(self) -> dict[str, list[tuple[LogicalVolume, Segment, str]]]:
        return self.group.users()

    @cached_property
    def extent_map(self) -> dict[str, list[tuple[int, int, LogicalVolume, Segment]]]:
        return self.group.extent_map() if self.vg is not None else {}

    @cached_property
    def used(self) -> dict[str, int]:
        """Used extents of every disk, by UUID."""
        return {uuid: sum(run[1] for run in runs) for uuid, runs in self.extent_map.items()}

    @cached_property
    def snapshot_stores(self) -> dict[str, tuple[str, Segment]]:
        """Stores of old-style snapshots: name to (origin's name, the record's segment)."""
        records = {store: lv.segments[0] for store, lv in self.group.snapshot_records().items()}
        return {store: (str(record.extra.get("origin", "")), record) for store, record in records.items()}

    @cached_property
    def snapshot_origins(self) -> dict[str, list[str]]:
        """Origins of old-style snapshots, with the names of their stores."""
        found: dict[str, list[str]] = {}
        for store, (origin, _record) in self.snapshot_stores.items():
            found.setdefault(origin, []).append(store)
        return found

    @cached_property
    def thin_counts(self) -> dict[str, int]:
        """Thin volumes in every pool."""
        counts: dict[str, int] = {}
        for lv in self.group.lvs.values():
            thin = lv.thin
            if thin is not None:
                counts[thin.pool] = counts.get(thin.pool, 0) + 1
        return counts

    @cached_property
    def children(self) -> dict[str, list[LogicalVolume]]:
        """Snapshots of every volume (thin, external and old-style ones), in the group's order."""
        found: dict[str, list[LogicalVolume]] = {}
        for lv in self.group.lvs.values():
            origin = self.origin_of(lv)
            if origin:
                found.setdefault(origin, []).append(lv)
        return found

    @cached_property
    def external_origins(self) -> set[str]:
        return {lv.thin.external_origin for lv in self.group.lvs.values() if lv.thin is not None} - {""}

    @cached_property
    def thin_origins(self) -> set[str]:
        return {lv.thin.origin for lv in self.group.lvs.values() if lv.thin is not None} - {""}

    @cached_property
    def related(self) -> set[str]:
        """Volumes that others are mapped to, are snapshots of, or otherwise refer to."""
        return {name for name, users in self.users.items() if users}

    @cached_property
    def plain_letters(self) -> dict[tuple[str, ...], str]:
        """Attributes of plain volumes by what they depend on; filled by ``lv_kinds``."""
        return {}

    def origin_of(self, lv: LogicalVolume) -> str:
        """What *lv* is a snapshot of; "" if it is none."""
        thin = lv.thin
        if thin is None and not self.snapshot_stores:
            return ""
        if thin is not None:
            return thin.origin or thin.external_origin
        store = self.snapshot_stores.get(lv.name)
        return store[0] if store else ""

    def visible(self, lv: LogicalVolume) -> bool:
        """Whether ``lvs`` shows it without ``-a``."""
        return lv.name in self._visible_names

    def marked(self, lv: LogicalVolume) -> str:
        """The name of *lv*, in brackets if it is hidden."""
        return lv.name if not self.sources.mark_hidden or self.visible(lv) else f"[{lv.name}]"

    def marked_name(self, name: str) -> str:
        lv = self.group.lvs.get(name)
        return self.marked(lv) if lv is not None else name

    def role_of(self, lv: LogicalVolume) -> tuple[LogicalVolume, Segment, str] | None:
        """(user, its segment, role) of the volume that *lv* is a part of, or None."""
        for user in self.users.get(lv.name, ()):
            if user[2] in PART_ROLES:
                return user
        return None

    @cached_property
    def visible_lvs(self) -> list[LogicalVolume]:
        return pools_first(self.group.visible_lvs())

    @cached_property
    def _visible_names(self) -> set[str]:
        return {lv.name for lv in self.visible_lvs}

    @cached_property
    def reportable_lvs(self) -> list[LogicalVolume]:
        """All volumes but the records of old-style snapshots."""
        lvs = self.group.lvs.values()
        return pools_first([lv for lv in lvs if not (lv.segments and lv.segments[0].kind == "snapshot")])

    @cached_property
    def removed(self) -> list[RemovedVolume]:
        """The removed volumes that the group remembers, if they are to be shown."""
        from lamella.lvm.report.ancestry import removed_volumes

        return removed_volumes(self.group) if self.with_history else []

    @cached_property
    def missing(self) -> list[PhysicalVolume]:
        return [pv for pv in self.group.pvs if pv.missing or "MISSING" in pv.flags]

    @cached_property
    def partial_lvs(self) -> set[str]:
        """Volumes that use, directly or not, a missing disk."""
        if not self.missing:
            return set()
        gone = {pv.uuid for pv in self.missing}
        partial = {
            lv.name
            for lv in self.group.lvs.values()
            for segment in lv.segments
            for area in segment.mapped
            if area.pv is not None and area.pv.uuid in gone
        }
        while True:
            more = {user[0].name for name in partial for user in self.users.get(name, ())} - partial
            if not more:
                return partial
            partial |= more

    def kernel(self, lv: LogicalVolume) -> KernelState | None:
        """What the kernel has for *lv*; None if it is not active, or device-mapper is not asked."""
        return self.sources.kernel(self.group, lv) if self.sources.activation else None

    def active(self, lv: LogicalVolume) -> bool:
        """Whether the kernel has the volume itself; False if device-mapper is not asked."""
        if not self.sources.activation:
            return False
        if self.sources.active is not None:
            return self.sources.active(self.group, lv)
        return self.sources.kernel(self.group, lv) is not None

    def top_state(self, lv: LogicalVolume) -> KernelState | None:
        """The state of the volume's own device; None if it is not active, or device-mapper is not asked."""
        if self.sources.top_state is None or not self.sources.activation:
            return self.kernel(lv)
        return self.sources.top_state(self.group, lv)

    def target(self, lv: LogicalVolume) -> TargetState | None:
        """The state of a thin pool's or volume's target; None if it is not active, or device-mapper is not
        asked.
        """
        return self.sources.target(self.group, lv) if self.sources.activation else None

    def runs(self, pv: PhysicalVolume) -> list[Run]:
        """Used and free runs of *pv* in order."""
        found: list[Run] = []
        at = 0
        for start, count, lv, segment in self.extent_map.get(pv.uuid, ()):
            if start > at:
                found.append((at, start - at, None, None, 0))
            found.append((start, count, lv, segment, segment.start_extent))
            at = max(at, start + count)
        if at < pv.pe_count or not found:
            found.append((at, pv.pe_count - at, None, None, 0))
        return found


PART_ROLES = (
    "area", "metadata_area", "metadata", "pool", "data", "mirror_log", "vdo_pool", "meta_dev",
)  # fmt: skip
"""Roles in which one volume is a part of another."""


@dataclass(slots=True, eq=False, repr=False)
class Row:
    """What one line of a report is about; fields look only at what their section needs."""

    view: GroupView
    lv: LogicalVolume | None = None
    segment: Segment | None = None
    pv: PhysicalVolume | None = None
    device: DeviceInfo | None = None
    run: Run | None = None
    entry: object = None
    """An item of the command log, or a type of devices."""
