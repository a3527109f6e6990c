# SPDX-License-Identifier: Apache-2.0
"""Files of a server, through this machine's kernel."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice, loop
from lamella.block.system import punch_hole
from lamella.errors import (
    BusyError,
    ExistsError,
    LamellaError,
    MissingError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
)
from lamella.fs.mounted import mount
from lamella.services.fuse import FuseServer, connection
from tests.conftest import missing
from tests.services.fuse.conftest import serve_elsewhere
from tests.support.failing import FailingDevice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Buffer

MIB = 1 << 20
SIZE = 5 * MIB + 512


def error_of(call: Callable[[], object]) -> int | None:
    with pytest.raises(OSError) as caught:
        call()
    return caught.value.errno


def fallocate(path: Path, *arguments: str) -> None:
    subprocess.run(["fallocate", *arguments, path], check=True, capture_output=True)


def test_bytes_go_through(server: FuseServer) -> None:
    device = MemoryDevice(SIZE)
    path = server.add("disk", device)
    data = random.Random(1).randbytes(3 * MIB)
    descriptor = os.open(path, os.O_RDWR)
    assert os.pwrite(descriptor, data, 123) == len(data)
    assert bytes(device.content) == bytes(123) + data + bytes(SIZE - 123 - len(data))
    assert os.pread(descriptor, len(data), 123) == data
    assert os.pread(descriptor, MIB, SIZE - 10) == bytes(10)
    assert os.pread(descriptor, MIB, SIZE) == b""
    assert os.pwrite(descriptor, b"beyond", SIZE - 3) == 3
    assert error_of(lambda: os.pwrite(descriptor, b"beyond", SIZE)) == errno.EFBIG
    os.close(descriptor)
    assert path.read_bytes() == bytes(device.content)


def test_what_programs_see(server: FuseServer, tmp_path: Path) -> None:
    server.add("disk", MemoryDevice(SIZE))
    server.add("image", MemoryDevice(MIB), read_only=True)
    with FileDevice.create(tmp_path / "sparse", MIB) as sparse:
        path = server.add("sparse", sparse)
        assert path == tmp_path / "mount" / "sparse"
        assert os.stat(path).st_blocks == 0
        server.remove("sparse")
    folder = server.mountpoint
    assert sorted(os.listdir(folder)) == ["disk", "image"]
    found = os.stat(folder / "disk")
    assert (found.st_size, found.st_mode, found.st_uid) == (SIZE, stat.S_IFREG | 0o600, 0)
    assert found.st_blocks == SIZE // 512
    assert os.stat(folder / "image").st_mode == stat.S_IFREG | 0o400
    assert os.stat(folder).st_mode == stat.S_IFDIR | 0o500
    space = os.statvfs(folder)
    assert space.f_bavail == 0
    assert space.f_blocks * space.f_frsize == (SIZE + MIB) // 4096 * 4096
    at = mount.mounted_at(folder)
    assert at is not None
    assert at.filesystem == "fuse.lamella"


def test_the_folder_stays_as_the_server_has_it(server: FuseServer) -> None:
    path = server.add("disk", MemoryDevice(SIZE))
    for call in (
        lambda: os.unlink(path), lambda: os.rename(path, path.with_name("other")),
        lambda: path.with_name("new").touch(), lambda: path.with_name("new").mkdir(),
        lambda: os.link(path, path.with_name("new")), lambda: os.truncate(path, 0),
        lambda: os.truncate(path, SIZE + 1), lambda: os.chmod(path, 0o644), lambda: os.chown(path, 1, 1),
        lambda: path.write_bytes(b""),
    ):  # fmt: skip
        assert error_of(call) == errno.EPERM
    assert error_of(lambda: os.stat(path.with_name("other"))) == errno.ENOENT
    os.truncate(path, SIZE)
    os.utime(path)
    assert error_of(lambda: os.getxattr(path, "user.any")) == errno.ENOTSUP


def test_read_only(server: FuseServer) -> None:
    path = server.add("disk", MemoryDevice(content=b"content"), read_only=True)
    assert path.read_bytes() == b"content"
    assert error_of(lambda: os.open(path, os.O_RDWR)) == errno.EROFS


def test_names(server: FuseServer) -> None:
    server.add("disk", MemoryDevice(SIZE))
    with pytest.raises(ExistsError, match="disk"):
        server.add("disk", MemoryDevice(SIZE))
    for name in ("", ".", "..", "a/b", "a\0b", "x" * 256):
        with pytest.raises(UsageError):
            server.add(name, MemoryDevice(SIZE))
    assert server.add("x" * 255, MemoryDevice(SIZE)).exists()
    with pytest.raises(NotFoundError, match="other"):
        server.remove("other")


def test_a_hole_is_punched(server: FuseServer) -> None:
    device = MemoryDevice(content=b"x" * SIZE)
    path = server.add("disk", device)
    descriptor = os.open(path, os.O_RDWR)
    punch_hole(descriptor, 1000, MIB)
    os.close(descriptor)
    fallocate(path, "--zero-range", "--keep-size", "--offset", str(2 * MIB), "--length", "100")
    expected = bytearray(b"x" * SIZE)
    expected[1000 : 1000 + MIB] = bytes(MIB)
    expected[2 * MIB : 2 * MIB + 100] = bytes(100)
    assert device.content == expected


def test_data_and_holes_are_found(server: FuseServer, tmp_path: Path) -> None:
    with FileDevice.create(tmp_path / "sparse", 8 * MIB) as device:
        device.write(2 * MIB, b"x" * MIB)
        descriptor = os.open(server.add("sparse", device), os.O_RDONLY)
        assert os.lseek(descriptor, 0, os.SEEK_DATA) == 2 * MIB
        assert os.lseek(descriptor, 2 * MIB, os.SEEK_HOLE) == 3 * MIB
        assert error_of(lambda: os.lseek(descriptor, 3 * MIB, os.SEEK_DATA)) == errno.ENXIO
        assert os.lseek(descriptor, 0, os.SEEK_END) == 8 * MIB
        os.close(descriptor)
        server.remove("sparse")


class SlowToFlush(MemoryDevice):
    """Flushes when it is told to."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.began, self.go_on = threading.Event(), threading.Event()

    def flush(self) -> None:
        self.began.set()
        self.go_on.wait()


