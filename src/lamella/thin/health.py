# SPDX-License-Identifier: Apache-2.0
"""The states that a pool can be in: what each means for containers, why it came about, what to do next.

Pure: a state and some facts go in, a :class:`Diagnosis` comes out. How the states come about, and what
brings a pool back, was seen on Linux 6.1 (``tests/guest/test_pool_states.py``); the order of the states
is that of ``drivers/md/dm-thin.c``. ``docs/reference/pool-states.md`` has them as a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from lamella.block import SECTOR
from lamella.errors import Remedy, described
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.status import PoolMode, parse_status
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.errors import Step
    from lamella.thin.format.superblock import Superblock
    from lamella.thin.status import PoolStatus

LOW_PERCENT = 80
"""From here on a pool is called nearly full; it is also where LVM's autoextend begins by default."""


class Severity(IntEnum):
    """How urgent a state is."""

    FINE = 0
    SOON = 1
    """Everything works; it will not for long."""
    LIMITED = 2
    """Something is refused or waits; nothing is damaged."""
    BROKEN = 3
    """Containers get errors until the cause is removed."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a pool beside its status. Sizes in bytes; None where unknown."""

    chunk_size: int
    kernel: bool = False
    """Whether the kernel runs the pool; otherwise it is this process."""
    min_free_percent: int = 0
    no_space_timeout: float | None = None
    """Seconds that the kernel lets writers wait for space; 0: for ever."""
    host_free: int | None = None
    """Free on the file system that holds the pool's sparse files."""
    suspended: bool = False
    missing_disks: tuple[str, ...] = ()
    """Disks of the pool's volume group that are not there."""
    lies_on_missing: bool = True
    """Whether some of the pool is on these disks."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A state of a pool in words."""

    state: str
    """One word for programs: "fine", "data-low", "full", ...; see docs/reference/pool-states.md."""
    severity: Severity = Severity.FINE
    summary: str = ""
    """What is the matter, as the predicate of "the pool ..."."""
    meaning: str = ""
    """What that does to containers."""
    steps: tuple[Step, ...] = ()
    """What to do, in this order."""

    def lines(self, word: Callable[[Step], str] = described) -> list[str]:
        """For people: the matter, its meaning, and the steps, as *word* words each."""
        if self.severity is Severity.FINE:
            return []
        shown = [f"the pool {self.summary}", *([self.meaning] if self.meaning else [])]
        return [*shown, *(f"next: {word(step)}" for step in self.steps)]

    def text(self, word: Callable[[Step], str] = described) -> str:
        """The same in one piece, the further lines indented as ``docker info`` indents its warnings."""
        return "\n         ".join(self.lines(word))


FINE = Diagnosis("fine")


def diagnose_line(text: str, facts: Facts, *, kind: str = "thin-pool") -> Diagnosis:
    """The diagnosis of a device-mapper device's status: the parameters *text* of a target of that *kind*.

    Raises :class:`lamella.errors.BadInputError` for a line that is none of a pool's.
    """
    if kind == "error":
        return Diagnosis(
            "error-table",
            Severity.BROKEN,
            "has the table of a device that was forced away (dmsetup remove --force, wipe_table)",
            "every read and write of a container fails; what is on the disks is untouched",
            (Remedy.DEACTIVATE, Remedy.ACTIVATE),
        )
    return diagnose(parse_status(text), facts)


_RECOVER = ("dmesg, and put the failing disk right", Remedy.DEACTIVATE, Remedy.REPAIR, Remedy.ACTIVATE)


def diagnose(status: PoolStatus, facts: Facts) -> Diagnosis:
    """What the state of a pool means. The most severe one that applies is returned."""
    if facts.missing_disks and facts.lies_on_missing:
        return Diagnosis(
            "missing-disk",
            Severity.BROKEN,
            f"lacks a disk: {', '.join(facts.missing_disks)}",
            "what lies on it can neither be read nor written",
            (Remedy.REATTACH_DISK, Remedy.CHECK),
        )
    if facts.suspended:
        return Diagnosis(
            "suspended",
            Severity.LIMITED,
            "is suspended: a program that was changing it died, or is at work",
            "every write of a container waits, and so does closing its file system",
            (Remedy.RESUME_POOL,),
        )
    return _of_mode(status, facts) or _beside(facts) or _low(status, facts) or FINE


def _beside(facts: Facts) -> Diagnosis | None:
    """Of a pool that lies on other disks of its group than those that are missing."""
    if not facts.missing_disks:
        return None
    return Diagnosis(
        "disk-missing-beside",
        Severity.LIMITED,
        f"is whole, but its volume group lacks a disk: {', '.join(facts.missing_disks)}",
        "everything works; the pool can neither grow nor be repaired until the disk is back",
        (Remedy.REMOVE_MISSING_DISK,),
    )


