# SPDX-License-Identifier: Apache-2.0
"""Files attached as loop devices, on this machine's own kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lamella.block import FileDevice, loop
from lamella.block.system import block_device_size, logical_block_size
from lamella.errors import (
    BusyError,
    LamellaError,
    MissingError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
)
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A sparse file, detached from everything at the end."""
    if not loop.available():
        missing("a loop device that we may use")
    path = tmp_path / "file"
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    try:
        loop.attach(path).close()
    except LamellaError as error:
        missing(f"a usable loop device ({error})")
    yield path
    with suppress(LamellaError):
        for info in loop.find(path):
            loop.detach(info)


def test_bytes_go_through_and_it_goes_by_itself(file: Path) -> None:
    with loop.attach(file) as device:
        assert device.path == f"/dev/loop{device.number}"
        assert device.device[0] == loop.MAJOR
        assert block_device_size(device.fd) == SIZE
        assert logical_block_size(device.fd) == 512
        os.pwrite(device.fd, b"through", 4096)
        os.fsync(device.fd)
        assert file.read_bytes()[4096:4103] == b"through"
        [info] = loop.find(file)
        assert (info.number, info.autoclear, info.read_only) == (device.number, True, False)
        assert info.backing == str(file)
        assert info.inode == file.stat().st_ino
    assert loop.find(file) == []


def test_a_file_is_attached_once(file: Path) -> None:
    with loop.attach(file) as first, loop.attach(file) as second:
        assert first.number == second.number
        first.close()
        assert len(loop.find(file)) == 1
    assert loop.find(file) == []
    with loop.attach(file), loop.attach(file, read_only=True) as reader:
        assert os.pread(reader.fd, 4, 0) == bytes(4)


def test_without_autoclear_it_stays_until_detached(file: Path) -> None:
    loop.attach(file, autoclear=False).close()
    [info] = loop.find(file)
    assert not info.autoclear
    assert loop.detach(info)
    assert loop.find(file) == []
    assert loop.detach(info)  # the second time is no error


def test_detaching_waits_for_the_last_user(file: Path) -> None:
    with loop.attach(file, autoclear=False):
        [info] = loop.find(file)
        assert not loop.detach(info)
        assert len(loop.find(file)) == 1
    assert loop.find(file) == []


def test_a_device_of_another_file_by_now_is_left_alone(file: Path) -> None:
    with loop.attach(file):
        [info] = loop.find(file)
        stale = replace(info, inode=info.inode + 1)
        assert loop.detach(stale)
        assert loop.find(file) == [info]


def test_read_only(file: Path) -> None:
    with loop.attach(file, read_only=True) as device:
        [info] = loop.find(file)
        assert info.read_only
        with pytest.raises(OSError):
            os.pwrite(device.fd, b"x", 0)
        with pytest.raises(BusyError, match="for reading only"):
            loop.attach(file)


def test_part_of_a_file_is_not_taken_for_the_whole(file: Path) -> None:
    with loop.attach(file, autoclear=False) as device:
        info = loop._INFO.pack(0, 0, 0, 0, 65536, 0, 0, 0, loop.LO_FLAGS_AUTOCLEAR, b"", b"", b"")
        loop.fcntl.ioctl(device.fd, loop.LOOP_SET_STATUS64, info)
        with pytest.raises(BusyError, match="in part"):
            loop.attach(file)


def test_capacity_follows_the_file(file: Path) -> None:
    with loop.attach(file) as device:
        os.truncate(file, 2 * SIZE)
        device.set_capacity()
        assert block_device_size(device.fd) == 2 * SIZE
        os.truncate(file, 3 * SIZE)
        loop.set_capacity(loop.find(file)[0])
        assert block_device_size(device.fd) == 3 * SIZE


def test_sector_size_and_direct_io(file: Path) -> None:
    with loop.attach(file, direct_io=True, sector_size=4096) as device:
        assert logical_block_size(device.fd) == 4096
        os.pwrite(device.fd, b"direct", 0)
        os.fsync(device.fd)
    assert file.read_bytes()[:6] == b"direct"


def test_a_deleted_file_is_still_found(file: Path) -> None:
    with loop.attach(file) as device:
        file.unlink()
        [info] = loop.find(file)
        assert info.deleted
        assert info.number == device.number
        file.write_bytes(bytes(SIZE))
        assert loop.find(file) == []
    file.unlink()
    assert loop.find(file) == []


def test_the_kernel_and_a_program_do_not_share_a_file(file: Path) -> None:
    with loop.attach(file), pytest.raises(BusyError, match="in use by another program"):
        FileDevice(file)
    with FileDevice(file), pytest.raises(BusyError, match="in use by another program"):
        loop.attach(file)
    assert loop.find(file) == []
    with FileDevice(file, read_only=True), loop.attach(file, read_only=True):
        pass


class Opener:
    """A process that has a file open, and its lock if asked to, until :meth:`close`."""

    def __init__(self, path: str, *, lock: bool = False) -> None:
        ready, told = os.pipe()
        stop, self._end = os.pipe()
        self.process = os.fork()
        if not self.process:
            os.close(self._end)
            descriptor = os.open(path, os.O_RDONLY)
            if lock:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(told, b"x")
            os.read(stop, 1)
            os._exit(0)
        os.read(ready, 1)
        for descriptor in (ready, told, stop):
            os.close(descriptor)

    def close(self) -> None:
        os.close(self._end)
        os.waitpid(self.process, 0)


