# SPDX-License-Identifier: Apache-2.0
"""What holds a block device, so that "Device or resource busy" can name it.

The kernel does not say; ``/proc`` and ``/sys`` do: mounts in every mount namespace that a process lives
in, processes with the device open, swap areas, and devices stacked on it.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import mountinfo, sysfs
from lamella.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamella.errors import BusyError

PROC = Path("/proc")
SYS = Path("/sys")
FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""Inode of the machine's own process namespace (PROC_PID_INIT_INO in ``linux/proc_ns.h``)."""
_SHOWN = 5
"""Holders of a kind that a sentence names."""


class Kind(Enum):
    """In what way a device is held."""

    MOUNT = "mount"
    OPEN = "open"
    USED = "used"
    """A process has files, or its folder, in the mounted file system."""
    SWAP = "swap"
    ABOVE = "above"
    """A device is stacked on it."""
    NAMESPACE = "namespace"
    """A mount namespace without a process, whose mounts cannot be seen."""
    UNSEEN = "unseen"
    """Not a holder: what could not be inspected."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One holder of a device. *where*: mount point, open path, or the device above; *process* 0: none."""

    kind: Kind
    where: str
    process: int = 0
    command: str = ""
    elsewhere: bool = False
    """In another mount namespace than ours."""

    @property
    def who(self) -> str:
        """The process in words."""
        if self.process == os.getpid():
            return f"this process ({self.process})"
        return f"process {self.process} ({self.command})" if self.process else ""

    def __str__(self) -> str:
        match self.kind:
            case Kind.MOUNT:
                by = f" by {self.who}, in another mount namespace" if self.elsewhere else ""
                return f"mounted at {self.where}{by}"
            case Kind.OPEN:
                return f"open in {self.who}" + (", in another mount namespace" if self.elsewhere else "")
            case Kind.USED:
                return f"{self.who} uses {self.where}"
            case Kind.SWAP:
                return f"swap area {self.where}"
            case Kind.ABOVE:
                return f"device {self.where} is stacked on it"
            case Kind.NAMESPACE:
                return f"{self.who} keeps a mount namespace open whose mounts cannot be seen"
            case Kind.UNSEEN:
                return self.where


def holders(major: int, minor: int) -> list[Holder]:
    """All holders of the block device, as far as this process may see them."""
    number = os.makedev(major, minor)
    seen = _Processes()
    found = [
        *seen.mounts(major, minor),
        *seen.opened(number),
        *_swaps(number),
        *devices_above(major, minor),
        *_loops_over(number),
    ]
    if not found:
        found = [*seen.opened(number, everywhere=True), *seen.lone_namespaces()]
    return found + seen.unseen()


def mounted(major: int, minor: int) -> list[Holder]:
    """Only the mounts of the device, in every mount namespace that a process lives in."""
    return list(_Processes().mounts(major, minor))


def users(major: int, minor: int) -> list[Holder]:
    """Processes that use the device's mounted file system: by open files, working folder, root, program."""
    seen = _Processes()
    return [*seen.users(os.makedev(major, minor)), *seen.unseen()]


def devices_above(major: int, minor: int) -> list[Holder]:
    """Devices stacked on it: device-mapper's by their names, and others (md0)."""
    above = sysfs.holders(SYS / "dev" / "block" / f"{major}:{minor}")
    names = [folder.name for folder in above]
    return [Holder(Kind.ABOVE, sysfs.attribute(SYS / "block" / name, "dm/name") or name) for name in names]


def describe(found: Iterable[Holder]) -> str:
    """The holders in one line: "mounted at /mnt/x by process 123 (bash), in another mount namespace"."""
    by_kind: dict[Kind, list[Holder]] = {}
    for holder in found:
        by_kind.setdefault(holder.kind, []).append(holder)
    unseen = by_kind.pop(Kind.UNSEEN, [])
    parts = []
    for each in by_kind.values():
        parts += [str(holder) for holder in each[:_SHOWN]]
        if len(each) > _SHOWN:
            parts.append(f"and {len(each) - _SHOWN} more of this kind")
    if not parts:
        parts = ["held by something that cannot be seen"]
    return printable("; ".join([*parts, *(str(holder) for holder in unseen)]))


def explained(error: BusyError, major: int, minor: int) -> BusyError:
    """The same error, with the holders of the device named."""
    found = holders(major, minor)
    reported = type(error)(f"{error.message}: {describe(found)}", hint=advice(found) or error.hint)
    reported.__cause__ = error.__cause__
    return reported


def advice(found: Iterable[Holder]) -> str | None:
    """What to do about the holders, as an error's hint; None where that is not known."""
    for holder in found:
        where = printable(holder.where)
        match holder.kind:
            case Kind.MOUNT if holder.elsewhere:
                return (
                    f"unmount it there: nsenter -t {holder.process} -m umount {shlex.quote(where)}; "
                    "or end the process"
                )
            case Kind.MOUNT:
                return f"unmount it: umount {shlex.quote(where)}"
            case Kind.OPEN | Kind.USED | Kind.NAMESPACE:
                return f"end process {holder.process} first, or let it close the device"
            case Kind.SWAP:
                return f"turn it off: swapoff {shlex.quote(where)}"
            case Kind.ABOVE:
                return f"deactivate {where} first"
            case Kind.UNSEEN:
                continue
    return None


