# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of the control interface, in memory: takes the ioctls' bytes and answers with bytes."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass, field

from lamella.devicemapper import ioctl
from lamella.devicemapper.ioctl import Command, Flag

MAJOR = 253
VERSION = (4, 47, 0)
TARGETS = {"linear": (1, 4, 0), "error": (1, 5, 0)}

Line = tuple[int, int, bytes, bytes]
"""First sector, sectors, target, parameters."""


@dataclass
class Device:
    name: bytes
    uuid: bytes
    minor: int
    live: list[Line] = field(default_factory=list)
    inactive: list[Line] = field(default_factory=list)
    suspended: bool = False
    opened: int = 0
    event: int = 0
    deferred: bool = False


@dataclass
class Request:
    flags: Flag
    event: int
    count: int
    dev: int
    name: bytes
    uuid: bytes
    data: bytes


class FakeKernel:
    """Stands in for ``fcntl.ioctl``. *interrupted* calls to come are broken off by a signal; *said* is what
    a target answers to a message."""

    def __init__(self) -> None:
        self.devices: dict[bytes, Device] = {}
        self.calls: list[Command] = []
        self.largest: dict[Command, int] = {}
        """The largest buffer that came with each."""
        self.interrupted = 0
        self.said: dict[str, str] = {}

    def ioctl(self, fd: int, request: int, buffer: bytearray, mutate: bool = True) -> int:
        """One call: *buffer* holds the request, and then the answer."""
        command = Command(request & 0xFF)
        assert request == command.request
        self.calls.append(command)
        self.largest[command] = max(self.largest.get(command, 0), len(buffer))
        if self.interrupted:
            self.interrupted -= 1
            raise InterruptedError(errno.EINTR, "Interrupted system call")
        head = ioctl.HEADER.unpack_from(buffer)
        size, start, count, flags, event, dev = head[3], head[4], head[5], Flag(head[7]), head[8], head[9]
        name, uuid = (text.partition(b"\0")[0] for text in head[10:12])
        asked = Request(flags, event, count, dev, name, uuid, bytes(buffer[start:size]))
        device, data, more = getattr(self, f"_{command.name.lower()}")(asked)
        self._answer(buffer, device, data, more)
        return 0

    def _answer(self, buffer: bytearray, device: Device | None, data: bytes, more: Flag) -> None:
        start = ioctl.HEADER.size
        if start + len(data) > len(buffer):
            more, data = more | Flag.BUFFER_FULL, b""
        count = dev = opened = event = 0
        name = uuid = b""
        if device is not None:
            dev = os.makedev(MAJOR, device.minor)
            count, opened, event = len(device.live), device.opened, device.event
            name, uuid = device.name, device.uuid
            more |= Flag.ACTIVE_PRESENT if device.live else ioctl.NOTHING
            more |= Flag.INACTIVE_PRESENT if device.inactive else ioctl.NOTHING
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

    # -- commands --------------------------------------------------------------------------------

    def _version(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        return None, b"", ioctl.NOTHING

    def _list_devices(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        pieces = []
        for device in self.devices.values():
            body = ioctl.LISTED.pack(os.makedev(MAJOR, device.minor), 0) + device.name + b"\0"
            body += bytes(-len(body) % 8) + struct.pack("=I4x", device.event)
            pieces.append(body)
        out = b"".join(
            piece[:8] + struct.pack("=I", len(piece) if number < len(pieces) else 0) + piece[12:]
            for number, piece in enumerate(pieces, 1)
        )
        return None, out, ioctl.NOTHING

    def _dev_create(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        if any(
            each.name == asked.name or (asked.uuid and each.uuid == asked.uuid)
            for each in self.devices.values()
        ):
            raise OSError(errno.EBUSY, "Device or resource busy")
        taken = {each.minor for each in self.devices.values()}
        minor = next(number for number in range(1000) if number not in taken)
        device = Device(asked.name, asked.uuid, minor)
        self.devices[asked.name] = device
        return device, b"", ioctl.NOTHING

    def _dev_remove(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        if device.opened:
            if Flag.DEFERRED_REMOVE not in asked.flags:
                raise OSError(errno.EBUSY, "Device or resource busy")
            device.deferred = True
            return device, b"", ioctl.NOTHING
        del self.devices[device.name]
        # One without a table never became a disk, of which there would be an event.
        return None, b"", Flag.UEVENT_GENERATED if device.live else ioctl.NOTHING

    def _dev_rename(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        new = asked.data.partition(b"\0")[0]
        if Flag.UUID in asked.flags:
            device.uuid = new
        elif new in self.devices:
            raise OSError(errno.EBUSY, "Device or resource busy")
        else:
            del self.devices[device.name]
            device.name = new
            self.devices[new] = device
        return device, b"", Flag.UEVENT_GENERATED

    def _dev_suspend(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        resumes = Flag.SUSPEND not in asked.flags and bool(device.suspended or device.inactive)
        device.suspended = Flag.SUSPEND in asked.flags
        if not device.suspended and device.inactive:
            device.live, device.inactive = device.inactive, []
        return device, b"", Flag.UEVENT_GENERATED if resumes else ioctl.NOTHING

    def _dev_status(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        return self._find(asked), b"", ioctl.NOTHING

    def _dev_wait(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        if device.event == asked.event:
            device.event += 1
        return device, b"", ioctl.NOTHING

    def _dev_arm_poll(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        return None, b"", ioctl.NOTHING

    def _table_load(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        at, lines = 0, []
        for _ in range(asked.count):
            first, length, _status, following, kind = ioctl.SPEC.unpack_from(asked.data, at)
            words = asked.data[at + ioctl.SPEC.size : at + following].partition(b"\0")[0]
            lines.append((first, length, kind.partition(b"\0")[0], words))
            at += following
        device.inactive = lines
        return device, b"", ioctl.NOTHING

    def _table_clear(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        device.inactive = []
        return device, b"", ioctl.NOTHING

    def _table_deps(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        used = dict.fromkeys(
            word for _, _, _, words in device.live for word in words.decode().split() if ":" in word
        )
        numbers = [os.makedev(*map(int, word.split(":"))) for word in used]
        return device, struct.pack(f"=I4x{len(numbers)}Q", len(numbers), *numbers), ioctl.NOTHING

    def _table_status(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        out = bytearray()
        for first, length, kind, words in device.live:
            text = (words if Flag.STATUS_TABLE in asked.flags else b"") + b"\0"
            text += bytes(-(len(text) + ioctl.SPEC.size) % 8)
            following = len(out) + ioctl.SPEC.size + len(text)  # of the next one, from the first
            out += ioctl.SPEC.pack(first, length, 0, following, kind) + text
        return device, bytes(out), ioctl.NOTHING

    def _list_versions(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        out = bytearray()
        for number, (name, version) in enumerate(TARGETS.items(), 1):
            text = name.encode() + b"\0"
            text += bytes(-len(text) % 8)
            out += struct.pack("=4I", 16 + len(text) if number < len(TARGETS) else 0, *version) + text
        return None, bytes(out), ioctl.NOTHING

    def _target_msg(self, asked: Request) -> tuple[Device | None, bytes, Flag]:
        device = self._find(asked)
        text = asked.data[8:].partition(b"\0")[0].decode()
        if text == "@cancel_deferred_remove":
            device.deferred = False
            return device, b"", ioctl.NOTHING
        said = self.said.get(text, "")
        return device, said.encode() + b"\0" if said else b"", Flag.DATA_OUT if said else ioctl.NOTHING
