# SPDX-License-Identifier: Apache-2.0
"""Requests and answers as bytes; offsets are those of ``linux/fuse.h``."""

from __future__ import annotations

import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import BadInputError, UnsupportedError
from lamella.services.fuse import protocol
from lamella.services.fuse.protocol import Attributes, InitFlag, Opcode, Request
from tests.services.fuse.conftest import request_bytes


def init(major: int, minor: int, flags: int) -> Request:
    return Request.parse(request_bytes(Opcode.INIT, 0, struct.pack("=4I", major, minor, 131072, flags)))


def test_structures_have_the_kernels_sizes() -> None:
    sizes = {
        "IN_HEADER": 40, "OUT_HEADER": 16, "TRANSFER": 80, "WRITE_OUT": 24, "_INIT_OUT": 64,
        "_ATTRIBUTES": 88,
        "_ENTRY_OUT": 40, "_ATTR_OUT": 16, "_OPEN_OUT": 16, "_FALLOCATE_IN": 32, "_LSEEK_IN": 24,
        "_STATFS_OUT": 80, "_DIRENT": 24, "_INVAL_INODE": 24, "_RELEASE_IN": 24,
    }  # fmt: skip
    assert {name: getattr(protocol, name).size for name in sizes} == sizes
    assert protocol.HEAD == 80


def test_a_present_kernel_gets_large_requests() -> None:
    agreed, answer = protocol.agree(init(7, 45, 0xFFFFFFFF), 256)
    assert agreed is not None
    assert (agreed.minor, agreed.max_write) == (38, 1 << 20)
    assert agreed.flags == sum(InitFlag)
    fields = struct.unpack_from("=4IHHIIH", answer)
    assert fields == (7, 38, 131072, int(sum(InitFlag)), 256, 192, 1 << 20, 1, 256)


def test_only_what_the_kernel_offers_is_agreed_on() -> None:
    agreed, answer = protocol.agree(init(7, 32, InitFlag.ASYNC_READ | 1 << 16), 256)
    assert agreed is not None
    assert agreed.flags == InitFlag.ASYNC_READ
    assert (agreed.minor, agreed.max_write) == (32, 128 << 10)
    assert struct.unpack_from("=4I", answer) == (7, 32, 131072, 1)


def test_a_newer_major_version_is_asked_to_come_down() -> None:
    agreed, answer = protocol.agree(init(8, 0, 0), 256)
    assert agreed is None
    assert struct.unpack_from("=II", answer) == (7, 38)


@pytest.mark.parametrize("version", [(7, 30), (6, 40)])
def test_an_old_kernel_is_refused(version: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedError, match=f"{version[0]}.{version[1]} is too old"):
        protocol.agree(init(*version, 0), 256)


def test_read_and_write_share_a_structure() -> None:
    body = struct.pack("=QQIIQII", 11, 1 << 40, 4096, 0xFF, 0xFFFF, 0xFF, 0xFF)
    data = request_bytes(Opcode.READ, 5, body, unique=9)
    assert protocol.TRANSFER.unpack(data) == (80, Opcode.READ, 9, 5, 11, 1 << 40, 4096)


def test_attributes() -> None:
    packed = Attributes(3, stat.S_IFREG | 0o600, 10_000, 4096, 1_500_000_007).pack()
    node, size, blocks, *seconds = struct.unpack_from("=6Q", packed)
    nanoseconds = struct.unpack_from("=3I", packed, 48)
    mode, links, uid, gid, device, block_size, flags = struct.unpack_from("=7I", packed, 60)
    assert (node, size, blocks) == (3, 10_000, 8)
    assert seconds == [1, 1, 1]
    assert nanoseconds == (500_000_007,) * 3
    assert (mode, links, uid, gid, device, block_size, flags) == (0o100600, 1, 0, 0, 0, 4096, 0)
    assert protocol.entry(Attributes(3, 0o100600))[40:] == Attributes(3, 0o100600).pack()
    assert struct.unpack_from("=5Q", protocol.entry(Attributes(3, 0o100600))) == (3, 0, 0, 0, 0)


def test_a_directory_is_cut_at_whole_entries() -> None:
    entries = [(1, 1, stat.S_IFDIR, b"."), (4, 5, stat.S_IFREG, b"twelve bytes")]
    whole = protocol.directory(entries, 4096)
    assert len(whole) == 32 + 40
    assert struct.unpack_from("=QQII", whole) == (1, 1, 1, 4)
    assert whole[24:32] == b"." + bytes(7)
    assert struct.unpack_from("=QQII", whole, 32) == (4, 5, 12, 8)
    assert whole[56:72] == b"twelve bytes" + bytes(4)
    assert protocol.directory(entries, 71) == whole[:32]
    assert protocol.directory(entries, 31) == b""


def test_answers_and_notifications() -> None:
    assert protocol.answer(9, b"12345678") == struct.pack("=IiQ", 24, 0, 9) + b"12345678"
    assert protocol.answer(9, error=28) == struct.pack("=IiQ", 16, -28, 9)
    assert protocol.forget_attributes(5) == struct.pack("=IiQQqq", 40, 2, 0, 5, -1, 0)


def test_extensions_are_left_out() -> None:
    head = struct.pack("=IIQQIIIHH", 40 + 8 + 16, Opcode.LOOKUP, 1, 1, 0, 0, 12, 2, 0)
    request = Request.parse(head + b"name\0\0\0\0" + b"x" * 16)
    assert (request.name(), request.pid, request.node) == (b"name", 12, 1)


def test_malformed_requests() -> None:
    with pytest.raises(BadInputError, match="no whole header"):
        Request.parse(bytes(39))
    with pytest.raises(BadInputError, match="says that it has 41"):
        Request.parse(struct.pack("=IIQQIIIHH", 41, 1, 1, 1, 0, 0, 0, 0, 0))
    with pytest.raises(BadInputError):  # extensions longer than all of it
        Request.parse(struct.pack("=IIQQIIIHH", 40, 1, 1, 1, 0, 0, 0, 1, 0))
    with pytest.raises(BadInputError, match="has no end"):
        Request.parse(request_bytes(Opcode.LOOKUP, 1, b"name")).name()
    with pytest.raises(BadInputError, match="has only 7 bytes"):
        protocol.open_flags(Request.parse(request_bytes(Opcode.OPEN, 1, bytes(7))))


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_values_or_one_error(data: bytes, well_begun: bool) -> None:
    if well_begun and len(data) >= 40:
        data = struct.pack("=I", len(data)) + data[4:36] + bytes(4) + data[40:]
    for decode in (
        protocol.open_flags, protocol.released_handle, protocol.set_attributes, protocol.fallocate,
        protocol.lseek, protocol.read_directory, Request.name, lambda request: protocol.agree(request, 1),
    ):  # fmt: skip
        try:
            decode(Request.parse(data))
        except (BadInputError, UnsupportedError):
            pass
