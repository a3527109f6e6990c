# SPDX-License-Identifier: Apache-2.0
"""Emulated devices: those that the kernel would have of a store that the user engine serves.

As if the store had just been activated on a machine without other device-mapper or loop devices: the
volumes below the pool, the pool, and every thin device of the store, numbered in the order in which they
would be made. Tables are those that activation would load, status lines those of the user engine.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lamella.block import sysfs
from lamella.block.device import SECTOR
from lamella.block.opening import is_remote
from lamella.devicemapper.client import own_major
from lamella.devicemapper.device import DeviceInfo
from lamella.devicemapper.table import Linear, SnapshotOrigin, Striped, Target, TargetLine, Thin, ThinPool
from lamella.driver.device_names import device_name
from lamella.errors import NotFoundError
from lamella.thin.status import PoolMode, PoolOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lamella.driver.device_set import DeviceSet
    from lamella.thin.status import PoolStatus

MAJOR = 253
"""Device-mapper's major number where the kernel has not given it another."""
LOOP_MAJOR, NBD_MAJOR = 7, 43
VERSION = (4, 47, 0)
TARGETS = {
    "thin-pool": (1, 22, 0),
    "thin": (1, 22, 0),
    "striped": (1, 6, 0),
    "linear": (1, 4, 0),
    "error": (1, 5, 0),
}
"""Linux 6.1's, in the order in which it lists them."""
READ_AHEAD = 256
"""Sectors."""


@dataclass(frozen=True, slots=True)
class EmulatedDevice:
    """One device; *status* gives the text of each target's status."""

    name: str
    uuid: str
    minor: int
    table: tuple[Target, ...]
    status: Callable[[], list[str]]
    read_ahead: int = READ_AHEAD
    read_only: bool = False


@dataclass(slots=True)
class EmulatedDevices:
    """All of them, with the methods of :class:`lamella.devicemapper.client.DeviceMapper` that only look."""

    major: int = MAJOR
    version: tuple[int, int, int] = VERSION
    devices: dict[str, EmulatedDevice] = field(default_factory=dict)
    disks: dict[tuple[int, int], str] = field(default_factory=dict)
    """Names of the other emulated block devices: loop devices, NBD clients."""
    _names: dict[int | str, str] = field(default_factory=dict)
    """Names by minor number and by UUID."""
    _users: Counter[str] = field(default_factory=Counter)
    """How many devices are mapped to each "major:minor"."""

    def add(
        self,
        name: str,
        uuid: str,
        table: tuple[Target, ...],
        status: Callable[[], list[str]],
        *,
        read_ahead: int = READ_AHEAD,
        read_only: bool = False,
    ) -> str:
        """Add a device with the next number; gives that."""
        minor = len(self.devices)
        self.devices[name] = EmulatedDevice(name, uuid, minor, table, status, read_ahead, read_only)
        self._names[minor] = name
        if uuid:
            self._names[uuid] = name
        self._users.update(_used(table))
        return f"{self.major}:{minor}"

    def names(self) -> list[str]:
        """Sorted by their bytes, as the kernel lists them."""
        return sorted(self.devices, key=os.fsencode)

    def info(self, name: str = "", *, uuid: str = "", number: tuple[int, int] | None = None) -> DeviceInfo:
        """The kernel's state of the device, were it active. Raises :class:`NotFoundError`."""
        device = self._find(name, uuid, number)
        return DeviceInfo(
            name=device.name,
            uuid=device.uuid,
            major=self.major,
            minor=device.minor,
            open_count=self._users[f"{self.major}:{device.minor}"],
            event_nr=0,
            target_count=len(device.table),
            suspended=False,
            read_only=device.read_only,
            live_table=True,
            inactive_table=False,
            deferred_remove=False,
            internal_suspend=False,
        )

    def table(self, name: str, *, inactive: bool = False) -> list[TargetLine]:
        """The live table; there is no inactive one."""
        if inactive:
            return []
        return [
            TargetLine(target.start, target.length, target.kind, target.parameters)
            for target in self._find(name).table
        ]

    def status(self, name: str, *, flush: bool = True, inactive: bool = False) -> list[TargetLine]:
        """Each target's state as the user engine knows it."""
        if inactive:
            return []
        device = self._find(name)
        return [
            TargetLine(target.start, target.length, target.kind, text)
            for target, text in zip(device.table, device.status(), strict=True)
        ]

    def deps(self, name: str, *, inactive: bool = False) -> list[tuple[int, int]]:
        """(major, minor) of each device that the table uses, the last one first, as the kernel has it."""
        if inactive:
            return []
        found = [number.split(":") for number in reversed(_used(self._find(name).table))]
        return [(int(major), int(minor)) for major, minor in found]

    def targets(self) -> dict[str, tuple[int, int, int]]:
        """The targets of the kernel that the format is taken from, and their versions."""
        return dict(TARGETS)

    def block_name(self, major: int, minor: int) -> str | None:
        """The kernel's own name of a block device."""
        if major == self.major:
            return f"dm-{minor}"
        return self.disks.get((major, minor)) or sysfs.block_name(major, minor)

    def read_ahead(self, info: DeviceInfo) -> int | None:
        """Sectors that are read ahead: twice the size of the pool's chunks, if that is much."""
        return self._find(info.name).read_ahead

    def _find(self, name: str, uuid: str = "", number: tuple[int, int] | None = None) -> EmulatedDevice:
        if uuid:
            name = self._names.get(uuid, "")
        elif not name and number is not None and number[0] == self.major:
            name = self._names.get(number[1], "")
        device = self.devices.get(name)
        if device is not None:
            return device
        what = name or uuid or (f"{number[0]}:{number[1]}" if number else "it")
        raise NotFoundError(f"no device {what} would exist", hint="dmsetup ls lists the devices")


