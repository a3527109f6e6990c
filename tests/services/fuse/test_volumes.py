# SPDX-License-Identifier: Apache-2.0
"""Thin volumes as files, loop devices over these, and ext4 on them."""

from __future__ import annotations

import errno
import mmap
import os
import random
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice, loop
from lamella.errors import LamellaError
from lamella.fs.mounted import mount
from lamella.services.fuse import FuseServer
from lamella.thin.engine.pool import Pool, PoolOptions
from tests.conftest import missing
from tests.services.fuse.conftest import serve_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.thin.engine.volume import Volume

CHUNK = 64 << 10
MIB = 1 << 20


class Disk:
    """A thin volume as a file."""

    def __init__(self, server: FuseServer, size: int, data: int) -> None:
        self.metadata = MemoryDevice(2 * MIB, name="metadata")
        self.data = MemoryDevice(data, name="data")
        options = PoolOptions(error_if_no_space=True)
        self.pool = Pool.create(self.metadata, self.data, chunk_size=CHUNK, options=options)
        self.pool.create_thin(1)
        self.pool.commit()
        self.volume: Volume = self.pool.open_volume(1, size)
        self.path = server.add("disk", self.volume)

    def committed(self) -> bytes:
        """What the volume would hold if the power failed now."""
        metadata = MemoryDevice(content=bytes(self.metadata.content), name="metadata")
        data = MemoryDevice(content=bytes(self.data.content), name="data")
        with Pool.open(metadata, data) as pool, pool.open_volume(1, self.volume.size) as volume:
            return volume.read(0, volume.size)


@pytest.fixture
def attach() -> Iterator[Callable[..., loop.LoopDevice]]:
    """Attach a file; detached at the end of the test, before the server ends."""
    if not loop.available():
        missing("a loop device that we may use")
    with ExitStack() as stack:

        def make(path: Path, **options: bool) -> loop.LoopDevice:
            try:
                return stack.enter_context(loop.attach(path, **options))
            except LamellaError as error:
                missing(f"a usable loop device ({error})")
                raise

        yield make


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_allocation_and_holes(server: FuseServer) -> None:
    disk = Disk(server, 64 * MIB, 16 * MIB)
    descriptor = os.open(disk.path, os.O_RDWR)
    assert os.fstat(descriptor).st_blocks == 0
    assert os.statvfs(disk.path).f_bsize == CHUNK
    os.pwrite(descriptor, b"x" * (3 * CHUNK), 10 * CHUNK)
    assert os.fstat(descriptor).st_blocks == 3 * CHUNK // 512
    assert os.lseek(descriptor, 0, os.SEEK_DATA) == 10 * CHUNK
    assert os.lseek(descriptor, 11 * CHUNK, os.SEEK_HOLE) == 13 * CHUNK
    run("fallocate", "--punch-hole", "--offset", str(11 * CHUNK - 10), "--length", str(CHUNK + 10), disk.path)
    assert os.fstat(descriptor).st_blocks == 2 * CHUNK // 512
    assert os.lseek(descriptor, 10 * CHUNK, os.SEEK_HOLE) == 11 * CHUNK
    assert os.pread(descriptor, CHUNK, 10 * CHUNK) == b"x" * (CHUNK - 10) + bytes(10)
    os.close(descriptor)


def test_fsync_commits_the_pool(server: FuseServer) -> None:
    disk = Disk(server, MIB, 16 * MIB)
    descriptor = os.open(disk.path, os.O_RDWR)
    os.pwrite(descriptor, b"durable", 0)
    assert disk.committed() == bytes(MIB)
    os.fsync(descriptor)
    assert disk.committed() == b"durable" + bytes(MIB - 7)
    os.close(descriptor)


