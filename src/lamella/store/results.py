# SPDX-License-Identifier: Apache-2.0
"""The results of the store's methods: plain values, each also as a dictionary for JSON."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lamella.units import human_size

if TYPE_CHECKING:
    from lamella.thin.metadata.leaks import Leaks


@dataclass(frozen=True)
class ImageSummary:
    """An image. *size*: bytes of its files in all its layers; *layers*: how many these are."""

    id: str
    references: list[str]
    """Its names with tags, in Docker's short form."""
    created: datetime
    size: int
    layers: int
    digests: list[str] = field(default_factory=list)
    """Its names with the digests under which registries gave it."""
    digest: str = ""
    """The digest that the registry gave it under, where it was just pulled."""
    labels: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON; times as RFC 3339 text in UTC."""
        return asdict(self) | {"created": time_text(self.created)}


@dataclass(frozen=True)
class ContainerSummary:
    """A container. *image* is the name that it was created from; *size*: bytes of its virtual disk."""

    id: str
    name: str
    image: str
    image_id: str
    created: datetime
    size: int
    command: list[str]
    mounted: list[str] = field(default_factory=list)
    """Where it is mounted, as seen from here."""
    labels: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON; times as RFC 3339 text in UTC."""
        return asdict(self) | {"created": time_text(self.created)}


@dataclass
class HistoryStep:
    """One step in how an image was made. *size*: bytes of its layer's files; 0 for one without a layer."""

    id: str
    """The image's, for its last step; empty for others."""
    created: datetime | None
    created_by: str
    size: int
    comment: str

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON; times as RFC 3339 text in UTC, null where unknown."""
        return asdict(self) | {"created": time_text(self.created) if self.created else None}


@dataclass(frozen=True)
class SnapshotSummary:
    """A snapshot of containerd's. *kind*: "active", "committed" or "view". Sizes in bytes: *size* of its file
    system, *exclusive* of what nothing else in the pool maps, *shared* of what others map too."""

    key: str
    namespace: str
    kind: str
    parent: str
    created: datetime
    updated: datetime
    size: int
    exclusive: int
    shared: int
    labels: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON; times as RFC 3339 text in UTC."""
        return asdict(self) | {"created": time_text(self.created), "updated": time_text(self.updated)}


@dataclass(frozen=True)
class Pruned:
    """What a removal of unused images did."""

    lines: list[str]
    """As Docker prints them: "Untagged: NAME", "Deleted: ID"."""
    freed: int
    """Bytes of the pool's data that became free."""

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return removal_as_dict(self.lines) | {"freed": self.freed}


def removal_as_dict(lines: list[str]) -> dict[str, Any]:
    """Docker's lines about a removal for JSON: names that went under ``untagged``, ids under ``deleted``."""
    return {
        key: [line.partition(": ")[2] for line in lines if line.startswith(f"{key.capitalize()}: ")]
        for key in ("untagged", "deleted")
    }


@dataclass(frozen=True)
class Usage:
    """The space of one entry in the pool, in bytes of whole chunks.

    *kind*: "pool", "base", "layer", "image", "container", "snapshot" (of containerd's), "deleted", "other"
    (thin devices that ``state.db`` does not have), "shared" (of devices whose common origin is gone) or
    "leaked". *mapped*: what it maps, shared or not; *exclusive*: what nothing else maps; *space*: what is
    counted here alone, so that all rows below the pool's add up to it (an image has 0: its layers have rows
    of their own); *frees*: what is free when it has been removed, with the layers that nothing else uses;
    None where it cannot be removed.
    """

    kind: str
    name: str
    mapped: int
    exclusive: int
    space: int
    frees: int | None

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Info:
    """The state of the pool: the values behind ``docker info``'s lines. Sizes in bytes."""

    containers: int
    images: int
    mounted: int
    """Of the containers and images: how many are mounted, as seen from here."""
    root: str
    mode: str
    engine: str
    pool_name: str
    chunk_size: int
    base_size: int
    filesystem: str
    device_names: dict[str, str]
    data_used: int
    data_total: int
    data_available: int
    metadata_used: int
    metadata_total: int
    metadata_available: int
    min_free: int
    deferred_removal: bool
    deferred_deletion: bool
    deferred_deleted: int
    library_version: str
    warnings: list[str] = field(default_factory=list)
    state: str = "fine"
    """The name of the pool's state (``docs/reference/pool-states.md``)."""

    def lines(self) -> list[tuple[str, str]]:
        """Label and value of each line, in Docker's order (moby, ``graphdriver/devmapper/driver.go``)."""
        return [
            ("Pool Name", self.pool_name),
            ("Pool Blocksize", human_size(self.chunk_size)),
            ("Base Device Size", human_size(self.base_size)),
            ("Backing Filesystem", self.filesystem),
            ("Udev Sync Supported", "true"),
            *self.device_names.items(),
            ("Data Space Used", human_size(self.data_used)),
            ("Data Space Total", human_size(self.data_total)),
            ("Data Space Available", human_size(self.data_available)),
            ("Metadata Space Used", human_size(self.metadata_used)),
            ("Metadata Space Total", human_size(self.metadata_total)),
            ("Metadata Space Available", human_size(self.metadata_available)),
            ("Thin Pool Minimum Free Space", human_size(self.min_free)),
            ("Deferred Removal Enabled", str(self.deferred_removal).lower()),
            ("Deferred Deletion Enabled", str(self.deferred_deletion).lower()),
            ("Deferred Deleted Device Count", str(self.deferred_deleted)),
            ("Library Version", self.library_version),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON, with Docker's lines under ``driver_status``."""
        return asdict(self) | {"driver_status": [list(line) for line in self.lines()]}


@dataclass
class StoreCheck:
    """What a check of the whole store examined, and every problem that it found."""

    looked_at: list[tuple[str, str]]
    problems: list[str]
    """What is damaged."""
    advice: list[str] = field(default_factory=list)
    """Commands to run about the problems, or to prevent them, in order."""
    harmless: list[str] = field(default_factory=list)
    """What is wrong, but costs only space: leaked blocks and wrong totals."""
    leaks: Leaks | None = None
    """The pool's leaked space; None where it was not counted, as while the pool is active."""

    def lines(self) -> list[str]:
        """What was examined, one line each."""
        return [f"{what}: {result}" for what, result in self.looked_at]

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "checked": dict(self.looked_at),
            "problems": self.problems,
            "harmless": self.harmless,
            "leaked": self.leaks.as_dict() if self.leaks is not None else None,
            "advice": self.advice,
        }


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as configurations have it (any number of digits); 1970 where there is none."""
    whole = re.sub(r"\.(\d{6})\d+", r".\1", text.strip())
    try:
        found = datetime.fromisoformat(whole)
    except ValueError:
        return datetime(1970, 1, 1, tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def parse_time_ns(since_1970: int) -> datetime:
    """Nanoseconds since 1970 as a time, to the microsecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=since_1970 // 1000)


def time_text(moment: datetime) -> str:
    """A time as Docker writes it: RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
