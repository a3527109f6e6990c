# SPDX-License-Identifier: Apache-2.0
"""The device-mapper control interface as bytes: requests packed, answers unpacked. Touches no system.

Authority: the kernel's ``include/uapi/linux/dm-ioctl.h`` (interface version 4).
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any, NamedTuple

from lamella.errors import CorruptError, UsageError

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
MAX_KIND = 15
"""Bytes, without the NUL that ends each in the structures."""
LISTED = struct.Struct("=QI")
"""struct dm_name_list: device, distance to the next; the name follows, then (4.37) the event number."""
LISTED_EVENTS_SINCE = (4, 37, 0)


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
    DEV_ARM_POLL = 16

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
    """A request in a buffer of *size* bytes or, if *data* wants more, as many as that takes.

    Raises :class:`UsageError` for a name or UUID that is too long: truncated, it would be another device's.
    """
    buffer = bytearray(max(size, HEADER.size + len(data)))
    try:
        HEADER.pack_into(
            buffer, 0, *VERSION, len(buffer), HEADER.size, target_count, 0, flags, event_nr, dev,
            _bytes(name, MAX_NAME, "a device's name"), _bytes(uuid, MAX_UUID, "a device's UUID"),
        )  # fmt: skip
    except struct.error as error:
        raise UsageError(f"invalid device-mapper request for {name or uuid!r}: {error}") from error
    buffer[HEADER.size : HEADER.size + len(data)] = data
    return buffer


def unpack(buffer: bytes | bytearray) -> Answer:
    """The header of an answer. Raises :class:`CorruptError` if it does not describe what came."""
    if len(buffer) < HEADER.size:
        raise _senseless("it is truncated")
    a, b, c, size, start, count, opened, flags, event, dev, name, uuid = HEADER.unpack_from(buffer)
    if size > len(buffer) and not flags & Flag.BUFFER_FULL:
        raise _senseless(f"it claims {size} bytes and has {len(buffer)}")
    return Answer((a, b, c), size, start, count, opened, Flag(flags), event, dev, text(name), text(uuid))


def pack_targets(targets: Iterable[Target]) -> bytes:
    """What TABLE_LOAD takes: each target's spec and its parameters, padded to eight bytes.

    Raises :class:`UsageError` for a target that the structures cannot hold unchanged.
    """
    out = bytearray()
    for target in targets:
        words = _bytes(target.parameters, None, f"the parameters of {target.kind}") + b"\0"
        words += bytes(-len(words) % 8)
        kind = _bytes(target.kind, MAX_KIND, "a target's name")
        try:
            out += SPEC.pack(target.start, target.length, 0, SPEC.size + len(words), kind) + words
        except struct.error as error:
            raise UsageError(f"{target.line[:200]!r} is not a line of a table: {error}") from error
    return bytes(out)


def unpack_targets(buffer: bytes | bytearray, answer: Answer) -> list[tuple[int, int, str, str]]:
    """(first sector, sectors, target, text) of each target that TABLE_STATUS gave."""
    found = []
    at = answer.data_start
    for _ in range(answer.target_count):
        start, length, _, following, kind = _unpack(SPEC, buffer, at)
        end = answer.data_start + following
        if not at + SPEC.size <= end <= len(buffer):
            raise _senseless(f"a target ends at {end}")
        found.append((start, length, text(kind), text(buffer[at + SPEC.size : end])))
        at = end
    return found


def unpack_names(buffer: bytes | bytearray, answer: Answer) -> Iterator[tuple[str, int, int | None]]:
    """(name, device number, event number) of each device that LIST_DEVICES gave.

    The event number is None from kernels whose interface is older than 4.37.
    """
    at = answer.data_start
    if answer.data_size <= at:
        return
    end_of_all = min(answer.data_size, len(buffer))
    while True:
        dev, following = _unpack(LISTED, buffer, at)
        if not dev:
            return
        end = at + following if following else end_of_all
        if not at + LISTED.size < end <= end_of_all:
            raise _senseless(f"a device ends at {end}")
        name = bytes(buffer[at + LISTED.size : end]).partition(b"\0")[0]
        event = None
        behind = -(-(at + LISTED.size + len(name) + 1) // 8) * 8
        if answer.version >= LISTED_EVENTS_SINCE and behind + 4 <= end:
            (event,) = struct.unpack_from("=I", buffer, behind)
        yield text(name), dev, event
        if not following:
            return
        at = end


def unpack_versions(buffer: bytes | bytearray, answer: Answer) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """(target's name, its version) of each target that LIST_VERSIONS gave."""
    at = answer.data_start
    end_of_all = min(answer.data_size, len(buffer))
    while at + 16 < end_of_all:
        following, *version = struct.unpack_from("=4I", buffer, at)
        end = at + following if following else end_of_all
        if not at + 16 < end <= end_of_all:
            raise _senseless(f"a target ends at {end}")
        yield text(buffer[at + 16 : end]), (version[0], version[1], version[2])
        if not following:
            return
        at = end


def unpack_deps(buffer: bytes | bytearray, answer: Answer) -> list[int]:
    """The device numbers that TABLE_DEPS gave."""
    start = answer.data_start
    if answer.data_size <= start:
        return []
    (count,) = _unpack(struct.Struct("=I"), buffer, start)
    if start + 8 + 8 * count > len(buffer):
        raise _senseless(f"it claims {count} devices")
    return list(struct.unpack_from(f"={count}Q", buffer, start + 8))


def unpack_message(buffer: bytes | bytearray, answer: Answer) -> str:
    """What a target answered to TARGET_MSG; most answer nothing."""
    if Flag.DATA_OUT not in answer.flags:
        return ""
    return text(buffer[answer.data_start : answer.data_size])


def message_data(sector: int, message: str) -> bytes:
    """What TARGET_MSG takes."""
    if not 0 <= sector < 1 << 64:
        raise UsageError(f"invalid sector {sector}")
    return struct.pack("=Q", sector) + _bytes(message, None, "a message") + b"\0"


def name_data(name: str) -> bytes:
    """What DEV_RENAME takes to give another name."""
    return _bytes(name, MAX_NAME, "a device's name") + b"\0"


def uuid_data(uuid: str) -> bytes:
    """What DEV_RENAME takes to give a UUID."""
    return _bytes(uuid, MAX_UUID, "a device's UUID") + b"\0"


def text(field: bytes | bytearray) -> str:
    """A string of the kernel's, up to its NUL."""
    return bytes(field).partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _bytes(string: str, most: int | None, what: str) -> bytes:
    try:
        found = string.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(f"{string!r} cannot be {what}: it is not text", hint="write it in UTF-8") from error
    if b"\0" in found or (most is not None and len(found) > most):
        limit = f" and at most {most} bytes" if most is not None else ""
        raise UsageError(f"{string[:200]!r} cannot be {what}", hint=f"it has no NUL{limit}")
    return found


def _unpack(layout: struct.Struct, buffer: bytes | bytearray, at: int) -> tuple[Any, ...]:
    if not 0 <= at <= len(buffer) - layout.size:
        raise _senseless(f"data at {at} of {len(buffer)} bytes")
    return layout.unpack_from(buffer, at)


def _senseless(why: str) -> CorruptError:
    return CorruptError(
        f"invalid answer from device-mapper: {why}", hint="check that /dev/mapper/control is the kernel's"
    )