def test_fsync_waits_for_the_device_and_other_files_do_not(server: FuseServer) -> None:
    device = SlowToFlush(SIZE)
    descriptor = os.open(server.add("disk", device), os.O_RDWR)
    other = os.open(server.add("other", MemoryDevice(SIZE)), os.O_RDWR)
    flushing = threading.Thread(target=os.fsync, args=(descriptor,))
    flushing.start()
    device.began.wait()
    os.pwrite(other, b"meanwhile", 0)
    os.fsync(other)
    assert os.pread(descriptor, 1, 0) == bytes(1)
    assert flushing.is_alive()
    device.go_on.set()
    flushing.join()
    os.close(descriptor)
    os.close(other)


def test_errors_reach_who_uses_the_file(server: FuseServer) -> None:
    device = FailingDevice(SIZE)
    descriptor = os.open(server.add("disk", device), os.O_RDWR)
    device.fails = lambda offset, length: True
    device.fail_reads = device.fail_flushes = True
    assert error_of(lambda: os.pwrite(descriptor, b"x", 0)) == errno.EIO
    assert error_of(lambda: os.pread(descriptor, 10, 0)) == errno.EIO
    assert error_of(lambda: os.fsync(descriptor)) == errno.EIO
    device.fails, device.fail_reads, device.fail_flushes = None, False, False
    assert os.pwrite(descriptor, b"x", 0) == 1
    os.fsync(descriptor)
    os.close(descriptor)


class Buggy(MemoryDevice):
    """Raises what no device should."""

    def read(self, offset: int, length: int) -> bytes:
        raise RuntimeError("a bug")


