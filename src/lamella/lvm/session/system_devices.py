# SPDX-License-Identifier: Apache-2.0
"""LVM2's devices file (lvmdevices(8)): with ``devices/use_devicesfile``, only the devices in it are used.

A line is ``IDTYPE=sys_wwid IDNAME=naa.50014ee DEVNAME=/dev/sdb PVID=... PART=1``. A device is found by its
identifier; DEVNAME and PVID are hints, which are brought up to date. PVID is a UUID without hyphens, "." if
the device has none.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella import clock
from lamella.block import system
from lamella.block.atomic_file import replace_file
from lamella.block.sysfs import SYS_CLASS_BLOCK
from lamella.lvm.disks.device_ids import best_id, device_id, partition_number
from lamella.lvm.disks.disk import is_block_device
from lamella.lvm.disks.scan import block_devices, same_file
from lamella.lvm.format.ids import without_dashes
from lamella.units import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.disks.scan import Scan

NONE = "."
"""In place of a name or UUID that is not known."""
VERSION = "1.1"
"""What the number of writes is appended to."""
_WORD = re.compile(r"(IDTYPE|IDNAME|DEVNAME|PVID|PART)=(\S*)")


@dataclass(slots=True)
class Entry:
    """One line; *path* is where the device is now, "" if it is not there."""

    kind: str
    name: str
    device: str = NONE
    pvid: str = NONE
    part: int = 0
    path: str = ""

    def __str__(self) -> str:
        part = f" PART={self.part}" if self.part else ""
        return f"IDTYPE={self.kind} IDNAME={self.name} DEVNAME={self.device} PVID={self.pvid}{part}"


@dataclass(slots=True)
class SystemDevices:
    """A devices file at *path*, which need not exist."""

    path: Path
    entries: list[Entry] = field(default_factory=list)
    count: int = 0
    """How often it was written."""
    system_id: str = ""
    is_list: bool = False
    """Only a list of paths, which is Lamella's own form: never written here."""
    unfound: list[str] = field(default_factory=list)
    """What LVM2 says of the entries whose device :meth:`find` did not find."""
    renamed: list[str] = field(default_factory=list)
    """What it says of those that are recognised by PVID; see :mod:`lamella.lvm.session.devname_search`."""
    found_again: bool = False
    """Whether one of those was found under another name."""
    wrong: bool = False
    """Whether one did not agree with its device."""

    @classmethod
    def read(cls, path: Path) -> SystemDevices:
        """The entries; none if there is no file. Raises for one that cannot be read."""
        made = cls(path)
        try:
            lines = path.read_text("utf-8", "surrogateescape").splitlines()
        except FileNotFoundError:
            return made
        except OSError as error:
            raise system.explain(error, "read the devices file", str(path)) from error
        plain = [line.strip() for line in lines if line.strip().startswith("/")]
        for line in map(str.strip, lines):
            if line.startswith("VERSION="):
                made.count = whole_number(line.rpartition(".")[2]) or 0
            elif line.startswith("SYSTEMID="):
                made.system_id = line.partition("=")[2]
            elif line.startswith("IDTYPE="):
                made.entries.append(_entry(line))
        if plain and not made.entries:
            made.is_list = True
            made.entries = [Entry("devname", line, line) for line in plain]
        return made

    def find(self, sys_block: Path) -> list[str]:
        """The paths of the devices that are there, in the order of the file."""
        names: list[str] | None = None
        for entry in self.entries:
            entry.path = ""
            if self.is_list or entry.kind == "devname":
                entry.path = entry.name if self.is_list or is_block_device(entry.name) else ""
            elif _is(entry, entry.device):
                entry.path = entry.device
            else:
                names = block_devices(sys_block) if names is None else names
                entry.path = next((name for name in names if _is(entry, name)), "")
        self.unfound = [] if self.is_list else [_unfound(entry) for entry in self.entries if not entry.path]
        return [entry.path for entry in self.entries if entry.path]

    def entry_of(self, path: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.path and same_file(entry.path, path)), None)

    def has(self, path: str) -> bool:
        """Whether the device at *path* is in the file."""
        return self.entry_of(path) is not None

    def device_id(self, path: str) -> tuple[str, str]:
        """(type, identifier) of the block device at *path*: as it is entered, or would be."""
        known = self.entry_of(path)
        if known is not None:
            return known.kind, known.name
        return best_id(os.path.basename(os.path.realpath(path)))

    def foreign(self, own_system_id: str) -> list[str]:
        """What LVM2 says of a file that is another host's."""
        if not self.system_id or self.system_id == own_system_id:
            return []
        own = own_system_id or "none"
        return [f"WARNING: devices file has unmatching system id {self.system_id} vs local {own}."]

    def disagreements(self, scan: Scan) -> list[str]:
        """What LVM2 says where the file has another name or PVID than the device has now."""
        if self.is_list:
            return []
        said = [
            f"Device {entry.path} has updated name (devices file {entry.device})"
            for entry in self.entries
            if entry.path and entry.kind != "devname" and entry.device not in (NONE, entry.path)
        ]
        for entry in self.entries:
            pvid = _present(entry, scan)
            if pvid != entry.pvid:
                has = "no PVID" if pvid == NONE else f"PVID {pvid}"
                said.append(f"Device {entry.path} has {has} (devices file {shown(entry.pvid)})")
        self.wrong = self.wrong or bool(said)
        return said

    def enter(self, path: str, pvid: str, kind: str = "") -> Entry:
        """Enter the block device at *path* with its PVID at the end, in place of what there was of it. It is
        recognised by the *kind* of identifier that is given, which it has to have.
        """
        known = self.entry_of(path)
        real = os.path.realpath(path)
        name = os.path.basename(real)
        if kind:
            identifier = kind, real if kind == "devname" else device_id(name, kind)
        else:
            identifier = best_id(name)
        if known is not None:
            self.entries.remove(known)
        made = Entry(*identifier, real, pvid, partition_number(name), real)
        self.entries.append(made)
        return made

    def update(self, scan: Scan, added: Iterable[str] = ()) -> bool:
        """Bring names and UUIDs up to date, and enter the devices *added*. Returns whether that changed
        anything.
        """
        before = [str(entry) for entry in self.entries]
        new = list(added)
        for path in filter(is_block_device, new):
            self.enter(path, _pvid(scan.disk(path)))
        for entry in self.entries:
            if entry.path:
                entry.device = entry.path
                entry.pvid = _present(entry, scan)
        return bool(new) or self.found_again or [str(entry) for entry in self.entries] != before

    def write(self, command: str) -> None:
        """Write the file, with the names that the devices have now. *command* is named in its head."""
        self.count += 1
        for entry in self.entries:
            entry.device = entry.path or entry.device
        now = time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(clock.now()))
        lines = [
            "# LVM uses devices listed in this file.",
            f"# Created by LVM command {command} pid {os.getpid()} at {now}",
            *([f"SYSTEMID={self.system_id}"] if self.system_id else []),
            f"VERSION={VERSION}.{self.count}",
            *map(str, self.entries),
        ]
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self.path, "".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise system.explain(error, "write the devices file", str(self.path)) from error


