# SPDX-License-Identifier: Apache-2.0
"""A worker and its operations, with sockets for the kernel: also what a kernel never sends."""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import NoSpaceError
from lamella.services.fuse.protocol import Opcode
from tests.services.fuse.conftest import request_bytes
from tests.support.failing import FailingDevice

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer

    from tests.services.fuse.conftest import Kernel

SIZE = 10_000
ROOT = 1
PUNCH = 3


def transfer(offset: int, size: int, data: bytes = b"") -> bytes:
    return struct.pack("=QQIIQII", 1, offset, size, 0, 0, 0, 0) + data


def add(kernel: Kernel, device: MemoryDevice | FileDevice, name: str = "disk", **options: bool) -> int:
    return kernel.files.add(name, device, read_only=options.get("read_only", False)).node


def test_reads_end_where_the_device_ends(kernel: Kernel) -> None:
    node = add(kernel, MemoryDevice(content=os.urandom(SIZE)))
    content = kernel.files.node(node).device.read(0, SIZE)
    assert kernel.ask(Opcode.READ, node, transfer(0, 4096)) == (0, content[:4096])
    assert kernel.ask(Opcode.READ, node, transfer(SIZE - 10, 4096)) == (0, content[-10:])
    assert kernel.ask(Opcode.READ, node, transfer(0, 100_000)) == (0, content)
    assert kernel.ask(Opcode.READ, node, transfer(SIZE, 4096)) == (0, b"")
    assert kernel.ask(Opcode.READ, node, transfer(1 << 62, 4096)) == (0, b"")


def test_large_reads_use_the_workers_own_buffer(kernel: Kernel) -> None:
    device = MemoryDevice(content=os.urandom(100_000))
    node = add(kernel, device)
    assert kernel.ask(Opcode.READ, node, transfer(1, 99_000)) == (0, bytes(device.content[1:99_001]))
    assert kernel.ask(Opcode.READ, node, transfer(5, 80_000)) == (0, bytes(device.content[5:80_005]))


def test_writes_end_where_the_device_ends(kernel: Kernel) -> None:
    device = MemoryDevice(SIZE)
    node = add(kernel, device)
    assert kernel.ask(Opcode.WRITE, node, transfer(5, 3, b"abc")) == (0, struct.pack("=II", 3, 0))
    assert kernel.ask(Opcode.WRITE, node, transfer(SIZE - 2, 3, b"abc")) == (0, struct.pack("=II", 2, 0))
    assert kernel.ask(Opcode.WRITE, node, transfer(SIZE, 3, b"abc"))[0] == errno.EFBIG
    assert kernel.ask(Opcode.WRITE, node, transfer(1 << 62, 3, b"abc"))[0] == errno.EFBIG
    assert bytes(device.content) == bytes(5) + b"abc" + bytes(SIZE - 10) + b"ab"


@pytest.mark.parametrize(
    ("body", "opcode"),
    [
        (transfer(0, 4, b"abc"), Opcode.WRITE),  # less than it says
        (transfer(0, 2, b"abc"), Opcode.WRITE),
        (transfer(0, 4)[:30], Opcode.WRITE),
        (transfer(0, 4)[:30], Opcode.READ),
        (transfer(0, (1 << 20) + 1), Opcode.READ),  # more than was agreed
        (transfer(0, 0xFFFFFFFF), Opcode.READ),
    ],
)
def test_lengths_that_do_not_fit_are_refused(kernel: Kernel, body: bytes, opcode: int) -> None:
    device = MemoryDevice(SIZE)
    node = add(kernel, device)
    assert kernel.ask(opcode, node, body) == (errno.EINVAL, b"")
    assert not any(device.content)


def test_a_request_that_lies_about_its_length_is_an_error(kernel: Kernel) -> None:
    data = request_bytes(Opcode.GETATTR, ROOT, bytes(16))
    kernel.send(struct.pack("=I", 100) + data[4:])
    assert kernel.receive() == (7, errno.EIO, b"")
    assert kernel.ask(Opcode.GETATTR, ROOT, bytes(16))[0] == 0


@pytest.mark.parametrize(
    "opcode",
    [
        Opcode.LOOKUP, Opcode.GETATTR, Opcode.SETATTR, Opcode.OPEN, Opcode.READ, Opcode.WRITE, Opcode.STATFS,
        Opcode.FSYNC, Opcode.ACCESS, Opcode.FALLOCATE, Opcode.LSEEK,
    ],
)  # fmt: skip
def test_unknown_nodes(kernel: Kernel, opcode: int) -> None:
    body = b"name" + bytes(84) if opcode != Opcode.WRITE else transfer(0, 3, b"abc")
    assert kernel.ask(opcode, 1234, body) == (errno.ENOENT, b"")