def _of_mode(status: PoolStatus, facts: Facts) -> Diagnosis | None:
    if status.mode is PoolMode.FAIL:
        return Diagnosis(
            "failed",
            Severity.BROKEN,
            "has failed: its metadata could be neither written nor read back",
            "every read and write of a container fails; what was committed before is still on the disks",
            _RECOVER,
        )
    if status.needs_check:
        return Diagnosis(
            "needs-check",
            Severity.BROKEN,
            "is read-only and needs a check: writing its metadata failed once, and it went back to the last "
            "committed transaction",
            "containers read what they had; their writes to new blocks fail, and so does every change",
            (Remedy.DEACTIVATE, Remedy.REPAIR, Remedy.ACTIVATE) if facts.kernel else (Remedy.REPAIR,),
        )
    if status.mode is PoolMode.OUT_OF_METADATA_SPACE:
        return Diagnosis(
            "metadata-full",
            Severity.BROKEN,
            f"is read-only: all {status.total_metadata} blocks of its metadata are in use",
            "containers read and overwrite what they have; other writes fail with an I/O error, and nothing "
            "can be deleted until it has grown",
            (Remedy.EXTEND_METADATA,),
        )
    if status.mode is PoolMode.OUT_OF_DATA_SPACE:
        return Diagnosis(
            "full",
            Severity.LIMITED if not status.error_if_no_space else Severity.BROKEN,
            f"is full: all {human_size(status.total_data * facts.chunk_size)} of its data are in use",
            _what_writers_get(status, facts),
            (Remedy.EXTEND_DATA, Remedy.DELETE_UNUSED),
        )
    return None


def _what_writers_get(status: PoolStatus, facts: Facts) -> str:
    if status.error_if_no_space:
        return (
            "containers read and overwrite what they have; other writes fail at once (no space left). When "
            "the pool has grown they succeed again; an ext4 that lost a journal write has to be mounted again"
        )
    if facts.no_space_timeout == 0:
        return (
            "writes to new blocks wait, for ever, until the pool has grown; then they go on, nothing is lost"
        )
    after = f"{facts.no_space_timeout:g} s" if facts.no_space_timeout else "the kernel's no_space_timeout"
    return (
        f"writes to new blocks wait. If the pool grows within {after} they go on and nothing is lost; then "
        "they fail (no space left)"
    )


def _low(status: PoolStatus, facts: Facts) -> Diagnosis | None:
    data_free = status.total_data - status.used_data
    metadata_free = status.total_metadata - status.used_metadata
    for what, free, total, unit, remedy in (
        ("metadata", metadata_free, status.total_metadata, BLOCK_SIZE, Remedy.EXTEND_METADATA),
        ("data", data_free, status.total_data, facts.chunk_size, Remedy.EXTEND_DATA),
    ):
        least = total * facts.min_free_percent // 100
        if free < least:
            return Diagnosis(
                f"{what}-below-minimum",
                Severity.LIMITED,
                f"has {human_size(free * unit)} of {what} left, less than dm.min_free_space "
                f"({facts.min_free_percent}%) keeps free",
                "containers work; no new layer or container can be made",
                (remedy, Remedy.DELETE_UNUSED),
            )
    host = facts.host_free
    if host is not None and host < data_free * facts.chunk_size * (100 - LOW_PERCENT) // 100:
        return Diagnosis(
            "host-low",
            Severity.SOON,
            f"may still take {human_size(data_free * facts.chunk_size)}, but the disk that its sparse files "
            f"lie on has only {human_size(host)} free",
            "when that is gone, writes fail with an I/O error before the pool is full",
            ("make room on that disk, or move the store to a larger one", Remedy.DELETE_UNUSED),
        )
    if metadata_free <= status.metadata_low_water and metadata_free * 100 < status.total_metadata * (
        100 - LOW_PERCENT
    ):
        return _nearly_full("metadata", status.used_metadata, status.total_metadata, Remedy.EXTEND_METADATA)
    if status.used_data * 100 >= status.total_data * LOW_PERCENT:
        return _nearly_full("data", status.used_data, status.total_data, Remedy.EXTEND_DATA)
    return None


def _nearly_full(what: str, used: int, total: int, remedy: Remedy) -> Diagnosis:
    return Diagnosis(
        f"{what}-low",
        Severity.SOON,
        f"has used {used * 100 // max(total, 1)}% of its {what}",
        "everything works, but when it is full, writes wait or fail"
        if what == "data"
        else "everything works, but when it is full, the pool becomes read-only",
        (remedy,),
    )


# -- before activation -------------------------------------------------------------------------------


def refuse_activation(
    fields: Superblock, *, metadata_size: int, data_size: int, chunk_size: int
) -> Diagnosis | None:
    """What would keep the kernel from activating the pool that *fields* tell of, or None. Sizes in bytes.

    *chunk_size* is what the table would say. The kernel answers EINVAL to all of this, and explains it to
    dmesg only.
    """
    own_chunk = fields.data_block_size * SECTOR
    if chunk_size != own_chunk:
        return Diagnosis(
            "wrong-chunk-size",
            Severity.BROKEN,
            f"was made with chunks of {own_chunk} bytes, and is to be opened with chunks of {chunk_size}",
            "it is another pool's metadata, or the volume group's text was changed; nothing was written",
            (Remedy.CHECK, "put the right metadata back"),
        )
    wanted = fields.data_sm_root.nr_blocks
    if data_size // chunk_size < wanted:
        return _smaller("data", data_size // chunk_size * chunk_size, wanted * chunk_size)
    wanted = fields.metadata_sm_root.nr_blocks
    if metadata_size // BLOCK_SIZE < wanted:
        return _smaller("metadata", metadata_size, wanted * BLOCK_SIZE)
    return None


def _smaller(what: str, size: int, wanted: int) -> Diagnosis:
    return Diagnosis(
        f"{what}-device-smaller",
        Severity.BROKEN,
        f"recorded {wanted} bytes of {what}, but its {what} device has only {size}",
        "the device was truncated, or is another pool's; nothing was changed",
        (f"restore the {what} device's {wanted} bytes (truncate, lvextend, vgcfgrestore)", Remedy.CHECK),
    )
