# SPDX-License-Identifier: Apache-2.0
"""Every failure state of the kernel's pools: recognised, explained, and recovered from without data loss."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.block import loop
from lamella.cli.main import main
from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.nodes import QUIET_COOKIE
from lamella.devicemapper.table import Error, Linear, Target, ThinPool, parse_target
from lamella.driver.device_names import pool_name
from lamella.errors import LamellaError
from lamella.images.sample import write_sample
from lamella.store import Store
from lamella.store.pool_health import NO_SPACE_TIMEOUT
from lamella.thin.metadata.reader import Metadata
from lamella.thin.status import PoolMode, PoolStatus, parse_status
from tests.guest.machine import run
from tests.support.stores import pool_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.block import BlockDevice

MIB = 1 << 20
LOOP = ("dm.basesize=96M", "dm.loopdatasize=64M", "dm.loopmetadatasize=2M", "dm.min_free_space=0%")
NOISE = bytes(range(256)) * 16

WRITER = """
import hashlib, os, sys
folder, log, count = sys.argv[1], open(sys.argv[2], "a", buffering=1), int(sys.argv[3])
for number in range(count):
    piece = hashlib.sha256(b"%d" % number).digest() * 32768
    descriptor = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, piece)
    os.fsync(descriptor)
    os.close(descriptor)
    log.write(f"{number}\\n")
"""
"""Writes files of 1 MiB, and logs each when it is durable."""


@dataclass
class Output:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@pytest.fixture
def lamella(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Output]]:
    """Runs one of our commands on the test's store, which is deactivated at the end."""
    root = tmp_path / "root"
    monkeypatch.setenv("LAMELLA_ROOT", str(root))
    monkeypatch.setenv("LAMELLA_ENGINE", "kernel")

    def command(*words: object, expect: int = 0) -> Output:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = Output(code, *capsys.readouterr())
        assert code == expect, f"lamella {' '.join(map(str, words))} ended with {code}:\n{said.text}"
        return said

    try:
        yield command
    finally:
        with contextlib.suppress(Exception):
            Store.deactivate(root=root, unmount=True)
        _force_away(root)


def _force_away(root: Path) -> None:
    """Remove the devices that a failed test leaves."""
    if not root.exists():
        return
    prefix = pool_name(root).removesuffix("-pool")
    with DeviceMapper() as dm:
        names = [name for name, _, _ in dm.list() if name.startswith((prefix, "lamella-test-"))]
        for name in sorted(
            names, key=lambda name: (name.startswith("lamella-test-"), name.endswith("-pool"))
        ):
            subprocess.run(["umount", "-l", f"/dev/mapper/{name}"], check=False, capture_output=True)
            subprocess.run(["dmsetup", "remove", "--force", name], check=False, capture_output=True)


def _status(dm: DeviceMapper, name: str) -> PoolStatus:
    return parse_status(dm.status(name, flush=False)[0].text)


def _wait_for(dm: DeviceMapper, name: str, what: Callable[[PoolStatus], bool]) -> PoolStatus:
    end = time.monotonic() + 120
    while True:
        status = _status(dm, name)
        if what(status):
            return status
        assert time.monotonic() < end, f"{name} stays {status}"
        time.sleep(0.2)