def test_what_is_not_for_the_mount_to_do(kernel: Kernel) -> None:
    node = add(kernel, MemoryDevice(SIZE))
    for opcode in (Opcode.UNLINK, Opcode.CREATE, Opcode.RENAME2, Opcode.MKNOD, Opcode.LINK, Opcode.SYMLINK):
        assert kernel.ask(opcode, ROOT, b"name\0") == (errno.EPERM, b"")
    for opcode in (Opcode.FLUSH, 22, 40, 51, 4096):  # GETXATTR, POLL, TMPFILE, CUSE_INIT
        assert kernel.ask(opcode, node, bytes(24)) == (errno.ENOSYS, b"")


def test_forgetting_is_not_answered(kernel: Kernel) -> None:
    node = add(kernel, MemoryDevice(SIZE))
    kernel.send(request_bytes(Opcode.FORGET, node, bytes(8)))
    kernel.send(request_bytes(Opcode.BATCH_FORGET, 0, bytes(8 + 16 * 1000)))
    kernel.send(request_bytes(Opcode.INTERRUPT, 0, bytes(8)))
    kernel.send(request_bytes(Opcode.ACCESS, node, bytes(8), unique=9))
    assert kernel.receive() == (9, 0, b"")


def test_sizes_stay(kernel: Kernel) -> None:
    node = add(kernel, MemoryDevice(SIZE))

    def set_attributes(valid: int, size: int = 0) -> int:
        return kernel.ask(Opcode.SETATTR, node, struct.pack("=IIQQ", valid, 0, 0, size) + bytes(56))[0]

    size, mode, times = 8, 1, 16 | 32 | 128 | 256
    assert set_attributes(size, SIZE) == 0
    assert set_attributes(times) == 0
    assert set_attributes(size, 0) == errno.EPERM
    assert set_attributes(size, SIZE + 1) == errno.EPERM
    assert set_attributes(mode) == errno.EPERM


def test_read_only_files(kernel: Kernel) -> None:
    device = MemoryDevice(SIZE)
    node = add(kernel, device, read_only=True)
    for flags, error in ((os.O_RDONLY, 0), (os.O_RDWR, errno.EROFS), (os.O_WRONLY, errno.EROFS)):
        assert kernel.ask(Opcode.OPEN, node, struct.pack("=II", flags, 0))[0] == error
    assert kernel.ask(Opcode.WRITE, node, transfer(0, 3, b"abc")) == (errno.EROFS, b"")
    fallocate = struct.pack("=QQQII", 1, 0, SIZE, PUNCH, 0)
    assert kernel.ask(Opcode.FALLOCATE, node, fallocate) == (errno.EROFS, b"")
    error, body = kernel.ask(Opcode.GETATTR, node, bytes(16))
    assert struct.unpack_from("=I", body, 16 + 60) == (stat.S_IFREG | 0o400,)


def test_a_device_that_is_read_only_makes_its_file_so(kernel: Kernel) -> None:
    device = MemoryDevice(SIZE)
    device.read_only = True
    node = add(kernel, device)
    assert kernel.ask(Opcode.OPEN, node, struct.pack("=II", os.O_RDWR, 0))[0] == errno.EROFS


@pytest.mark.parametrize("mode", [PUNCH, 0x11])
def test_ranges_are_zeroed_inside_the_file(kernel: Kernel, mode: int) -> None:
    device = MemoryDevice(content=b"x" * SIZE)
    node = add(kernel, device)
    assert kernel.ask(Opcode.FALLOCATE, node, struct.pack("=QQQII", 1, 9000, 1 << 40, mode, 0)) == (0, b"")
    assert kernel.ask(Opcode.FALLOCATE, node, struct.pack("=QQQII", 1, SIZE, 10, mode, 0)) == (0, b"")
    assert bytes(device.content) == b"x" * 9000 + bytes(1000)


@pytest.mark.parametrize("mode", [0, 1, 2, 0x10, 0x40])
def test_other_ways_to_allocate_are_not_offered(kernel: Kernel, mode: int) -> None:
    node = add(kernel, MemoryDevice(SIZE))
    body = struct.pack("=QQQII", 1, 0, 10, mode, 0)
    assert kernel.ask(Opcode.FALLOCATE, node, body) == (errno.EOPNOTSUPP, b"")


