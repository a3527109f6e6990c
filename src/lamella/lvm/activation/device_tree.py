# SPDX-License-Identifier: Apache-2.0
"""The devices that LVM creates for the volumes of a group: names, UUIDs, tables, layers.

Nothing here touches the system. Tables refer to disks by "major:minor" and to the devices below them by
UUID, as those have no numbers before they are created; :func:`resolved` replaces the UUIDs.

The layers: a thin pool uses its hidden ``_tdata`` and ``_tmeta``. A pool in which LVM creates the thin
volumes (its transaction id is not 0) is a device with the layer ``tpool``, which the thin volumes are mapped
to, and the volume itself a read-only linear device on top of that. An external origin is a device with the
layer ``real``, and the volume itself a linear one on top. Authority: what LVM2 2.03.16 creates, as recorded
in ``tests/devicemapper``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lamella.devicemapper.nodes import Udev
from lamella.devicemapper.table import Error, Linear, Striped, Target, Thin, ThinPool, Zero
from lamella.errors import CorruptError, UnsupportedError
from lamella.lvm.format.ids import DM_PREFIX, dm_uuid
from lamella.lvm.format.names import dm_name
from lamella.lvm.format.segments import Area, Segment, StripedSegment, ThinPoolSegment, ThinSegment
from lamella.thin.status import PoolOptions, discards_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lamella.lvm.format.model import LogicalVolume, VolumeGroup

SHOWN = Udev.NO_LIBRARY_FALLBACK
"""A visible volume: udev creates all its names."""
HIDDEN = SHOWN | Udev.NO_SUBSYSTEM_RULES | Udev.NO_DISK_RULES | Udev.NO_OTHER_RULES
UNSCANNED = SHOWN | Udev.NO_DISK_RULES | Udev.NO_OTHER_RULES
"""Another program's pool: it has its names, and is not scanned."""
MAX_DEPTH = 16


NO_DISCARDS = "WARNING: Thin pool target does not support discards (needs kernel >= 3.4)."
NO_ERROR_WHEN_FULL = "WARNING: Thin pool target does not support error if no space (needs version >= 1.10)."


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``lvm.conf`` and the command line set for activation.

    *threshold* gives how full a pool is, in per cent, when it is extended (100: never); its low water mark
    follows from that. *partial* lets missing disks be replaced by error targets.
    """

    threshold: Callable[[VolumeGroup, LogicalVolume], int] = lambda group, lv: 100
    partial: bool = False
    read_only: bool = False
    """Activate all volumes read-only, whatever the metadata says."""
    disabled: frozenset[str] = frozenset()
    """Features of the thin-pool target that are not used (``global/thin_disabled_features``)."""
    warn: Callable[[str], None] = lambda text: None
    """Told of what a pool does not get because of that."""


@dataclass(frozen=True, slots=True)
class WantedDevice:
    """One device to create. *below* are the UUIDs of the devices that its table uses."""

    name: str
    uuid: str
    table: tuple[Target, ...]
    lv: str
    """The logical volume that it belongs to."""
    layer: str = ""
    read_only: bool = False
    udev: Udev = SHOWN
    below: tuple[str, ...] = ()
    minor: int | None = None
    read_ahead: int | None = None
    """Sectors; None: the kernel's default."""
    link: str = ""
    """ "VG/LV", where the volume has a name under ``/dev``."""


def lv_uuid(group: VolumeGroup, lv: LogicalVolume, layer: str = "") -> str:
    """The UUID of a volume's device; *layer* "" for the volume itself."""
    return dm_uuid(group.uuid, lv.uuid, layer)


def is_own_pool(lv: LogicalVolume) -> bool:
    """Whether LVM creates the thin volumes in the pool, and not another program."""
    pool = lv.thin_pool
    return pool is not None and pool.transaction_id != 0


def top_uuid(group: VolumeGroup, lv: LogicalVolume) -> str:
    """The UUID of the device that is the volume itself."""
    if lv.thin_pool is not None:
        return lv_uuid(group, lv, "pool" if is_own_pool(lv) else "tpool")
    return lv_uuid(group, lv, part_layer(group, lv))


def part_layer(group: VolumeGroup, lv: LogicalVolume) -> str:
    """ "tdata" or "tmeta" for the parts of a thin pool, else ""."""
    for user in group.lvs.values():
        pool = user.thin_pool
        if pool is not None and lv.name in (pool.data, pool.metadata):
            return "tdata" if lv.name == pool.data else "tmeta"
    return ""


def pool_device_name(group: VolumeGroup, lv: LogicalVolume) -> str:
    """The name of the device whose target is the thin pool *lv* itself."""
    return dm_name(group.name, lv.name, "tpool" if is_own_pool(lv) else "")


