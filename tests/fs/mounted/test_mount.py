# SPDX-License-Identifier: Apache-2.0
"""mount(2) and growing what is mounted, on this machine's own kernel, over a loop device."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, loop
from lamella.errors import (
    BusyError,
    CorruptError,
    LamellaError,
    MissingError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
    UsageError,
)
from lamella.fs.ext4.make import make_ext4
from lamella.fs.mounted import detached, mount
from lamella.fs.mounted.grow import grow_mounted
from lamella.fs.mounted.mount import Flag, split_options
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 32 << 20


@pytest.fixture
def device(tmp_path: Path) -> Iterator[loop.LoopDevice]:
    """A loop device with an ext4 of our making; what is mounted below tmp_path is unmounted at the end."""
    if not loop.available():
        missing("a loop device that we may use")
    path, point = tmp_path / "file", tmp_path / "point"
    point.mkdir()
    with FileDevice.create(path, SIZE) as file:
        make_ext4(file)
    try:
        made = loop.attach(path)
    except LamellaError as error:
        missing(f"a usable loop device ({error})")
    try:
        try:
            mount.mount(made.path, point, "ext4")
        except PermissionDeniedError:
            missing("the right to mount")
        mount.unmount(point)
        with made:
            yield made
    finally:
        for line in reversed(mount.mountinfo.mounts()):
            if line.point.startswith(str(tmp_path)):
                with suppress(LamellaError):
                    mount.unmount(line.point, lazy=True)


def test_mount_and_unmount(device: loop.LoopDevice, tmp_path: Path) -> None:
    point = tmp_path / "point"
    assert mount.mounted_at(point) is None
    mount.mount(device.path, point, "ext4", options=["noatime,nodev", "nosuid"])
    (point / "file").write_bytes(b"written")
    [line] = mount.mounts_of(*device.device)
    assert line == mount.mounted_at(point)
    assert {"noatime", "nodev", "nosuid", "rw"} <= set(line.options.split(","))
    mount.unmount(point)
    assert mount.mounts_of(*device.device) == []
    mount.mount(device.path, point, "ext4", read_only=True, options=["rw"])
    with pytest.raises(OSError):
        (point / "other").touch()
    with pytest.raises(BusyError, match=f"mounted at {point}"):
        mount.mount(device.path, point, "ext4")  # once more, and writable
    mount.unmount(point)
    with pytest.raises(NotFoundError, match="nothing is mounted"):
        mount.unmount(point)


def test_who_uses_it_is_named(device: loop.LoopDevice, tmp_path: Path) -> None:
    point = tmp_path / "point"
    mount.mount(device.path, point, "ext4")
    program = "import os, sys; os.chdir(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, point], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BusyError, match=f"process {process.pid} .* uses {point}") as caught:
            mount.unmount(point)
        assert "--lazy" in str(caught.value.hint)
        mount.unmount(point, lazy=True)
        assert mount.mounted_at(point) is None
    finally:
        process.communicate()


def test_what_the_kernel_refuses(device: loop.LoopDevice, tmp_path: Path) -> None:
    point = tmp_path / "point"
    with pytest.raises(MissingError, match="does not know nosuchfs"):
        mount.mount(device.path, point, "nosuchfs")
    with pytest.raises(UsageError, match="nosuchoption"):
        mount.mount(device.path, point, "ext4", options=["nosuchoption"])
    with pytest.raises(NotFoundError):
        mount.mount(device.path, tmp_path / "nowhere", "ext4")
    os.pwrite(device.fd, bytes(4096), 0)
    os.fsync(device.fd)
    with pytest.raises(CorruptError, match="no ext4 there"):
        mount.mount(device.path, point, "ext4")


def test_a_private_folder_comes_and_goes(device: loop.LoopDevice, tmp_path: Path) -> None:
    home = tmp_path / "mnt"
    point = home / "one"
    point.mkdir(parents=True)
    mount.make_private(home)
    mount.make_private(home)
    line = mount.mounted_at(home)
    assert line is not None
    assert not line.shared
    assert sum(each.point == str(home) for each in mount.mountinfo.mounts()) == 1
    mount.mount(device.path, point, "ext4")
    mount.leave_private(home)
    assert mount.mounted_at(home) is not None
    mount.unmount(point)
    mount.leave_private(home)
    assert mount.mounted_at(home) is None
    mount.leave_private(home)


@pytest.mark.guest  # a machine may not let its root resize file systems (CAP_SYS_RESOURCE)
def test_growing_ext4_while_it_is_mounted(device: loop.LoopDevice, tmp_path: Path) -> None:
    point = tmp_path / "point"
    mount.mount(device.path, point, "ext4")
    before = os.statvfs(point).f_blocks
    (point / "kept").write_bytes(b"kept")
    os.truncate(tmp_path / "file", 2 * SIZE)
    device.set_capacity()
    grow_mounted(point, "ext4", 2 * SIZE)
    grow_mounted(point, "ext4", 2 * SIZE)
    assert os.statvfs(point).f_blocks > before * 1.8
    assert (point / "kept").read_bytes() == b"kept"
    with pytest.raises(UnsupportedError):
        grow_mounted(point, "btrfs", SIZE)
    with pytest.raises(NotFoundError):
        grow_mounted(tmp_path / "nowhere", "ext4", SIZE)
    mount.unmount(point)
    done = subprocess.run(["e2fsck", "-fn", tmp_path / "file"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_only_the_file_system_that_was_meant_is_grown(tmp_path: Path) -> None:
    """The path may lead through another namespace, whose owner can put something else there."""
    with pytest.raises(BusyError, match=f"at {tmp_path} is not device 259:1048575"):
        grow_mounted(tmp_path, "ext4", SIZE, device=(259, 1048575))


def test_options_as_mount_takes_them() -> None:
    assert split_options(["ro,noatime,discard"]) == (Flag.RDONLY | Flag.NOATIME, "discard")
    assert split_options(["ro", "rw,defaults"]) == (Flag(0), "")
    quoted = 'context="system_u:object_r:file_t:s0:c1,c2"'
    assert split_options([f"{quoted},ro", "data=ordered"]) == (Flag.RDONLY, f"{quoted},data=ordered")
    assert split_options(["", "exec, nodev"]) == (Flag.NODEV, "")


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_mount_that_is_left_behind_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """On kernels that mount in folders only, the folder goes by rmdir and nothing else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(detached, "_FSOPEN", 9999)  # no such call
    monkeypatch.setattr(detached, "_drop_cache", lambda source: None)

    def pretend(source: str, point: str, filesystem: str, **_: object) -> None:
        (Path(point) / "precious").write_text("kept")
        if interrupted:
            raise KeyboardInterrupt

    def refuse(point: str, **_: object) -> None:
        raise BusyError(f"cannot unmount {point}")

    monkeypatch.setattr(mount, "mount", pretend)
    monkeypatch.setattr(mount, "unmount", refuse)
    with pytest.raises(BusyError), detached.mounted("/dev/x", "xfs"):
        pass
    [kept] = tmp_path.glob("*/precious")
    assert kept.read_text() == "kept"


def test_quoted_options_reach_the_kernel_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(number: int, *_: object) -> int:
        return os.open(os.devnull, os.O_RDONLY)

    def configured(context: int, command: int, key: bytes | None, value: bytes | None) -> None:
        if key is None:
            raise OSError(errno.EINVAL, "enough")
        given.append((key, value))

    given: list[tuple[bytes | None, bytes | None]] = []
    monkeypatch.setattr(detached, "_call", call)
    monkeypatch.setattr(detached, "_configure", configured)
    monkeypatch.setattr(detached, "_drop_cache", lambda source: None)
    options = 'nouuid,context="system_u:object_r:file_t:s0:c1,c2"'
    with pytest.raises(CorruptError), detached.mounted("/dev/x", "xfs", options):
        pass
    assert given[1:] == [(b"nouuid", None), (b"context", b"system_u:object_r:file_t:s0:c1,c2")]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, CorruptError), (errno.EPERM, PermissionDeniedError)]
)
def test_other_errors(number: int, kind: type[LamellaError]) -> None:
    error = OSError(number, os.strerror(number))
    assert isinstance(mount._explained(error, "/dev/x", "/mnt", "ext4", ""), kind)
