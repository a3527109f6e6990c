# SPDX-License-Identifier: Apache-2.0
"""The examination of disks before a set-up: what is on each, and whether direct-lvm may use it. Reads only.

Looked at: size, partitions and signatures (libblkid), mounts, swap, holders and loop devices (the
kernel's lists), alignment, rotation, discard. A disk in use is refused whatever is forced.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import mountinfo
from lamella.block.device import SECTOR
from lamella.block.opening import is_remote
from lamella.errors import BusyError, ExistsError, LamellaError, MissingError, UsageError
from lamella.lvm.disks.disk import Disk
from lamella.lvm.disks.pv_layout import LayoutRequest, lay_out, topology
from lamella.lvm.disks.signatures import find_signatures
from lamella.lvm.operations.volume_groups import DEFAULT_EXTENT
from lamella.printable import printable
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.disks.disk import Opener

SYS = Path("/sys")
PROC = Path("/proc")


@dataclass
class DiskReport:
    """What was found. *kind*: "file", "disk", "partition", "loop device", "device-mapper", "NBD"."""

    path: str
    kind: str
    size: int
    pv_uuid: str = ""
    """Of the LVM label on it."""
    pv_used: bool = False
    """The label says that it belongs to a volume group."""
    rotational: bool | None = None
    discards: bool | None = None
    sectors: tuple[int, int] | None = None
    """Logical and physical sector size in bytes."""
    holds: list[str] = field(default_factory=list)
    """Signatures, in words."""
    users: list[str] = field(default_factory=list)
    """Who uses it at this moment."""
    remarks: list[str] = field(default_factory=list)

    def line(self) -> str:
        """All of it in one line."""
        words = [self.kind, human_size(self.size)]
        if self.rotational is not None:
            words.append("rotational" if self.rotational else "not rotational")
        if self.discards is not None:
            words.append("discards" if self.discards else "no discard")
        if self.sectors is not None:
            words.append(f"sectors {self.sectors[0]}/{self.sectors[1]}")
        words.append(", ".join(self.holds) if self.holds else "empty")
        return f"{self.path}: {', '.join([*words, *self.remarks])}"


def absolute(name: str) -> str:
    """The path under which a disk is recorded: absolute, links kept; an NBD address as it is."""
    return name if is_remote(name) else os.path.abspath(name)


def examine(path: str, opener: Opener) -> DiskReport:
    """Examine the disk at *path*. Raises what opening or reading it raises."""
    with opener(path, True) as device:
        report = DiskReport(path, "NBD" if is_remote(path) else "file", device.size)
        disk = Disk.open(path, opener, device)
        if disk.label is not None:
            report.pv_uuid, report.pv_used = disk.label.uuid, disk.label.used
        try:
            for found in find_signatures(device):
                named = f' "{found.label}"' if found.label else ""
                report.holds.append(f"{found.type}{named} ({found.usage} at {found.offset})")
        except MissingError as error:
            report.remarks.append(error.message)
    if is_remote(path):
        report.discards = device.discard_zeroes
        return report
    status = os.stat(path)
    if os.major(status.st_rdev) or os.minor(status.st_rdev):
        _look_at_device(report, status.st_rdev)
    else:
        report.discards = True
        _look_at_file(report)
    return report


def check(reports: Sequence[DiskReport], *, force: bool, own: Sequence[str] = ()) -> None:
    """Raise if one of the disks may not be used. *own* are UUIDs of physical volumes of an earlier run.

    :class:`BusyError` for a disk in use, :class:`UsageError` for one that is given twice,
    :class:`ExistsError` for one that holds something, unless *force*.
    """
    seen: list[DiskReport] = []
    for report in reports:
        for other in seen:
            if report.path == other.path or _same(report.path, other.path):
                raise UsageError(
                    f"{report.path} was given twice (as {other.path})", hint="name every disk once"
                )
        seen.append(report)
        if report.users:
            raise BusyError(
                f"{report.path} is in use: {'; '.join(report.users)}",
                hint="unmount or stop what uses it, or choose another disk; --force does not help here",
            )
        if report.pv_uuid in own and report.pv_uuid:
            continue
        if report.pv_used:
            raise BusyError(
                f"{report.path} belongs to a volume group of LVM",
                hint="vgs shows it; vgreduce or vgremove it first; a thin pool in it is taken over with "
                "--storage-opt dm.thinpooldev=VG/POOL",
            )
        if report.holds and not force:
            what = ", ".join(report.holds)
            raise ExistsError(
                f"{report.path} is not empty: it has {what}",
                hint="if nothing of that is needed, --force (dm.directlvm_device_force=true) overwrites it; "
                "a thin pool made by hand is taken over with --storage-opt dm.thinpooldev=VG/POOL",
            )


def extents_on(report: DiskReport) -> int:
    """Extents of 4 MiB that a physical volume on the disk will have."""
    layout = lay_out(
        LayoutRequest(report.size // SECTOR * SECTOR), report.path, default_alignment=topology(report.path)
    )
    return max((report.size // SECTOR * SECTOR - layout.pe_start) // DEFAULT_EXTENT, 0)


def check_free_to_write(path: str, opener: Opener) -> None:
    """Open the disk as a writer does, and close it. Raises :class:`BusyError` and the like."""
    try:
        opener(path, False).close()
    except BusyError as error:
        raise BusyError(
            f"{path} is in use by the kernel or by another program",
            hint="see lsblk and lsof; stop what uses it, or choose another disk",
        ) from error


# -- the kernel's lists ------------------------------------------------------------------------------


def _look_at_device(report: DiskReport, number: int) -> None:
    name = f"{os.major(number)}:{os.minor(number)}"
    folder = SYS / "dev" / "block" / name
    is_part = (folder / "partition").exists()
    whole = folder.resolve().parent if is_part else folder
    if is_part:
        report.kind = "partition"
    elif (folder / "loop").exists():
        report.kind = "loop device"
    elif (folder / "dm").exists():
        report.kind = "device-mapper"
    else:
        report.kind = "disk"
    queue = whole / "queue"
    report.rotational = _read(queue / "rotational") == "1"
    report.discards = _number(queue / "discard_max_bytes") > 0
    report.sectors = (
        _number(queue / "logical_block_size") or SECTOR,
        _number(queue / "physical_block_size") or SECTOR,
    )
    if _number(folder / "alignment_offset"):
        report.remarks.append(f"starts {_number(folder / 'alignment_offset')} bytes off its sectors")
    if is_part and _number(folder / "start") * SECTOR % max(report.sectors[1], 4096):
        report.remarks.append("its start is not aligned to 4 KiB: writes will be slower")
    if _read(folder / "ro") == "1":
        report.users.append("the kernel has it read-only")
    try:
        names = [entry.name for entry in folder.iterdir()] if not is_part else []
    except OSError:
        names = []
    parts = [each for each in names if (folder / each / "partition").exists()]
    for part in sorted(parts):
        report.users.append(f"it has the partition {part}")
        report.users += [f"{part}: {user}" for user in _users(_read(folder / part / "dev"), folder / part)]
    report.users += _users(name, folder)


def _users(number: str, folder: Path) -> list[str]:
    """Who uses the device with that "major:minor"."""
    found = []
    try:
        held = sorted(entry.name for entry in (folder / "holders").iterdir())
    except OSError:
        held = []
    found += [f"held by {_read(SYS / 'block' / each / 'dm' / 'name') or each}" for each in held]
    with suppress(OSError):
        for mount in mountinfo.parse((PROC / "self" / "mountinfo").read_bytes()):
            if f"{mount.major}:{mount.minor}" == number:
                found.append(f"mounted on {printable(mount.point)}")
    for line in _read(PROC / "swaps").splitlines()[1:]:
        swap = line.split()[0]
        try:
            status = os.stat(swap)
        except OSError:
            continue
        if f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" == number:
            found.append("swap")
    return found


def _look_at_file(report: DiskReport) -> None:
    """Find loop devices over the file: their users use the file."""
    for backing in SYS.glob("block/loop*/loop/backing_file"):
        if _same(_read(backing), report.path):
            report.users.append(f"/dev/{backing.parent.parent.name} is set up over it")
    for line in _read(PROC / "swaps").splitlines()[1:]:
        if _same(line.split()[0], report.path):
            report.users.append("swap")


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _read(path)
    return int(text) if text.lstrip("-").isdigit() else 0


def look_at_all(paths: Sequence[str], opener: Opener) -> list[DiskReport]:
    """:func:`examine` for each; a disk that cannot be opened is an error that names it."""
    reports = []
    for path in paths:
        try:
            reports.append(examine(path, opener))
        except LamellaError as error:
            raise type(error)(f"direct-lvm: {error.message}", hint=error.hint) from error
    return reports