def test_a_device_without_holes_is_all_data(kernel: Kernel) -> None:
    node = add(kernel, MemoryDevice(SIZE))

    def seek(offset: int, whence: int) -> tuple[int, bytes]:
        return kernel.ask(Opcode.LSEEK, node, struct.pack("=QQII", 1, offset, whence, 0))

    assert seek(5, os.SEEK_DATA) == (0, struct.pack("=Q", 5))
    assert seek(5, os.SEEK_HOLE) == (0, struct.pack("=Q", SIZE))
    assert seek(SIZE, os.SEEK_DATA) == (errno.ENXIO, b"")
    assert seek(SIZE, os.SEEK_HOLE) == (errno.ENXIO, b"")
    assert seek(5, os.SEEK_END) == (errno.EINVAL, b"")


def test_a_sparse_file_shows_its_holes(kernel: Kernel, tmp_path: Path) -> None:
    with FileDevice.create(tmp_path / "sparse", 1 << 20) as device:
        device.write(256 << 10, b"x" * (64 << 10))
        node = add(kernel, device)

        def seek(offset: int, whence: int) -> int:
            error, body = kernel.ask(Opcode.LSEEK, node, struct.pack("=QQII", 1, offset, whence, 0))
            return -error if error else int(struct.unpack("=Q", body)[0])

        assert seek(0, os.SEEK_DATA) == 256 << 10
        assert seek(0, os.SEEK_HOLE) == 0
        assert seek(300 << 10, os.SEEK_DATA) == 300 << 10
        assert seek(300 << 10, os.SEEK_HOLE) == 320 << 10
        assert seek(400 << 10, os.SEEK_DATA) == -errno.ENXIO
        _, body = kernel.ask(Opcode.GETATTR, node, bytes(16))
        assert struct.unpack_from("=Q", body, 16 + 16)[0] == os.stat(tmp_path / "sparse").st_blocks < 1024


def test_the_folder_in_parts(kernel: Kernel) -> None:
    nodes = [add(kernel, MemoryDevice(SIZE), f"file {number}") for number in range(3)]
    found: list[tuple[int, bytes]] = []
    cookie = 0
    while True:
        body = struct.pack("=QQIIQII", 0, cookie, 48, 0, 0, 0, 0)  # room for one at a time
        error, part = kernel.ask(Opcode.READDIR, ROOT, body)
        assert error == 0
        if not part:
            break
        node, cookie, length, _ = struct.unpack_from("=QQII", part)
        found.append((node, part[24 : 24 + length]))
    assert found == [
        (1, b"."),
        (1, b".."),
        *((node, b"file %d" % number) for number, node in enumerate(nodes)),
    ]


class Refusing(FailingDevice):
    """Has an error for each kind of request."""

    def write(self, offset: int, data: Buffer) -> None:
        raise NoSpaceError("it is full")

    def read(self, offset: int, length: int) -> bytes:
        raise ZeroDivisionError("a bug")


def test_errors_of_the_device(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lamella")
    device = Refusing(SIZE)
    device.fail_flushes = True
    node = add(kernel, device)
    for _ in range(5):
        assert kernel.ask(Opcode.WRITE, node, transfer(0, 3, b"abc")) == (errno.ENOSPC, b"")
        assert kernel.ask(Opcode.READ, node, transfer(0, 3)) == (errno.EIO, b"")
        assert kernel.ask(Opcode.FSYNC, node, bytes(16)) == (errno.EIO, b"")
    device.fail_flushes = False
    assert kernel.ask(Opcode.FSYNC, node, bytes(16)) == (0, b"")
    texts = [record.getMessage().splitlines()[0] for record in caplog.records]
    assert texts == [
        "file disk over memory: a request is answered with ENOSPC (No space left on device): it is full",
        "file disk over memory: a request is answered with EIO (Input/output error): "
        "Traceback (most recent call last):",
        "file disk over memory: a request is answered with EIO (Input/output error): "
        "cannot flush memory: Input/output error",
    ]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EINTR])
def test_an_error_of_the_system_below_is_answered(kernel: Kernel, number: int) -> None:
    class Gone(MemoryDevice):
        def read(self, offset: int, length: int) -> bytes:
            raise OSError(number, os.strerror(number))

    node = add(kernel, Gone(SIZE))
    assert kernel.ask(Opcode.READ, node, transfer(0, 3)) == (errno.EIO, b"")


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 60), st.integers(0, 4), st.binary(max_size=300))
def test_any_request_is_answered_once(kernel: Kernel, opcode: int, node: int, body: bytes) -> None:
    if not kernel.files.nodes:
        add(kernel, MemoryDevice(SIZE))
    kernel.send(request_bytes(opcode, node, body, unique=8))
    kernel.send(request_bytes(Opcode.ACCESS, ROOT, bytes(8), unique=9))
    if opcode not in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
        unique, error, found = kernel.receive()
        assert unique == 8
        assert not (error and found)
    assert kernel.receive() == (9, 0, b"")