@dataclass
class _Processes:
    """One walk over ``/proc``, and what it could not see."""

    hidden: int = 0
    _namespaces: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.all = sorted(int(name) for name in os.listdir(PROC) if name.isdigit())
        self.own = _link(PROC / "self" / "ns" / "mnt")
        for process in self.all:
            try:
                space = os.readlink(PROC / str(process) / "ns" / "mnt")
            except PermissionError:
                self.hidden += 1
            except OSError:
                continue
            else:
                self._namespaces.setdefault(space, []).append(process)

    def mounts(self, major: int, minor: int) -> Iterator[Holder]:
        """One holder for each mount point of each namespace."""
        for space, processes in self._namespaces.items():
            reported: set[str] = set()
            roots: set[str] = set()
            elsewhere = space != self.own
            for process in [os.getpid(), *processes] if not elsewhere else processes:
                # One whose root is another folder sees fewer mounts, and by other names.
                root = _link(PROC / str(process) / "root")
                if root in roots:
                    continue
                roots.add(root)
                try:
                    lines = mountinfo.mounts(process)
                except OSError:
                    roots.discard(root)
                    continue
                for line in lines:
                    if (line.major, line.minor) == (major, minor) and line.point not in reported:
                        reported.add(line.point)
                        yield Holder(Kind.MOUNT, line.point, process, _command(process), elsewhere)

    def opened(self, number: int, *, everywhere: bool = False) -> Iterator[Holder]:
        """Processes that have the device open. By nodes below a folder ``dev``, or *everywhere*."""
        for process in self.all:
            for path, text in _descriptors(process):
                if not text.startswith("/") or ("/dev/" in text) == everywhere:
                    continue
                with suppress(OSError):
                    found = os.stat(path)
                    if stat.S_ISBLK(found.st_mode) and found.st_rdev == number:
                        elsewhere = _link(PROC / str(process) / "ns" / "mnt") != self.own
                        yield Holder(Kind.OPEN, text, process, _command(process), elsewhere)
                        break

    def users(self, number: int) -> Iterator[Holder]:
        """Processes with anything of the file system on device *number* in use."""
        hexadecimal = b"%02x:%02x" % (os.major(number), os.minor(number))
        for process in self.all:
            folder = PROC / str(process)
            paths = [(folder / name, "") for name in ("cwd", "root", "exe")]
            for path, text in [*paths, *_descriptors(process)]:
                if text and not text.startswith("/"):
                    continue
                with suppress(OSError):
                    if os.stat(path).st_dev == number:
                        yield Holder(Kind.USED, text or _link(path), process, _command(process))
                        break
            else:
                with suppress(OSError):
                    for line in (folder / "maps").read_bytes().split(b"\n"):
                        parts = line.split(None, 5)
                        if len(parts) == 6 and parts[3] == hexadecimal:
                            yield Holder(Kind.USED, os.fsdecode(parts[5]), process, _command(process))
                            break

    def lone_namespaces(self) -> Iterator[Holder]:
        """Mount namespaces kept by an open file only: no process's mountinfo shows their mounts."""
        for process in self.all:
            for _, text in _descriptors(process):
                if re.fullmatch(r"mnt:\[\d+\]", text) and text not in self._namespaces:
                    yield Holder(Kind.NAMESPACE, text, process, _command(process))
                    break

    def unseen(self) -> list[Holder]:
        """What this walk could not look at, in words."""
        found = []
        if self.hidden:
            what = f"{self.hidden} process{'' if self.hidden == 1 else 'es'} could not be inspected"
            how = ": run it as root" if os.geteuid() else ""
            found.append(Holder(Kind.UNSEEN, what + how))
        with suppress(OSError):
            if os.stat(PROC / "self" / "ns" / "pid").st_ino != FIRST_PID_NAMESPACE:
                found.append(
                    Holder(Kind.UNSEEN, "processes outside of this container could not be inspected")
                )
        return found


def _swaps(number: int) -> Iterator[Holder]:
    try:
        lines = (PROC / "swaps").read_bytes().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        path = mountinfo.plain(line.split()[0])
        with suppress(OSError):
            if os.stat(path).st_rdev == number:
                yield Holder(Kind.SWAP, path)


def _loops_over(number: int) -> Iterator[Holder]:
    """Loop devices over a block device; those over files are found by :func:`lamella.block.loop.find`."""
    for folder in sysfs.device_folders(SYS / "block"):
        backing = sysfs.attribute(folder, "loop/backing_file")
        with suppress(OSError):
            if backing.startswith("/dev/") and os.stat(backing).st_rdev == number:
                yield Holder(Kind.ABOVE, folder.name)


def _descriptors(process: int) -> Iterator[tuple[Path, str]]:
    """Each open descriptor: its magic link, and what the link says."""
    folder = PROC / str(process) / "fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = folder / name
        text = _link(path)
        if text:
            yield path, text


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _command(process: int) -> str:
    try:
        return (PROC / str(process) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "gone already"