def emulated_devices(devices: DeviceSet) -> EmulatedDevices:
    """Those of an open pool of the user engine, which has to stay open while status lines are asked for."""
    found = EmulatedDevices(major=own_major(MAJOR))
    root, backend, chunk_size = devices.state.path.parent, devices.backend, devices.pool.chunk_size
    read_ahead = max(READ_AHEAD, 2 * chunk_size // SECTOR)
    backend.emulate(_Tree(found, devices, read_ahead), devices.devices, chunk_size)
    pool = f"{found.major}:{found.info(backend.pool_name(root)).minor}"
    for device in devices.state.devices(deleted=False):
        found.add(
            device_name(root, device.hash),
            "",
            (Thin(0, device.size // SECTOR, pool=pool, device_id=device.device_id),),
            lambda device=device: [_thin_status(devices, device.device_id, device.size)],  # type: ignore[misc]
            read_ahead=read_ahead,
        )
    return found


@dataclass(frozen=True, slots=True)
class _Tree:
    """Takes the pool's devices and those below it from :meth:`PoolBackend.emulate`."""

    found: EmulatedDevices
    devices: DeviceSet
    read_ahead: int
    """Sectors that are read ahead of a pool."""

    def attach(self, path: str) -> str:
        remote = is_remote(path)
        if not remote:
            status = os.stat(path)
            if stat.S_ISBLK(status.st_mode):
                return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        major, kind = (NBD_MAJOR, "nbd") if remote else (LOOP_MAJOR, "loop")
        minor = sum(taken == major for taken, _ in self.found.disks)
        self.found.disks[major, minor] = f"{kind}{minor}"
        return f"{major}:{minor}"

    def add(self, name: str, uuid: str, table: tuple[Target, ...], *, read_only: bool = False) -> str:
        is_pool = any(isinstance(target, ThinPool) for target in table)
        return self.found.add(
            name,
            uuid,
            table,
            lambda: [_status(self.devices, target) for target in table],
            read_ahead=self.read_ahead if is_pool else READ_AHEAD,
            read_only=read_only,
        )


def _status(devices: DeviceSet, target: Target) -> str:
    if isinstance(target, ThinPool):
        return _pool_status(devices, target)
    if isinstance(target, Striped):
        areas = " ".join(device for device, _ in target.stripes)
        return f"{len(target.stripes)} {areas} 1 {'A' * len(target.stripes)}"
    return ""


def _pool_status(devices: DeviceSet, table: ThinPool) -> str:
    """The status line of the pool just activated with that table."""
    status: PoolStatus = devices.pool.status()
    if status.mode is PoolMode.FAIL:
        return status.line()
    options = PoolOptions.from_features(table.features)
    return replace(
        status,
        mode=PoolMode.READ_ONLY if status.needs_check else PoolMode.WRITE,
        discards=options.discards,
        error_if_no_space=options.error_if_no_space,
    ).line()


def _thin_status(devices: DeviceSet, device_id: int, size: int) -> str:
    from lamella.thin.engine.volume import Volume

    with devices.pool.open_volume(device_id, size, read_only=True) as volume:
        assert isinstance(volume, Volume)
        return volume.status_line()


def _used(table: Iterable[Target]) -> list[str]:
    """The devices that a table names, in the order in which the kernel takes them."""
    found: list[str] = []
    for target in table:
        match target:
            case Linear() | SnapshotOrigin():
                found.append(target.device)
            case Striped():
                found += [device for device, _ in target.stripes]
            case ThinPool():
                found += [target.metadata, target.data]
            case Thin():
                found += [*([target.origin] if target.origin else []), target.pool]
    return list(dict.fromkeys(found))