def _sum(folder: Path) -> dict[str, str]:
    """The digest of every file below *folder*."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A loop-lvm store with the container "box", made once."""
    folder = tmp_path_factory.mktemp("template")
    write_sample(folder / "image")
    with Store.setup(folder / "root", mode="loop-lvm", storage_options=LOOP, engine="user") as store:
        store.create(store.load(folder / "image")[0].id, name="box")
    # The tests use other options than the set-up.
    config = folder / "root/config.toml"
    config.write_text("".join(line for line in config.open() if not line.startswith("engine")))
    return folder


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy of it, which is not active."""
    run("cp", "-a", "--sparse=always", template / "root", tmp_path / "root")
    return tmp_path / "root"


def _image(root: Path) -> str:
    with Store.open(root, read_only=True) as store:
        return store.images()[0].id


@contextlib.contextmanager
def _writing(folder: Path, log: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    done = subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(log), str(count)])
    try:
        yield done
    finally:
        done.kill()
        done.wait()


@contextlib.contextmanager
def _no_space_timeout(seconds: str) -> Iterator[None]:
    """Set the seconds for which a full pool queues writes; a slow machine needs more to extend it."""
    before = NO_SPACE_TIMEOUT.read_text()
    NO_SPACE_TIMEOUT.write_text(seconds)
    try:
        yield
    finally:
        NO_SPACE_TIMEOUT.write_text(before)


def _check_written(folder: Path, log: Path) -> int:
    """Check that all durable files are there; gives their number."""
    numbers = log.read_text().split()
    for number in numbers:
        wanted = hashlib.sha256(number.encode()).digest() * 32768
        assert (folder / number).read_bytes() == wanted, f"file {number} is not what was written"
    return len(numbers)


# -- out of data space -------------------------------------------------------------------------------


def test_full_under_load_then_extended_and_the_writer_goes_on(
    lamella: Callable[..., Output], root: Path, tmp_path: Path
) -> None:
    folder = Path(lamella("mount", "box").out.strip())
    log, name = tmp_path / "log", pool_name(root)
    log.touch()
    with _no_space_timeout("900"), DeviceMapper() as dm, _writing(folder, log, 60) as writer:
        _wait_for(dm, name, lambda status: status.mode is PoolMode.OUT_OF_DATA_SPACE)
        said = lamella("info")
        assert "WARNING: the pool is full: all 67.11MB of its data are in use" in said.err
        assert "within 900 s they go on and nothing is lost" in said.err
        assert "next: lamella grow --data +20%" in said.err
        assert writer.poll() is None
        assert "data: 67.11MB -> 134.2MB" in lamella("grow", "--data", "+100%").out
        assert writer.wait(timeout=120) == 0
        status = _status(dm, name)
        assert (status.mode, status.error_if_no_space) == (PoolMode.WRITE, False)
        assert status.total_data == 2048
    assert _check_written(folder, log) == 60
    lamella("umount", "box")
    lamella("deactivate")
    assert "clean" in lamella("check", "--engine", "user").out


def test_full_and_erroring_then_extended(
    lamella: Callable[..., Output], template: Path, tmp_path: Path
) -> None:
    """direct-lvm on a loop device, with LVM's ``--errorwhenfull``."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(300 * MIB)
    with loop.attach(disk, autoclear=False) as attached:
        try:
            lamella(
                "setup", "direct-lvm", attached.path, "--vg", f"h6{os.getpid()}", "--data-percent", "25",
                "--metadata-percent", "2", "--storage-opt", "dm.basesize=96M", "--chunk-size", "64K",
                # With a lower threshold dmeventd may extend the pool faster than this fills it.
                "--storage-opt", "dm.min_free_space=0%", "--storage-opt", "dm.thinp_autoextend_threshold=100",
            )  # fmt: skip
            pool = f"h6{os.getpid()}/thinpool"
            lamella("load", "-i", template / "image")
            lamella("lvchange", "--errorwhenfull", "y", pool)
            lamella("create", "--name", "box", _image(tmp_path / "root"))
            node = Path(lamella("activate", "box").out.split()[-1])
            chunk = os.urandom(64 << 10)
            written = []

            def fill(descriptor: int) -> None:
                # In the second half of the file system, which this test does not use.
                for number in range(len(written), 80 * 16):
                    place = (16 << 20) + number * len(chunk)
                    if place >= 96 * MIB:
                        return
                    os.pwrite(descriptor, chunk, place)
                    os.fsync(descriptor)
                    written.append(place)

            descriptor = os.open(node, os.O_RDWR)
            try:
                with pytest.raises(OSError) as caught:
                    fill(descriptor)
                assert caught.value.errno in (28, 5)  # by the kernel's version
                said = lamella("info")
                assert "WARNING: the pool is full" in said.err
                assert "other writes fail at once (no space left)" in said.err
                assert "the pool is full" in lamella("check", expect=6).out
                before = len(written)
                assert " -> " in lamella("grow", "--data", "+48M").out
                fill(descriptor)
                assert len(written) > before
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                assert all(os.pread(descriptor, len(chunk), place) == chunk for place in written)
            finally:
                os.close(descriptor)
            assert "WARNING: the pool is full" not in lamella("info").err
            lamella("deactivate")
            lamella("teardown", "--force")
        finally:
            _force_away(tmp_path / "root")
            for part in ("thinpool", "thinpool-tpool", "thinpool_tdata", "thinpool_tmeta"):
                name = f"h6{os.getpid()}-{part}"
                subprocess.run(["dmsetup", "remove", "--retry", name], check=False, capture_output=True)
            info = loop.look(attached.number)
            if info is not None:
                loop.detach(info)


# -- without a disk ----------------------------------------------------------------------------------