def test_a_last_look_is_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """udev opens each device that changes: it may be the one who closes it last."""
    device = loop.attach(file)
    udev = Opener(device.path)
    assert not loop.wait_until_free(file, timeout=0)  # we use it
    device.close()
    assert loop.find(file) != []
    assert not loop.wait_until_free(file, timeout=0)

    def look_no_more(seconds: float) -> None:
        monkeypatch.undo()
        udev.close()

    monkeypatch.setattr(loop.time, "sleep", look_no_more)
    assert loop.wait_until_free(file)
    assert loop.find(file) == []
    with FileDevice(file):
        pass


def test_a_device_that_stays_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = loop.attach(file)
    monkeypatch.setattr(loop, "_is_in_use", lambda _: True)  # below another device, or not autoclear
    assert not loop.wait_until_free(file)
    monkeypatch.undo()
    device.close()
    assert loop.wait_until_free(file)


def test_a_loop_device_that_has_gone_lets_go_of_the_lock_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the lock of who attached the file, who has closed the file since, or died."""
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    holder = Opener(str(path), lock=True)
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):  # a program's lock is respected at once
        loop._lock_after_release(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(loop, "_program_holds", lambda _: False)

    def let_go(seconds: float) -> None:
        monkeypatch.undo()
        holder.close()

    monkeypatch.setattr(loop.time, "sleep", let_go)
    loop._lock_after_release(descriptor, fcntl.LOCK_EX)
    os.close(descriptor)


def test_many_at_once_all_get_the_same(file: Path) -> None:
    start = threading.Barrier(8)
    devices: list[loop.LoopDevice] = []
    errors: list[BaseException] = []

    def one() -> None:
        start.wait()
        try:
            devices.append(loop.attach(file))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert errors == []
        assert len({device.number for device in devices}) == 1
    finally:
        for device in devices:
            device.close()


def test_others_that_are_faster(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number that the kernel calls free is taken before we configure it."""
    real = loop._configure
    fails = [errno.EBUSY, errno.EBUSY, errno.EBUSY]

    def configure(device: int, *rest: Any) -> None:
        if fails:
            raise OSError(fails.pop(), "taken")
        real(device, *rest)

    monkeypatch.setattr(loop, "_configure", configure)
    with loop.attach(file):
        assert len(loop.find(file)) == 1
    fails += [errno.EBUSY] * loop._TRIES
    monkeypatch.setattr(loop.time, "sleep", lambda _: None)
    with pytest.raises(BusyError, match="took every free loop device"):
        loop.attach(file)
    fails[:] = [errno.EIO]
    with pytest.raises(LamellaError, match="cannot attach"):
        loop.attach(file)


def test_a_kernel_before_5_8(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.fcntl.ioctl

    def ioctl(descriptor: int, request: int, *rest: Any) -> Any:
        if request == loop.LOOP_CONFIGURE:
            raise OSError(errno.EINVAL, "unknown")
        return real(descriptor, request, *rest)

    monkeypatch.setattr(loop.fcntl, "ioctl", ioctl)
    with loop.attach(file, direct_io=True, sector_size=512) as device:
        os.pwrite(device.fd, b"old", 0)
        assert loop.find(file)[0].autoclear
    assert file.read_bytes()[:3] == b"old"
    with loop.attach(file, read_only=True):
        assert loop.find(file)[0].read_only


def test_no_loop_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    monkeypatch.setattr(loop, "attached", list)
    monkeypatch.setattr(loop, "CONTROL", tmp_path / "loop-control")
    assert not loop.available()
    with pytest.raises(MissingError, match="has no loop devices") as caught:
        loop.attach(path)
    assert "modprobe loop" in str(caught.value.hint)
    control = tmp_path / "control"
    control.write_bytes(b"")
    monkeypatch.setattr(loop, "CONTROL", control)

    def refuse(number: int) -> Any:
        def ioctl(*_: Any) -> int:
            raise OSError(number, os.strerror(number))

        return ioctl

    monkeypatch.setattr(loop.fcntl, "ioctl", refuse(errno.EPERM))
    with pytest.raises(PermissionDeniedError):
        loop.attach(path)
    monkeypatch.setattr(loop.fcntl, "ioctl", refuse(errno.ENOSPC))
    with pytest.raises(MissingError, match="no loop device is free"):
        loop.attach(path)
    with pytest.raises(UsageError, match="not a regular file"):
        loop.attach(tmp_path, read_only=True)
    with pytest.raises(NotFoundError):
        loop.attach(tmp_path / "nothing")
    assert loop.find(tmp_path / "nothing") == []


def test_as_an_ordinary_user(file: Path) -> None:
    """It may not open the devices, but it may know which there are, and is told what it needs."""
    mine = file.with_name("mine")
    mine.write_bytes(bytes(4096))
    file.parent.chmod(0o755)
    folder = os.open(file.parent, os.O_RDONLY)  # the folders above are closed to others
    out, told = os.pipe()
    with loop.attach(file) as device:
        assert [info.path for info in loop.find(file)] == [device.path]
        child = os.fork()
        if not child:
            try:
                os.fchdir(folder)
                os.chown("mine", 65534, 65534)
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                os.write(told, f"{[info.path for info in loop.find(file.name)]}\n".encode())
                try:
                    loop.attach("mine")
                except LamellaError as error:
                    os.write(told, f"{type(error).__name__} {error.hint}".encode())
            except BaseException as error:
                os.write(told, repr(error).encode())
            finally:
                os._exit(0)
        os.close(told)
        os.waitpid(child, 0)
        with os.fdopen(out) as pipe:
            first, second = pipe.read().split("\n", 1)
    os.close(folder)
    assert first == f"['{device.path}']"
    assert second.startswith("PermissionDeniedError")
    assert "root" in second
