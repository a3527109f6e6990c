# SPDX-License-Identifier: Apache-2.0
"""A device-mapper in memory: names, tables, suspension and open counts as the kernel keeps them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.devicemapper.client import DeviceInfo, TargetLine
from lamella.errors import BusyError, ExistsError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamella.devicemapper.table import Target
    from lamella.errors import LamellaError

MAJOR = 253


@dataclass
class Device:
    name: str
    uuid: str
    minor: int
    read_only: bool = False
    live: tuple[Target, ...] = ()
    inactive: tuple[Target, ...] = ()
    inactive_read_only: bool = False
    suspended: bool = False
    mounted: bool = False


@dataclass
class FakeKernel:
    """What a :class:`DeviceMapper` would do. ``fail`` names (what, device) that is to fail."""

    devices: dict[str, Device] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fail: set[tuple[str, str]] = field(default_factory=set)
    pools: dict[str, str] = field(default_factory=dict)
    """Status lines of pools and thin volumes by name; a fresh one where there is none."""
    refuse: dict[str, LamellaError] = field(default_factory=dict)
    """What a message, by its text, is answered with."""
    made_event: bool = True

    def _note(self, what: str, name: str, more: str = "") -> None:
        self.calls.append(f"{what} {name}{more}")
        if (what, name) in self.fail:
            self.fail.discard((what, name))
            raise UsageError(f"device-mapper cannot {what} {name}: Invalid argument")

    def _of(self, name: str = "", uuid: str = "") -> Device:
        for device in self.devices.values():
            if (name and device.name == name) or (uuid and device.uuid == uuid):
                return device
        raise NotFoundError(f"no device {name or uuid}")

    def _open_count(self, device: Device) -> int:
        number = f"{MAJOR}:{device.minor}"
        return device.mounted + sum(number in _used(other.live) for other in self.devices.values())

    def _info(self, device: Device) -> DeviceInfo:
        return DeviceInfo(
            device.name, device.uuid, MAJOR, device.minor, self._open_count(device), 0, len(device.live),
            device.suspended, device.read_only, bool(device.live), bool(device.inactive), False, False,
        )  # fmt: skip

    def create(
        self, name: str, uuid: str = "", *, minor: int | None = None, read_only: bool = False, cookie: int = 0
    ) -> DeviceInfo:
        self._note("create", name)
        if any(device.name == name or device.uuid == uuid for device in self.devices.values()):
            raise ExistsError(f"there is a device {name}")
        taken = {device.minor for device in self.devices.values()}
        free = minor if minor is not None else next(one for one in range(1000) if one not in taken)
        self.devices[uuid] = Device(name, uuid, free, read_only)
        return self._info(self.devices[uuid])

    def load(self, name: str, table: Sequence[Target], *, read_only: bool = False) -> None:
        self._note("load", name)
        device = self._of(name)
        known = {f"{MAJOR}:{other.minor}" for other in self.devices.values()}
        for used in _used(table):
            assert not used.startswith("LVM-")
            assert not used.startswith(f"{MAJOR}:") or used in known
        device.inactive, device.inactive_read_only = tuple(table), read_only

    def clear(self, name: str) -> None:
        self._note("clear", name)
        self._of(name).inactive = ()

    def suspend(self, name: str, *, flush: bool = True, freeze: bool = True) -> None:
        self._note("suspend", name)
        self._of(name).suspended = True

    def resume(self, name: str, *, flush: bool = True, freeze: bool = True, cookie: int = 0) -> DeviceInfo:
        self._note("resume", name)
        device = self._of(name)
        if device.inactive:
            device.live, device.read_only = device.inactive, device.inactive_read_only
            device.inactive = ()
        device.suspended = False
        return self._info(device)

    @contextmanager
    def suspended(self, name: str) -> Iterator[None]:
        self.suspend(name)
        try:
            yield
        finally:
            self.resume(name)

    def remove(self, name: str, *, deferred: bool = False, cookie: int = 0) -> bool:
        self._note("remove", name)
        device = self._of(name)
        if self._open_count(device):
            raise BusyError(f"{name} is busy")
        del self.devices[device.uuid]
        return True

    def rename(self, name: str, new: str, *, cookie: int = 0) -> None:
        self._note("rename", name, f" to {new}")
        self._of(name).name = new

    def message(self, name: str, text: str, *, sector: int = 0) -> str:
        self._note("message", name, f": {text}")
        if text in self.refuse:
            raise self.refuse[text]
        words = text.split()
        if words[0] == "set_transaction_id":
            _old, _, rest = self._pool(name).partition(" ")
            self.pools[name] = f"{words[2]} {rest}"
        return ""

    def info(self, name: str = "", *, uuid: str = "") -> DeviceInfo:
        return self._info(self._of(name, uuid))

    def find(self, name: str = "", *, uuid: str = "") -> DeviceInfo | None:
        try:
            return self.info(name, uuid=uuid)
        except NotFoundError:
            return None

    def table(self, name: str, *, inactive: bool = False) -> list[TargetLine]:
        device = self._of(name)
        targets = device.inactive if inactive else device.live
        return [TargetLine(one.start, one.length, one.kind, one.parameters) for one in targets]

    def _pool(self, name: str) -> str:
        return self.pools.get(name, "0 20/1024 0/100 - rw discard_passdown queue_if_no_space - 256 ")

    def _status(self, name: str, kind: str) -> str:
        if kind == "thin":
            return self.pools.get(name, "0 -")
        return self._pool(name) if kind == "thin-pool" else ""

    def status(self, name: str, *, flush: bool = True, inactive: bool = False) -> list[TargetLine]:
        device = self._of(name)
        return [
            TargetLine(one.start, one.length, one.kind, self._status(name, one.kind)) for one in device.live
        ]

    def deps(self, name: str, *, inactive: bool = False) -> list[tuple[int, int]]:
        pairs = [used.split(":") for used in _used(self._of(name).live)]
        return [(int(major), int(minor)) for major, minor in pairs]

    def list(self) -> list[tuple[str, int, int]]:
        return [(device.name, MAJOR, device.minor) for device in self.devices.values()]


def _used(table: Sequence[Target]) -> list[str]:
    return [word for target in table for word in target.parameters.split() if ":" in word]