def test_a_disk_goes_below_an_active_pool(lamella: Callable[..., Output], tmp_path: Path) -> None:
    """The second disk loses its label; the active pool is not affected."""
    group = f"gone{os.getpid()}"
    with contextlib.ExitStack() as attached:
        disks = []
        for number in range(2):
            path = tmp_path / f"disk{number}"
            with path.open("wb") as file:
                file.truncate(64 * MIB)
            disks.append(attached.enter_context(loop.attach(path, autoclear=True)).path)
        try:
            lamella(
                "setup", "direct-lvm", *disks, "--vg", group, "--data-percent", "80", "--metadata-percent",
                "4", "--storage-opt", "dm.basesize=64M", "--storage-opt", "dm.min_free_space=0%",
            )  # fmt: skip
            assert "lacks a disk" not in lamella("info").err
            with open(disks[1], "r+b", buffering=0) as file:
                label = file.read(4096)
                file.seek(0)
                file.write(bytes(4096))
            said = lamella("info").err
            assert f"WARNING: the pool lacks a disk: {disks[1]}" in said
            assert "next: put the disk back" in said
            assert "the pool lacks a disk" in lamella("check", expect=6).out
            with open(disks[1], "r+b", buffering=0) as file:
                file.write(label)
            assert "lacks a disk" not in lamella("info").err
            lamella("deactivate")
            lamella("teardown", "--force")
        finally:
            for part in ("thinpool", "thinpool_tdata", "thinpool_tmeta"):
                subprocess.run(
                    ["dmsetup", "remove", "--retry", f"{group}-{part}"], check=False, capture_output=True
                )


# -- out of metadata space ---------------------------------------------------------------------------


def test_metadata_full_then_extended(lamella: Callable[..., Output], root: Path) -> None:
    lamella("activate")
    name = pool_name(root)
    with DeviceMapper() as dm:
        with contextlib.suppress(Exception):
            for number in range(5000, 9000):
                dm.message(name, f"create_thin {number}")
        assert _status(dm, name).mode is PoolMode.OUT_OF_METADATA_SPACE
        image = _image(root)
        said = lamella("info")
        assert "WARNING: the pool is read-only: all 512 blocks of its metadata are in use" in said.err
        assert "next: lamella grow --metadata +100%" in said.err
        said = lamella("create", "--name", "late", image, expect=7)
        assert "lamella grow --metadata +100%" in said.err
        assert "metadata: 2.097MB -> 4.194MB" in lamella("grow", "--metadata", "4M").out
        assert _status(dm, name).mode is PoolMode.WRITE
        for number in range(5000, 9000):
            with contextlib.suppress(Exception):
                dm.message(name, f"delete {number}")
                continue
            break
    lamella("create", "--name", "late", image)
    lamella("deactivate")
    assert "clean" in lamella("check", "--engine", "user").out


# -- metadata that fails -----------------------------------------------------------------------------


class BadDisk:
    """A loop-lvm pool, active on a metadata device that can be made to fail."""

    def __init__(self, dm: DeviceMapper, root: Path) -> None:
        self.dm, self.root, self.name = dm, root, f"lamella-test-{os.getpid()}"
        self.sectors = (root / "pool/metadata").stat().st_size // 512
        self.metadata = loop.attach(root / "pool/metadata")
        self.data = loop.attach(root / "pool/data")
        self.number = "{}:{}".format(*self.metadata.device)
        info = dm.create_with_table(self.name, [Linear(0, self.sectors, device=self.number)])
        table = ThinPool(
            0, (root / "pool/data").stat().st_size // 512, metadata=info.number,
            data="{}:{}".format(*self.data.device), chunk=128, features=("skip_block_zeroing",),
        )  # fmt: skip
        dm.create_with_table(pool_name(root), [table])

    def _swap(self, *table: Target) -> None:
        self.dm.reload(self.name, list(table), freeze=False)

    def fail_writes(self) -> None:
        """Only the superblock can be written."""
        rest = parse_target(f"8 {self.sectors - 8} flakey {self.number} 8 0 600 1 error_writes")
        self._swap(Linear(0, 8, device=self.number), rest)

    def fail(self) -> None:
        self._swap(Error(0, self.sectors))

    def repair(self) -> None:
        self._swap(Linear(0, self.sectors, device=self.number))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.dm.remove(self.name, cookie=QUIET_COOKIE)
        self.metadata.close()
        self.data.close()


@contextlib.contextmanager
def _bad_disk(root: Path) -> Iterator[tuple[DeviceMapper, BadDisk]]:
    run("modprobe", "dm-flakey")
    with DeviceMapper() as dm:
        bad = BadDisk(dm, root)
        try:
            yield dm, bad
        finally:
            bad.close()


