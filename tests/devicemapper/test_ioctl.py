# SPDX-License-Identifier: Apache-2.0
"""Requests and answers as bytes: what goes in comes out, and rubbish is only ever a ``LamellaError``."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamella.devicemapper import ioctl
from lamella.devicemapper.ioctl import HEADER, Command, Flag
from lamella.devicemapper.table import Linear, Target
from lamella.errors import LamellaError, UsageError

NAMES = st.binary(max_size=127).filter(lambda raw: b"\0" not in raw).map(ioctl.text)
KINDS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=15)
TARGETS = st.builds(
    Target,
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    KINDS,
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80),
)


def test_the_numbers_are_those_of_the_kernels_header() -> None:
    assert HEADER.size == 312
    assert ioctl.SPEC.size == 40
    assert Command.VERSION.request == 0xC138FD00
    assert Command.TARGET_MSG.request == 0xC138FD0E
    assert Command.DEV_ARM_POLL.request == 0xC138FD10


@given(NAMES, NAMES, st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1), st.binary(max_size=600))
def test_a_request_says_what_was_asked(name: str, uuid: str, dev: int, event: int, data: bytes) -> None:
    buffer = ioctl.pack(400, name=name, uuid=uuid, dev=dev, event_nr=event, flags=Flag.READ_ONLY, data=data)
    assert len(buffer) == max(400, HEADER.size + len(data))
    answer = ioctl.unpack(buffer)
    assert (answer.name, answer.uuid, answer.dev, answer.event_nr) == (name, uuid, dev, event)
    assert answer.flags == Flag.READ_ONLY
    assert answer.data_size == len(buffer)
    assert buffer[answer.data_start :][: len(data)] == data


@given(st.lists(TARGETS, max_size=20))
def test_targets_come_back_as_they_were(targets: list[Target]) -> None:
    packed = ioctl.pack_targets(targets)
    assert len(packed) % 8 == 0
    # TABLE_LOAD counts offsets from each target, TABLE_STATUS from the first.
    data, at, total = bytearray(packed), 0, 0
    for _ in targets:
        (length,) = struct.unpack_from("=I", data, at + 20)
        total += length
        struct.pack_into("=I", data, at + 20, total)
        at = total
    buffer = ioctl.pack(0, data=bytes(data), target_count=len(targets))
    found = ioctl.unpack_targets(buffer, ioctl.unpack(buffer))
    assert found == [(each.start, each.length, each.kind, each.parameters) for each in targets]


@pytest.mark.parametrize(
    "target",
    [
        Target(-1, 8, "zero"),
        Target(0, 1 << 64, "zero"),
        Target(0, 8, "x" * 16),
        Target(0, 8, "zero", "a\0b"),
        Target(0, 8, "zero", "\ud800"),
    ],
)
def test_targets_that_cannot_be_said_are_refused(target: Target) -> None:
    with pytest.raises(UsageError):
        ioctl.pack_targets([Linear(0, 8, device="7:0"), target])


@given(st.binary(max_size=900), st.integers(0, 1 << 33), st.integers(0, 1 << 33), st.integers(0, 1 << 32))
@example(bytes(900), 900, 312, 1)
@example(b"\xff" * 900, 900, 312, 3)
def test_rubbish_is_a_lamella_error(raw: bytes, size: int, start: int, count: int) -> None:
    buffer = bytearray(raw)
    if len(buffer) >= HEADER.size:
        struct.pack_into("=3I", buffer, 12, size & 0xFFFFFFFF, start & 0xFFFFFFFF, count & 0xFFFFFFFF)
    with suppress(LamellaError):
        answer = ioctl.unpack(buffer)
        for unpack in (ioctl.unpack_names, ioctl.unpack_versions, ioctl.unpack_targets, ioctl.unpack_deps):
            with suppress(LamellaError):
                assert len(list(unpack(buffer, answer))) <= len(buffer)
        ioctl.unpack_message(buffer, answer._replace(flags=Flag.DATA_OUT))


@given(st.data())
def test_an_answer_cut_or_changed_anywhere_is_a_lamella_error(data: st.DataObject) -> None:
    """As before, from answers that are nearly right."""
    entry = struct.pack("=QI", 5, 32) + b"name\0" + bytes(7) + struct.pack("=II", 3, 0)
    whole = ioctl.pack(0, data=entry.ljust(32, b"\0") + struct.pack("=QI", 6, 0) + b"last\0".ljust(20, b"\0"))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    for buffer in (whole, cut):
        with suppress(LamellaError):
            answer = ioctl.unpack(buffer)
            for unpack in (
                ioctl.unpack_names,
                ioctl.unpack_versions,
                ioctl.unpack_targets,
                ioctl.unpack_deps,
            ):
                with suppress(LamellaError):
                    list(unpack(buffer, answer))


def test_listed_events_are_read_where_the_kernel_has_them() -> None:
    first = struct.pack("=QI", 0xFD00, 24) + b"a\0" + bytes(2) + struct.pack("=II", 7, 0)
    last = struct.pack("=QI", 0xFD01, 0) + b"bcd\0" + struct.pack("=II", 9, 0)
    buffer = ioctl.pack(0, data=first + last)
    answer = ioctl.unpack(buffer)._replace(version=(4, 47, 0))
    assert list(ioctl.unpack_names(buffer, answer)) == [("a", 0xFD00, 7), ("bcd", 0xFD01, 9)]
    old = answer._replace(version=(4, 36, 0))
    assert [event for _, _, event in ioctl.unpack_names(buffer, old)] == [None, None]
