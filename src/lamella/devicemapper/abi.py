# SPDX-License-Identifier: Apache-2.0
"""The device-mapper control interface as bytes: requests packed, answers unpacked. Touches no system.

Authority: the kernel's ``include/uapi/linux/dm-ioctl.h`` (interface version 4).
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lamella.devicemapper.table import Target

HEADER = struct.Struct("=3I I I I i I I 4x Q 128s 129s 7x")
"""struct dm_ioctl: version, data_size, data_start, target_count, open_count, flags, event_nr, dev,
name, uuid."""
SPEC = struct.Struct("=QQiI16s")
"""struct dm_target_spec: first sector, sectors, status, offset of the next, target's name."""
VERSION = (4, 0, 0)
MAX_NAME = 127
MAX_UUID = 128


class Command(IntEnum):
    """Numbers of the ioctls."""

    VERSION = 0
    LIST_DEVICES = 2
    DEV_CREATE = 3
    DEV_REMOVE = 4
    DEV_RENAME = 5
    DEV_SUSPEND = 6
    DEV_STATUS = 7
    DEV_WAIT = 8
    TABLE_LOAD = 9
    TABLE_CLEAR = 10
    TABLE_DEPS = 11
    TABLE_STATUS = 12
    LIST_VERSIONS = 13
    TARGET_MSG = 14

    @property
    def request(self) -> int:
        """The number that ioctl(2) takes: ``_IOWR(0xfd, command, struct dm_ioctl)``."""
        return 3 << 30 | HEADER.size << 16 | 0xFD << 8 | self.value


class Flag(IntFlag):
    """What a request asks for, and what an answer says of the device."""

    READ_ONLY = 1 << 0
    SUSPEND = 1 << 1
    PERSISTENT_DEV = 1 << 3
    STATUS_TABLE = 1 << 4
    ACTIVE_PRESENT = 1 << 5
    INACTIVE_PRESENT = 1 << 6
    BUFFER_FULL = 1 << 8
    SKIP_LOCKFS = 1 << 10
    NO_FLUSH = 1 << 11
    QUERY_INACTIVE = 1 << 12
    UEVENT_GENERATED = 1 << 13
    UUID = 1 << 14
    SECURE_DATA = 1 << 15
    DATA_OUT = 1 << 16
    DEFERRED_REMOVE = 1 << 17
    INTERNAL_SUSPEND = 1 << 18


NOTHING = Flag(0)


class Answer(NamedTuple):
    """The header that the kernel filled in."""

    version: tuple[int, int, int]
    data_size: int
    data_start: int
    target_count: int
    open_count: int
    flags: Flag
    event_nr: int
    dev: int
    name: str
    uuid: str


def pack(
    size: int,
    *,
    name: str = "",
    uuid: str = "",
    dev: int = 0,
    flags: Flag = NOTHING,
    event_nr: int = 0,
    target_count: int = 0,
    data: bytes = b"",
) -> bytearray:
    """A request in a buffer of *size* bytes or, if *data* wants more, as many as that takes."""
    buffer = bytearray(max(size, HEADER.size + len(data)))
    HEADER.pack_into(
        buffer, 0, *VERSION, len(buffer), HEADER.size, target_count, 0, flags, event_nr, dev,
        name.encode(), uuid.encode(),
    )  # fmt: skip
    buffer[HEADER.size : HEADER.size + len(data)] = data
    return buffer


def unpack(buffer: bytearray) -> Answer:
    """The header of an answer."""
    a, b, c, size, start, count, opened, flags, event, dev, name, uuid = HEADER.unpack_from(buffer)
    return Answer((a, b, c), size, start, count, opened, Flag(flags), event, dev, _text(name), _text(uuid))


def pack_targets(targets: Iterable[Target]) -> bytes:
    """What TABLE_LOAD takes: each target's spec and its parameters, padded to eight bytes."""
    out = bytearray()
    for target in targets:
        text = target.parameters.encode() + b"\0"
        text += bytes(-len(text) % 8)
        out += SPEC.pack(target.start, target.length, 0, SPEC.size + len(text), target.kind.encode()) + text
    return bytes(out)


def unpack_targets(buffer: bytearray, answer: Answer) -> list[tuple[int, int, str, str]]:
    """(first sector, sectors, target, text) of each target that TABLE_STATUS gave."""
    found = []
    at = answer.data_start
    for _ in range(answer.target_count):
        start, length, _, following, kind = SPEC.unpack_from(buffer, at)
        text = bytes(buffer[at + SPEC.size : answer.data_start + following])
        found.append((start, length, _text(kind), _text(text)))
        at = answer.data_start + following
    return found


def unpack_names(buffer: bytearray, answer: Answer) -> Iterator[tuple[str, int]]:
    """(name, device number) of each device that LIST_DEVICES gave."""
    at = answer.data_start
    if answer.data_size <= at:
        return
    while True:
        dev, following = struct.unpack_from("=QI", buffer, at)
        if not dev:
            return
        yield _text(bytes(buffer[at + 12 : at + 12 + MAX_NAME + 1])), dev
        if not following:
            return
        at += following


def unpack_versions(buffer: bytearray, answer: Answer) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """(target's name, its version) of each target that LIST_VERSIONS gave."""
    at = answer.data_start
    while at + 16 < answer.data_size:
        following, *version = struct.unpack_from("=4I", buffer, at)
        yield _text(bytes(buffer[at + 16 : at + 144])), (version[0], version[1], version[2])
        if not following:
            return
        at += following


def unpack_deps(buffer: bytearray, answer: Answer) -> list[int]:
    """The device numbers that TABLE_DEPS gave."""
    if answer.data_size <= answer.data_start:
        return []
    (count,) = struct.unpack_from("=I", buffer, answer.data_start)
    return list(struct.unpack_from(f"={count}Q", buffer, answer.data_start + 8))


def message_data(sector: int, text: str) -> bytes:
    """What TARGET_MSG takes."""
    return struct.pack("=Q", sector) + text.encode() + b"\0"


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")