def _repair_file_system(lamella: Callable[..., Output]) -> None:
    """Repair a file system that recorded errors as its writes failed."""
    node = lamella("activate", "box").out.split()[-1]
    done = subprocess.run(["e2fsck", "-fy", node], check=False, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    run("e2fsck", "-fn", node)


def _mounted_with_content(lamella: Callable[..., Output]) -> tuple[Path, dict[str, str]]:
    """Where container "box" is mounted, once a file in it is on the disk, and :func:`_sum` of it."""
    folder = Path(lamella("mount", "box").out.strip())
    (folder / "kept").write_bytes(NOISE * 64)
    run("sync", "-f", folder)
    return folder, _sum(folder)


def test_a_commit_that_fails_then_checked_and_cleared(lamella: Callable[..., Output], root: Path) -> None:
    image = _image(root)
    with _bad_disk(root) as (dm, bad):
        folder, before = _mounted_with_content(lamella)
        bad.fail_writes()
        said = lamella("create", "--name", "late", image, expect=8)
        assert "lamella deactivate; then lamella repair; then lamella activate" in said.err
        assert _status(dm, pool_name(root)).needs_check
        said = lamella("info")
        assert "WARNING: the pool is read-only and needs a check" in said.err
        assert _sum(folder) == before  # what was there can be read
        assert "late" not in lamella("ps").out
        assert "needs a check" in lamella("create", "--name", "late", image, expect=8).err
        said = lamella("repair", "--yes", expect=5)
        assert "lamella deactivate" in said.err
        bad.repair()
        lamella("umount", "box")
        lamella("deactivate")
    assert "The needs_check flag was cleared" in lamella("repair", "--yes").out
    folder = Path(lamella("mount", "box").out.strip())
    assert _sum(folder) == before
    lamella("umount", "box")
    _repair_file_system(lamella)
    lamella("create", "--name", "late", image)
    lamella("deactivate")
    assert "clean" in lamella("check", "--engine", "user").out


def test_a_dead_metadata_device_fails_the_pool_which_comes_back_with_it(
    lamella: Callable[..., Output], root: Path
) -> None:
    image = _image(root)
    with _bad_disk(root) as (dm, bad):
        folder, before = _mounted_with_content(lamella)
        bad.fail()
        lamella("create", "--name", "late", image, expect=13)
        with contextlib.suppress(LamellaError):  # the kernel says yes, or has found out by itself
            dm.message(pool_name(root), "create_thin 9999")
        assert dm.status(pool_name(root), flush=False)[0].text.strip() == "Fail"
        said = lamella("info", expect=13)
        assert "has failed: its metadata could be neither written nor read back" in said.err
        assert "lamella deactivate" in said.err
        lamella("umount", "box")
        bad.repair()
        lamella("info", expect=13)  # a failed pool stays so until it is taken down
        lamella("deactivate")
    assert "nothing to repair" in lamella("repair").out
    folder = Path(lamella("mount", "box").out.strip())
    assert _sum(folder) == before
    lamella("umount", "box")
    _repair_file_system(lamella)
    lamella("create", "--name", "late", image)
    lamella("deactivate")
    assert "clean" in lamella("check", "--engine", "user").out


def test_a_pool_that_was_forced_away_and_a_suspended_one(lamella: Callable[..., Output], root: Path) -> None:
    lamella("activate")
    name = pool_name(root)
    with DeviceMapper() as dm:
        length = parse_target(dm.table(name)[0].line).length
        dm.reload(name, [Error(0, length)], freeze=False)
    said = lamella("info", expect=13)
    assert "has the table of a device that was forced away" in said.err
    lamella("deactivate")
    lamella("activate")
    lamella("info")


# -- damage while inactive -----------------------------------------------------------------------


def _damage(metadata: BlockDevice) -> None:
    """Overwrite the list of devices' details and the start of the data space map."""
    found = Metadata.open(metadata)
    for block in (found.superblock.details_root, found.superblock.data_sm_root.bitmap_root):
        metadata.write(block * 4096, NOISE)
    metadata.flush()


def test_a_damaged_pool_is_refused_repaired_and_comes_back(
    lamella: Callable[..., Output], root: Path
) -> None:
    folder = Path(lamella("mount", "box").out.strip())
    (folder / "kept").write_bytes(NOISE * 64)
    before = _sum(folder)
    lamella("umount", "box")
    lamella("deactivate")
    with pool_devices(root) as devices:
        _damage(devices.metadata)
    damaged = (root / "pool/metadata").read_bytes()
    said = lamella("activate", expect=6)
    assert "is damaged" in said.err
    assert "lamella repair" in said.err
    said = lamella("repair", "--yes")
    assert "lost: nothing" in said.out
    (kept,) = (root / "pool").glob("metadata.damaged-*")
    assert kept.read_bytes() == damaged
    run("thin_check", "-q", root / "pool/metadata")
    folder = Path(lamella("mount", "box").out.strip())
    assert _sum(folder) == before
    lamella("umount", "box")
    lamella("create", "--name", "late", _image(root))
    lamella("deactivate")
    assert "clean" in lamella("check", "--engine", "user").out