def test_a_bug_ends_no_thread(server: FuseServer) -> None:
    descriptor = os.open(server.add("disk", Buggy(SIZE)), os.O_RDWR)
    for _ in range(50):
        assert error_of(lambda: os.pread(descriptor, 10, 0)) == errno.EIO
    assert os.pwrite(descriptor, b"x", 0) == 1
    os.close(descriptor)


def test_many_threads(server: FuseServer) -> None:
    """Each writes, reads and flushes blocks of its own."""
    device = MemoryDevice(8 * MIB)
    path = server.add("disk", device)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        written: dict[int, bytes] = {}
        descriptor = os.open(path, os.O_RDWR)
        try:
            for _ in range(150):
                place = number * MIB + chance.randrange(256) * 4096
                if place in written and chance.random() < 0.5:
                    assert os.pread(descriptor, 4096, place) == written[place]
                    continue
                written[place] = chance.randbytes(4096)
                assert os.pwrite(descriptor, written[place], place) == 4096
                if chance.random() < 0.05:
                    os.fsync(descriptor)
            for place, data in written.items():
                assert device.read(place, 4096) == data
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(descriptor)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    server.remove("disk")


def test_a_program_can_be_started_while_a_file_is_open(server: FuseServer) -> None:
    """Between vfork and exec the thread waits, with the interpreter's lock, while the child closes files."""
    descriptor = os.open(server.add("disk", MemoryDevice(SIZE)), os.O_RDWR)
    for _ in range(3):
        subprocess.run(["true"], check=True, close_fds=True)
    assert os.pwrite(descriptor, b"x", 0) == 1
    os.close(descriptor)


def test_an_open_file_is_not_removed(server: FuseServer) -> None:
    path = server.add("disk", MemoryDevice(SIZE))
    with ThreadPoolExecutor(1) as another:  # still there, so that the number is not of an ended thread
        descriptor = another.submit(os.open, path, os.O_RDONLY).result()
        with pytest.raises(BusyError, match=rf"{path} is open in process {os.getpid()} \("):
            server.remove("disk", timeout=0)
    assert os.pread(descriptor, 4, 0) == bytes(4)
    os.close(descriptor)
    server.remove("disk")
    assert os.listdir(server.mountpoint) == []
    server.add("disk", MemoryDevice(MIB))
    assert os.stat(path).st_size == MIB


def test_a_file_below_a_loop_device_is_not_removed(server: FuseServer) -> None:
    if not loop.available():
        missing("a loop device that we may use")
    path = server.add("disk", MemoryDevice(MIB))
    with loop.attach(path) as device:
        with pytest.raises(BusyError, match=f"attached to {device.path}") as caught:
            server.remove("disk", timeout=0)
        assert caught.value.hint == f"detach it: losetup -d {device.path}"
    server.remove("disk")


def test_a_new_size_is_seen(server: FuseServer) -> None:
    device = MemoryDevice(MIB)
    path = server.add("disk", device)
    descriptor = os.open(path, os.O_RDWR)
    device.resize(2 * MIB)
    server.resized("disk")
    assert os.fstat(descriptor).st_size == 2 * MIB
    assert os.pwrite(descriptor, b"x", 2 * MIB - 1) == 1
    if loop.available():
        with loop.attach(path) as attached:
            device.resize(3 * MIB)
            server.resized("disk")
            attached.set_capacity()
            assert os.lseek(attached.fd, 0, os.SEEK_END) == 3 * MIB
    os.close(descriptor)
    with pytest.raises(NotFoundError):
        server.resized("other")


# -- the beginning and the end ---------------------------------------------------------------------


def test_close_unmounts_and_can_be_repeated(server: FuseServer) -> None:
    server.add("disk", MemoryDevice(SIZE))
    server.close()
    assert mount.mounted_at(server.mountpoint) is None
    assert os.listdir(server.mountpoint) == []
    server.close()
    with pytest.raises(UsageError, match="closed"):
        server.add("other", MemoryDevice(SIZE))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fuse-")]
    FuseServer(server.mountpoint).close()