def wanted_devices(
    group: VolumeGroup,
    names: Iterable[str],
    disks: Mapping[str, str],
    settings: Settings | None = None,
    merging: Mapping[str, int] | None = None,
) -> list[WantedDevice]:
    """The devices of the volumes *names* and of all that they need, each after those that it uses.

    *disks* has the "major:minor" of physical volumes by UUID; *merging* the thin devices that volumes use in
    place of their own (:func:`lamella.lvm.activation.begun_merges.begun_merges`). Raises
    :class:`NotFoundError` for unknown names, :class:`UnsupportedError` for types that are not activated here,
    and :class:`CorruptError` where a disk is missing.
    """
    plan = _Plan(group, disks, settings or Settings(), merging or {})
    for name in names:
        plan.volume(group.find_lv(name))
    return list(plan.devices.values())


@dataclass(slots=True)
class _Plan:
    group: VolumeGroup
    disks: Mapping[str, str]
    settings: Settings
    merging: Mapping[str, int] = field(default_factory=dict)
    devices: dict[str, WantedDevice] = field(default_factory=dict)
    depth: int = 0
    external: set[str] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for lv in self.group.lvs.values():
            if lv.thin is not None and lv.thin.external_origin:
                self.external.add(lv.thin.external_origin)
            if lv.thin_pool is not None:
                self.parts[lv.thin_pool.data] = "tdata"
                self.parts[lv.thin_pool.metadata] = "tmeta"

    # -- which devices a volume has --------------------------------------------------------------

    def volume(self, lv: LogicalVolume) -> str:
        """Add the device of the volume itself; returns its UUID."""
        if self.depth > MAX_DEPTH:
            raise CorruptError(f"logical volume {self.group.name}/{lv.name} is built on too many others")
        self.depth += 1
        try:
            if lv.thin_pool is not None:
                return self._pool_itself(lv)
            if lv.name in self.external:
                return self._over(lv, self.origin(lv), layer="")
            return self._mapped(lv, layer="")
        finally:
            self.depth -= 1

    def _pool_itself(self, lv: LogicalVolume) -> str:
        if not is_own_pool(lv):
            return self.pool(lv)
        return self._over(lv, self.pool(lv), layer="pool")

    def pool(self, lv: LogicalVolume) -> str:
        """Add the device with the thin-pool target; returns its UUID."""
        own = is_own_pool(lv)
        return self._mapped(
            lv,
            layer="tpool",
            name=pool_device_name(self.group, lv),
            udev=HIDDEN if own else UNSCANNED,
            link="" if own else f"{self.group.name}/{lv.name}",
        )

    def origin(self, lv: LogicalVolume) -> str:
        """Add the device that an external origin's snapshots read; returns its UUID."""
        return self._mapped(lv, layer="real", name=dm_name(self.group.name, lv.name, "real"), udev=HIDDEN)

    def _over(self, lv: LogicalVolume, below: str, *, layer: str) -> str:
        """Add a linear device on top of another one of the same volume."""
        is_pool = lv.thin_pool is not None
        return self._add(
            WantedDevice(
                dm_name(self.group.name, lv.name),
                lv_uuid(self.group, lv, layer),
                (Linear(0, lv.extents * self.group.extent_sectors, device=below, offset=0),),
                lv.name,
                layer,
                read_only=is_pool or self._read_only(lv),
                udev=HIDDEN if is_pool or not self.group.is_visible(lv) else SHOWN,
                below=(below,),
                minor=lv.minor,
                read_ahead=lv.read_ahead,
                link="" if is_pool or not self.group.is_visible(lv) else f"{self.group.name}/{lv.name}",
            )
        )

    def _mapped(
        self,
        lv: LogicalVolume,
        *,
        layer: str,
        name: str = "",
        udev: Udev | None = None,
        link: str | None = None,
    ) -> str:
        """Add the device that maps the volume's own segments."""
        shown = self.group.is_visible(lv) and not layer
        layer = layer or self.parts.get(lv.name, "")
        uuid = lv_uuid(self.group, lv, layer)
        if uuid in self.devices:
            return uuid
        below: list[str] = []
        table = tuple(self._target(lv, number, segment, below) for number, segment in enumerate(lv.segments))
        return self._add(
            WantedDevice(
                name or dm_name(self.group.name, lv.name),
                uuid,
                table,
                lv.name,
                layer,
                read_only=self._read_only(lv),
                udev=udev if udev is not None else SHOWN if shown else HIDDEN,
                below=tuple(dict.fromkeys(below)),
                minor=lv.minor if not layer else None,
                read_ahead=lv.read_ahead,
                link=link if link is not None else f"{self.group.name}/{lv.name}" if shown else "",
            )
        )

    def _add(self, device: WantedDevice) -> str:
        self.devices.setdefault(device.uuid, device)
        return device.uuid

    def _read_only(self, lv: LogicalVolume) -> bool:
        return self.settings.read_only or not lv.writable

    # -- tables ----------------------------------------------------------------------------------

    def _target(self, lv: LogicalVolume, number: int, segment: Segment, below: list[str]) -> Target:
        unit = self.group.extent_sectors
        start, length = segment.start_extent * unit, segment.extent_count * unit
        match segment:
            case StripedSegment():
                areas = [
                    self._area(lv, number, index, area, segment, below)
                    for index, area in enumerate(segment.mapped)
                ]
                if len(areas) == 1:
                    return Linear(start, length, device=areas[0][0], offset=areas[0][1])
                return Striped(start, length, chunk=segment.stripe_size, stripes=tuple(areas))
            case ThinPoolSegment():
                return self._thin_pool(lv, segment, start, length, below)
            case ThinSegment():
                return self._thin(lv, segment, start, length, below)
        if segment.kind == "error":
            return Error(start, length)
        if segment.kind == "zero":
            return Zero(start, length)
        raise UnsupportedError(
            f"Logical volume {self.group.name}/{lv.name} is of type {segment.kind}, which is not activated "
            "from here.",
            hint=f"use the host's own LVM: lvm lvchange -ay {self.group.name}/{lv.name}",
        )

    def _area(
        self, lv: LogicalVolume, number: int, index: int, area: Area, segment: Segment, below: list[str]
    ) -> tuple[str, int]:
        """(device, first sector) of one stripe."""
        unit = self.group.extent_sectors
        if area.pv is None:
            uuid = self.volume(self.group.find_lv(area.lv))
            below.append(uuid)
            return uuid, area.extent * unit
        device = self.disks.get(area.pv.uuid)
        if device is not None:
            return device, area.pv.pe_start + area.extent * unit
        if not self.settings.partial:
            raise CorruptError(
                f"Refusing activation of partial LV {self.group.name}/{lv.name}.  Use '--activationmode "
                "partial' to override."
            )
        layer = f"missing_{number}_{index}"
        uuid = self._add(
            WantedDevice(
                dm_name(self.group.name, lv.name, layer),
                lv_uuid(self.group, lv, layer),
                (Error(0, segment.area_extents * unit),),
                lv.name,
                layer,
                udev=HIDDEN,
            )
        )
        below.append(uuid)
        return uuid, 0

    def _thin_pool(
        self, lv: LogicalVolume, segment: ThinPoolSegment, start: int, length: int, below: list[str]
    ) -> ThinPool:
        metadata = self._mapped(self.group.find_lv(segment.metadata), layer="")
        data = self._mapped(self.group.find_lv(segment.data), layer="")
        below += [metadata, data]
        options = self._pool_options(lv, segment)
        return ThinPool(
            start,
            length,
            metadata=metadata,
            data=data,
            chunk=segment.chunk_sectors,
            low_water=low_water(length, segment.chunk_sectors, self.settings.threshold(self.group, lv)),
            features=options.features(),
        )

    def _pool_options(self, lv: LogicalVolume, segment: ThinPoolSegment) -> PoolOptions:
        """What the pool's target is told, without the features that are disabled."""
        off, chunk = self.settings.disabled, segment.chunk_sectors
        discards = discards_of(segment.discards) or "passdown"
        when_full = "ERROR_WHEN_FULL" in lv.flags
        if "discards" in off:
            if discards != "ignore":
                self.settings.warn(NO_DISCARDS)
            discards = "passdown"  # which is what the kernel does unless it is told otherwise
        elif "discards_non_power_2" in off and chunk & (chunk - 1):
            discards = "ignore"
        if "error_if_no_space" in off and when_full:
            self.settings.warn(NO_ERROR_WHEN_FULL)
            when_full = False
        return PoolOptions(zero=segment.zero, discards=discards, error_if_no_space=when_full)

    def _thin(
        self, lv: LogicalVolume, segment: ThinSegment, start: int, length: int, below: list[str]
    ) -> Thin:
        pool = self.pool(self.group.find_lv(segment.pool))
        below.append(pool)
        origin = ""
        if segment.external_origin:
            origin = self.origin(self.group.find_lv(segment.external_origin))
            below.append(origin)
        device_id = self.merging.get(lv.name, segment.device_id)
        return Thin(start, length, pool=pool, device_id=device_id, origin=origin)


def low_water(length: int, chunk: int, threshold: int) -> int:
    """The pool's low water mark in chunks: those that are free when it is *threshold* per cent full.

    The threshold counts as at least 50, and from 100 on there is no mark.
    """
    if threshold >= 100:
        return 0
    return (length * (100 - max(threshold, 50)) + 99) // 100 // chunk


def resolved(table: Sequence[Target], numbers: Mapping[str, str]) -> tuple[Target, ...]:
    """The table with "major:minor" in place of UUIDs. Raises :class:`KeyError` for one not in *numbers*."""

    def number(device: str) -> str:
        return numbers[device] if device.startswith(DM_PREFIX) else device

    def target(one: Target) -> Target:
        match one:
            case Linear():
                return replace(one, device=number(one.device))
            case Striped():
                return replace(one, stripes=tuple((number(device), at) for device, at in one.stripes))
            case ThinPool():
                return replace(one, metadata=number(one.metadata), data=number(one.data))
            case Thin():
                return replace(one, pool=number(one.pool), origin=number(one.origin) if one.origin else "")
        return one

    return tuple(target(one) for one in table)
