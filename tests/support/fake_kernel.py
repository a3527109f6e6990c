# SPDX-License-Identifier: Apache-2.0
"""A device-mapper in memory behind the real client: takes the bytes of its ioctls and answers with bytes.

It keeps names, tables, suspension and open counts as the kernel does, and lists the changes it was asked for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.devicemapper import client as client_module
from lamella.devicemapper import ioctl
from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.ioctl import Command, Flag
from lamella.devicemapper.table import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAJOR = 253
VERSION = (4, 47, 0)
TARGETS = {"linear": (1, 4, 0), "error": (1, 5, 0)}

Answer = tuple["Device | None", bytes, Flag]


@dataclass
class Device:
    name: str
    uuid: str
    minor: int
    live: tuple[Target, ...] = ()
    inactive: tuple[Target, ...] = ()
    read_only: bool = False
    inactive_read_only: bool = False
    suspended: bool = False
    opened: int = 0
    """How often it is open, apart from the tables that use it."""
    event: int = 0
    deferred: bool = False

    @property
    def number(self) -> str:
        return f"{MAJOR}:{self.minor}"


@dataclass
class Request:
    flags: Flag
    event: int
    count: int
    dev: int
    name: str
    uuid: str
    data: bytes


@dataclass
class FakeKernel:
    """Made by :func:`fake_kernel`. The first five fields are for tests to read, the others to set."""

    client: DeviceMapper = field(init=False)
    """A client of this kernel."""
    devices: dict[bytes, Device] = field(default_factory=dict)
    """By name."""
    commands: list[Command] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    """The changes: ``load NAME``, ``message NAME: TEXT``; failed ones too."""
    largest: dict[Command, int] = field(default_factory=dict)
    """The size of the largest buffer of each command, in bytes."""

    interrupted: int = 0
    """How many of the next calls are interrupted by a signal."""
    fail: set[tuple[str, str]] = field(default_factory=set)
    """Changes (``("load", NAME)``) that fail once, with EINVAL."""
    refuse: dict[str, int] = field(default_factory=dict)
    """The error number that a message fails with, by its text."""
    said: dict[str, str] = field(default_factory=dict)
    """What a target answers to a message, by its text."""
    pools: dict[str, str] = field(default_factory=dict)
    """The status of thin pools and thin volumes, by name."""
    fresh_pool: str = "0 20/1024 0/100 - rw discard_passdown queue_if_no_space - 256 "
    """The status of any other thin pool."""

    def device(self, name: str) -> Device:
        return self.devices[os.fsencode(name)]

    def add(self, name: str, uuid: str, table: Sequence[Target], *, read_only: bool = False) -> None:
        """Add an active device."""
        device = Device(name, uuid, len(self.devices), tuple(table), read_only=read_only)
        self.devices[os.fsencode(name)] = device

    def ioctl(self, fd: int, request: int, buffer: bytearray, mutate: bool = True) -> int:
        """One call: *buffer* holds the request, and then the answer."""
        command = Command(request & 0xFF)
        assert request == command.request
        self.commands.append(command)
        self.largest[command] = max(self.largest.get(command, 0), len(buffer))
        if self.interrupted:
            self.interrupted -= 1
            raise InterruptedError(errno.EINTR, "Interrupted system call")
        head = ioctl.HEADER.unpack_from(buffer)
        size, start, count, flags, event, dev = head[3], head[4], head[5], Flag(head[7]), head[8], head[9]
        name, uuid = (_text(part) for part in head[10:12])
        asked = Request(flags, event, count, dev, name, uuid, bytes(buffer[start:size]))
        device, data, more = getattr(self, f"_{command.name.lower()}")(asked)
        self._answer(buffer, device, data, more, inactive=Flag.QUERY_INACTIVE in flags)
        return 0

    def _answer(
        self, buffer: bytearray, device: Device | None, data: bytes, more: Flag, *, inactive: bool
    ) -> None:
        start = ioctl.HEADER.size
        if start + len(data) > len(buffer):
            more, data = more | Flag.BUFFER_FULL, b""
        count = dev = opened = event = 0
        name = uuid = b""
        if device is not None:
            dev = os.makedev(MAJOR, device.minor)
            count = len(device.inactive if inactive else device.live)
            opened, event = self._open_count(device), device.event
            name, uuid = os.fsencode(device.name), os.fsencode(device.uuid)
            more |= Flag.ACTIVE_PRESENT if device.live else ioctl.NOTHING
            more |= Flag.INACTIVE_PRESENT if device.inactive else ioctl.NOTHING
            more |= Flag.READ_ONLY if device.read_only else ioctl.NOTHING
            more |= Flag.SUSPEND if device.suspended else ioctl.NOTHING
            more |= Flag.DEFERRED_REMOVE if device.deferred else ioctl.NOTHING
        ioctl.HEADER.pack_into(
            buffer, 0, *VERSION, start + len(data), start, count, opened, more, event, dev, name, uuid
        )
        buffer[start : start + len(data)] = data

    def _find(self, asked: Request) -> Device:
        for device in self.devices.values():
            if asked.name:
                same = device.name == asked.name
            elif asked.uuid:
                same = device.uuid == asked.uuid
            else:
                same = os.makedev(MAJOR, device.minor) == asked.dev
            if same:
                return device
        raise OSError(errno.ENXIO, "No such device or address")

    def _open_count(self, device: Device) -> int:
        tables = [table for other in self.devices.values() for table in (other.live, other.inactive)]
        return device.opened + sum(device.number in _used(table) for table in tables)

    def _note(self, change: str, name: str, more: str = "") -> None:
        self.calls.append(f"{change} {name}{more}")
        if (change, name) in self.fail:
            self.fail.discard((change, name))
            raise OSError(errno.EINVAL, "Invalid argument")

    # -- commands --------------------------------------------------------------------------------

    def _version(self, asked: Request) -> Answer:
        return None, b"", ioctl.NOTHING

    def _list_devices(self, asked: Request) -> Answer:
        pieces = []
        for name, device in sorted(self.devices.items()):
            body = ioctl.LISTED.pack(os.makedev(MAJOR, device.minor), 0) + name + b"\0"
            body += bytes(-len(body) % 8) + struct.pack("=I4x", device.event)
            pieces.append(body)
        out = b"".join(
            piece[:8] + struct.pack("=I", len(piece) if number < len(pieces) else 0) + piece[12:]
            for number, piece in enumerate(pieces, 1)
        )
        return None, out, ioctl.NOTHING

    def _dev_create(self, asked: Request) -> Answer:
        self._note("create", asked.name)
        taken = {each.minor for each in self.devices.values()}
        minor = next(number for number in range(1000) if number not in taken)
        if Flag.PERSISTENT_DEV in asked.flags:
            minor = os.minor(asked.dev)
        for each in self.devices.values():
            if each.name == asked.name or (asked.uuid and each.uuid == asked.uuid) or each.minor == minor:
                raise OSError(errno.EBUSY, "Device or resource busy")
        device = Device(asked.name, asked.uuid, minor)
        self.devices[os.fsencode(asked.name)] = device
        return device, b"", ioctl.NOTHING

    def _dev_remove(self, asked: Request) -> Answer:
        self._note("remove", asked.name)
        device = self._find(asked)
        if self._open_count(device):
            if Flag.DEFERRED_REMOVE not in asked.flags:
                raise OSError(errno.EBUSY, "Device or resource busy")
            device.deferred = True
            return device, b"", ioctl.NOTHING
        del self.devices[os.fsencode(device.name)]
        # One without a table never became a disk, of which there would be an event.
        return None, b"", Flag.UEVENT_GENERATED if device.live else ioctl.NOTHING

    def _dev_rename(self, asked: Request) -> Answer:
        device = self._find(asked)
        new = _text(asked.data)
        if Flag.UUID in asked.flags:
            device.uuid = new
        else:
            self._note("rename", asked.name, f" to {new}")
            if os.fsencode(new) in self.devices:
                raise OSError(errno.EBUSY, "Device or resource busy")
            del self.devices[os.fsencode(device.name)]
            if device.name in self.pools:
                self.pools[new] = self.pools.pop(device.name)
            device.name = new
            self.devices[os.fsencode(new)] = device
        return device, b"", Flag.UEVENT_GENERATED

    def _dev_suspend(self, asked: Request) -> Answer:
        suspends = Flag.SUSPEND in asked.flags
        self._note("suspend" if suspends else "resume", asked.name)
        device = self._find(asked)
        resumes = not suspends and bool(device.suspended or device.inactive)
        device.suspended = suspends
        if resumes and device.inactive:
            device.live, device.read_only = device.inactive, device.inactive_read_only
            device.inactive = ()
        return device, b"", Flag.UEVENT_GENERATED if resumes else ioctl.NOTHING

    def _dev_status(self, asked: Request) -> Answer:
        return self._find(asked), b"", ioctl.NOTHING

    def _dev_wait(self, asked: Request) -> Answer:
        device = self._find(asked)
        if device.event == asked.event:
            device.event += 1
        return device, b"", ioctl.NOTHING

    def _dev_arm_poll(self, asked: Request) -> Answer:
        return None, b"", ioctl.NOTHING

    def _table_load(self, asked: Request) -> Answer:
        self._note("load", asked.name)
        device = self._find(asked)
        at, table = 0, []
        for _ in range(asked.count):
            first, length, _status, following, kind = ioctl.SPEC.unpack_from(asked.data, at)
            parameters = _text(asked.data[at + ioctl.SPEC.size : at + following])
            table.append(Target(first, length, _text(kind), parameters))
            at += following
        numbers = {other.number for other in self.devices.values()}
        for used in _used(table):
            assert not used.startswith(f"{MAJOR}:") or used in numbers, f"{device.name} uses {used}"
        device.inactive, device.inactive_read_only = tuple(table), Flag.READ_ONLY in asked.flags
        return device, b"", ioctl.NOTHING

    def _table_clear(self, asked: Request) -> Answer:
        self._note("clear", asked.name)
        device = self._find(asked)
        device.inactive = ()
        return device, b"", ioctl.NOTHING

    def _table_deps(self, asked: Request) -> Answer:
        device = self._find(asked)
        table = device.inactive if Flag.QUERY_INACTIVE in asked.flags else device.live
        numbers = [os.makedev(*map(int, word.split(":"))) for word in _used(table)]
        return device, struct.pack(f"=I4x{len(numbers)}Q", len(numbers), *numbers), ioctl.NOTHING

    def _table_status(self, asked: Request) -> Answer:
        device = self._find(asked)
        out = bytearray()
        for target in device.inactive if Flag.QUERY_INACTIVE in asked.flags else device.live:
            words = target.parameters if Flag.STATUS_TABLE in asked.flags else self._status(device, target)
            text = os.fsencode(words) + b"\0"
            text += bytes(-(len(text) + ioctl.SPEC.size) % 8)
            following = len(out) + ioctl.SPEC.size + len(text)  # of the next one, from the first
            out += ioctl.SPEC.pack(target.start, target.length, 0, following, target.kind.encode()) + text
        return device, bytes(out), ioctl.NOTHING

    def _status(self, device: Device, target: Target) -> str:
        default = {"thin-pool": self.fresh_pool, "thin": "0 -"}.get(target.kind)
        return "" if default is None else self.pools.get(device.name, default)

    def _list_versions(self, asked: Request) -> Answer:
        out = bytearray()
        for number, (name, version) in enumerate(TARGETS.items(), 1):
            text = name.encode() + b"\0"
            text += bytes(-len(text) % 8)
            out += struct.pack("=4I", 16 + len(text) if number < len(TARGETS) else 0, *version) + text
        return None, bytes(out), ioctl.NOTHING

    def _target_msg(self, asked: Request) -> Answer:
        text = _text(asked.data[8:])
        self._note("message", asked.name, f": {text}")
        device = self._find(asked)
        if text in self.refuse:
            raise OSError(self.refuse[text], os.strerror(self.refuse[text]))
        if text == "@cancel_deferred_remove":
            device.deferred = False
            return device, b"", ioctl.NOTHING
        if text.startswith("set_transaction_id "):
            rest = self.pools.get(device.name, self.fresh_pool).partition(" ")[2]
            self.pools[device.name] = f"{text.split()[2]} {rest}"
        said = self.said.get(text, "")
        return device, said.encode() + b"\0" if said else b"", Flag.DATA_OUT if said else ioctl.NOTHING


@contextmanager
def fake_kernel() -> Iterator[FakeKernel]:
    """A kernel that answers the device-mapper ioctls of this process, for as long as the block."""
    kernel, real = FakeKernel(), fcntl.ioctl

    def call(fd: int, request: int, *rest: object) -> object:
        of_device_mapper = request >> 8 & 0xFF == Command.VERSION.request >> 8 & 0xFF
        return (kernel.ioctl if of_device_mapper else real)(fd, request, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "ioctl", call)
        patch.setattr(os, "geteuid", lambda: 0)
        patch.setattr(client_module, "own_major", lambda default=None: MAJOR)
        with DeviceMapper(Path(os.devnull)) as kernel.client:
            kernel.commands.clear()
            yield kernel


def _text(data: bytes) -> str:
    return os.fsdecode(data.partition(b"\0")[0])


def _used(table: Sequence[Target]) -> list[str]:
    """The devices that a table uses, each once."""
    return list(dict.fromkeys(word for one in table for word in one.parameters.split() if ":" in word))
