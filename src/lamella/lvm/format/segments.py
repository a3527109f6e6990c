# SPDX-License-Identifier: Apache-2.0
"""The segments of logical volumes: runs of extents, each mapped in one way.

A segment refers to a :class:`PhysicalVolume` object or to another logical volume's name, as the text does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.format.text import Section


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
        """(role, name) of every logical volume that this segment is mapped to or refers to.

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
    "cache_pool", "origin", "cow_store", "merging_store", "data", "metadata", "mirror_log", "writecache",
    "vdo_pool", "meta_dev", "external_origin", "thin_pool", "pool", "merge",
)  # fmt: skip
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
    """A thin pool: metadata and data volumes, and the messages that LVM has not sent to dm-thin yet."""

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


def merged(segments: list[Segment]) -> list[Segment]:
    """Join striped segments that follow one another both in the volume and on the disks, as LVM does."""
    result: list[Segment] = []
    for segment in segments:
        last = result[-1] if result else None
        if (
            isinstance(last, StripedSegment)
            and isinstance(segment, StripedSegment)
            and last.start_extent + last.extent_count == segment.start_extent
            and last.stripe_size == segment.stripe_size
            and last.tags == segment.tags
            and last.type == segment.type
            and len(last.mapped) == len(segment.mapped)
            and all(
                a.pv is not None and a.pv is b.pv and a.extent + last.area_extents == b.extent
                for a, b in zip(last.mapped, segment.mapped, strict=True)
            )
        ):
            last.extent_count += segment.extent_count
        else:
            result.append(segment)
    return result


VIRTUAL_TYPES = ("error", "zero")
"""Types that lie on no disk: reads fail, or give zeros."""
KNOWN_TYPES = frozenset((
    "striped", "linear", "error", "zero", "free", "snapshot", "mirror", "thin", "thin-pool", "cache",
    "cache-pool", "writecache", "vdo", "vdo-pool", "integrity",
))  # fmt: skip


def is_known_type(kind: str) -> bool:
    """Whether LVM2 2.03 knows the segment type."""
    return kind in KNOWN_TYPES or kind.startswith("raid")