def test_close_cuts_off_who_has_a_file_open(server: FuseServer) -> None:
    descriptor = os.open(server.add("disk", MemoryDevice(SIZE)), os.O_RDWR)
    server.close()
    assert error_of(lambda: os.pread(descriptor, 10, 0)) == errno.ENOTCONN
    os.close(descriptor)
    assert mount.mounted_at(server.mountpoint) is None
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fuse-")]


def test_unmounted_by_another_program(server: FuseServer) -> None:
    mount.unmount(server.mountpoint)
    for thread in threading.enumerate():
        if thread.name.startswith("fuse-"):
            thread.join()
    with pytest.raises(BusyError, match="was unmounted"):
        server.add("disk", MemoryDevice(SIZE))
    server.close()


def test_unmounted_lazily_by_another_program(server: FuseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamella.services.fuse.server._END_TIMEOUT", 0.1)
    descriptor = os.open(server.add("disk", MemoryDevice(SIZE)), os.O_RDWR)
    mount.unmount(server.mountpoint, lazy=True)
    assert os.pread(descriptor, 4, 0) == bytes(4)
    server.close()
    # ENOENT from us, unless the kernel's own control files (fusectl) could end it.
    expected = (errno.ENOENT, errno.ENOTCONN, errno.ECONNABORTED)
    assert error_of(lambda: os.pread(descriptor, 4, 0)) in expected
    os.close(descriptor)
    for thread in threading.enumerate():
        if thread.name.startswith("fuse-"):
            thread.join()


class Stuck(MemoryDevice):
    """Does not answer until it is told to go on."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.began, self.go_on = threading.Event(), threading.Event()

    def write(self, offset: int, data: Buffer) -> None:
        self.began.set()
        self.go_on.wait()


def test_close_does_not_wait_for_a_stuck_device(server: FuseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamella.services.fuse.server._END_TIMEOUT", 0.1)
    device = Stuck(SIZE)
    descriptor = os.open(server.add("disk", device), os.O_RDWR)
    errors: list[int | None] = []
    writer = threading.Thread(target=lambda: errors.append(error_of(lambda: os.pwrite(descriptor, b"x", 0))))
    writer.start()
    device.began.wait()
    server.close()
    writer.join()
    assert errors == [errno.ECONNABORTED]
    device.go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("fuse-"):
            thread.join()
    os.close(descriptor)


def test_a_live_server_is_left_alone(server: FuseServer) -> None:
    with pytest.raises(BusyError, match="served by another process"):
        FuseServer(server.mountpoint)
    server.add("disk", MemoryDevice(SIZE))
    assert os.listdir(server.mountpoint) == ["disk"]


def test_what_a_killed_server_left_is_detached(server: FuseServer) -> None:
    folder = server.mountpoint
    server.close()
    process = serve_elsewhere(folder)
    descriptor = os.open(folder / "disk", os.O_RDWR)
    assert os.pwrite(descriptor, b"x", 0) == 1
    process.kill()
    process.wait()
    assert error_of(lambda: os.pread(descriptor, 1, 0)) in (errno.ENOTCONN, errno.ECONNABORTED)
    assert error_of(lambda: os.stat(folder)) == errno.ENOTCONN
    with FuseServer(folder) as again:
        assert again.add("disk", MemoryDevice(MIB)).stat().st_size == MIB
        assert error_of(lambda: os.pread(descriptor, 1, 0)) == errno.ENOTCONN
    assert mount.mounted_at(folder) is None
    os.close(descriptor)


def test_without_fuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "DEVICE", tmp_path / "fuse")
    with pytest.raises(MissingError, match="is missing"):
        FuseServer(tmp_path / "mount")
    assert not connection.available()


def test_without_the_right_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(connection.os, "open", refuse)
    with pytest.raises(PermissionDeniedError, match="/dev/fuse"):
        FuseServer(tmp_path / "mount")


def test_a_mountpoint_that_cannot_be(server: FuseServer) -> None:
    path = server.add("disk", MemoryDevice(SIZE))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LamellaError):
        FuseServer(path)
    assert len(os.listdir("/proc/self/fd")) == before