@pytest.mark.parametrize("direct_io", [False, True])
def test_ext4_on_a_loop_device(
    server: FuseServer,
    attach: Callable[..., loop.LoopDevice],
    tool: Callable[[str], str],
    tmp_path: Path,
    direct_io: bool,
) -> None:
    disk = Disk(server, 128 * MIB, 160 * MIB)
    device = attach(disk.path, direct_io=direct_io)
    run(tool("mkfs.ext4"), "-q", device.path)
    point = tmp_path / "point"
    point.mkdir()
    files = {f"file {number}": random.Random(number).randbytes(number * 70_001) for number in range(30)}
    mount.mount(device.path, point, "ext4")
    try:
        for name, data in files.items():
            (point / name).write_bytes(data)
        os.sync()
        full = disk.volume.mapped_chunks
        for number in range(15, 30):
            (point / f"file {number}").unlink()
            del files[f"file {number}"]
        os.sync()
        run(tool("fstrim"), point)
        # The deleted half of the files is some 22 MB of some 31.
        assert disk.volume.mapped_chunks < full - 20 * MIB // CHUNK
    finally:
        mount.unmount(point)
    run(tool("e2fsck"), "-fn", device.path)
    mount.mount(device.path, point, "ext4", read_only=True)
    try:
        for name, data in files.items():
            assert (point / name).read_bytes() == data
    finally:
        mount.unmount(point)
    # Unmounting has flushed the loop device, and so committed the pool.
    copy = tmp_path / "copy"
    copy.write_bytes(disk.committed())
    run(tool("e2fsck"), "-fn", copy)


def test_a_full_pool_is_enospc(server: FuseServer, attach: Callable[..., loop.LoopDevice]) -> None:
    disk = Disk(server, 64 * MIB, 4 * MIB)
    descriptor = os.open(disk.path, os.O_RDWR)
    for offset in range(0, 4 * MIB, MIB):
        assert os.pwrite(descriptor, b"x" * MIB, offset) == MIB
    with pytest.raises(OSError) as caught:
        os.pwrite(descriptor, b"y", 10 * MIB)
    assert caught.value.errno == errno.ENOSPC
    assert os.pwrite(descriptor, b"z", 0) == 1  # what is allocated can still be written
    os.fsync(descriptor)
    device = attach(disk.path, direct_io=True)
    direct = os.open(device.path, os.O_RDWR | os.O_DIRECT)
    with pytest.raises(OSError) as caught:
        os.pwrite(direct, mmap.mmap(-1, 4096), 10 * MIB)
    assert caught.value.errno == errno.ENOSPC
    os.close(direct)
    assert os.pread(descriptor, 2, 0) == b"zx"
    # Room is made as the kernel's thin target has it: by a discard, and the commit that follows.
    run("fallocate", "--punch-hole", "--offset", "0", "--length", str(MIB), disk.path)
    assert os.pwrite(descriptor, b"y" * CHUNK, 10 * MIB) == CHUNK
    os.close(descriptor)


def test_a_loop_device_whose_server_was_killed(
    server: FuseServer, attach: Callable[..., loop.LoopDevice]
) -> None:
    point = server.mountpoint
    server.close()
    process = serve_elsewhere(point)
    device = attach(point / "disk")
    os.pwrite(device.fd, b"x" * 4096, 0)
    os.fsync(device.fd)
    process.kill()
    process.wait()
    with pytest.raises(OSError) as caught:
        os.pread(device.fd, 4096, MIB // 2)
    assert caught.value.errno == errno.EIO
    stale = loop.look(device.number)
    assert stale is not None
    assert (stale.backing, stale.inode) == (str(point / "disk"), 0)
    assert not loop.detach(stale)  # but when we close it, the last that has it open
    with FuseServer(point) as again:
        again.add("disk", MemoryDevice(MIB))
        # It is another file for the kernel, which gets a device of its own.
        with loop.attach(point / "disk") as fresh:
            assert fresh.number != device.number
            assert os.pread(fresh.fd, 4096, MIB // 2) == bytes(4096)


def test_a_snapshot_and_its_origin_are_files_of_one_server(server: FuseServer) -> None:
    disk = Disk(server, 2 * MIB, 16 * MIB)
    first = os.open(disk.path, os.O_RDWR)
    os.pwrite(first, b"before", 0)
    disk.pool.create_snap(2, 1)
    second = os.open(server.add("snapshot", disk.pool.open_volume(2, 2 * MIB)), os.O_RDWR)
    os.pwrite(first, b"after!", 0)
    assert (os.pread(first, 6, 0), os.pread(second, 6, 0)) == (b"after!", b"before")
    os.close(first)
    os.close(second)