KINDS = ("sys_wwid", "sys_serial", "mpath_uuid", "crypt_uuid", "md_uuid", "loop_file", "lvmlv_uuid")
"""Types of identifiers that lvmdevices(8) names, beside ``devname``."""


def shown(text: str) -> str:
    """A name or PVID of an entry, in words."""
    return "none" if text in (NONE, "") else text


def _unfound(entry: Entry) -> str:
    seen = f" last seen on {entry.device}" if entry.device != NONE else ""
    if entry.kind == "devname":
        return f"Devices file PVID {shown(entry.pvid)}{seen} not found."
    kind = entry.kind if entry.kind in KINDS else "unknown"
    return f"Devices file {kind} {shown(entry.name)} PVID {shown(entry.pvid)}{seen} not found."


def _entry(line: str) -> Entry:
    words = dict(_WORD.findall(line))
    return Entry(
        words.get("IDTYPE", ""),
        words.get("IDNAME", NONE),
        words.get("DEVNAME", NONE) or NONE,
        words.get("PVID", NONE) or NONE,
        whole_number(words.get("PART", "")) or 0,
    )


def _is(entry: Entry, path: str) -> bool:
    """Whether the device at *path* has the entry's identifier."""
    if path == NONE or not is_block_device(path):
        return False
    name = os.path.basename(os.path.realpath(path))
    if partition_number(name, SYS_CLASS_BLOCK) != entry.part:
        return False
    return bool(entry.name) and device_id(name, entry.kind) == entry.name


def _present(entry: Entry, scan: Scan) -> str:
    """The PVID on the entry's device; the one that it has in the file where the device was not read."""
    disk = scan.disk(entry.path) if entry.path else None
    return entry.pvid if disk is None else _pvid(disk)


def _pvid(disk: Disk | None) -> str:
    return NONE if disk is None or disk.label is None else without_dashes(disk.label.uuid)
