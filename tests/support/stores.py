# SPDX-License-Identifier: Apache-2.0
"""Small stores for tests, and checks of a store from outside.

With ``LAMELLA_TEST_ENGINE=kernel`` (in the guest) the stores use the kernel's engine; whatever looks at
them from outside takes their pool out of the kernel first (``take_down``).

``SMALL`` are set-up options with which a loop-lvm store costs a few hundred kilobytes; ``set_up(root,
mode)`` makes such a store in any mode; ``state_of(root)`` is everything that a failed command must leave
as it was; ``assert_sound_for_real_tools`` asks the real tools.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.driver import backends
from lamella.errors import CorruptError, LamellaError, UnsupportedError
from lamella.store import Store
from lamella.store.config import Config
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.tools.check import check as check_metadata
from tests.support import nbd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.driver.backend import PoolDevices
    from lamella.store.repair_report import Repair

SMALL = ("dm.basesize=64M", "dm.loopdatasize=256M", "dm.loopmetadatasize=4M", "dm.min_free_space=0%")

MODES = ("loop-lvm", "direct-lvm")
KERNEL = os.environ.get("LAMELLA_TEST_ENGINE") == "kernel"
"""Whether the tests are run with the kernel's engine."""
REMOTE = {f"remote-{name}": name for name in nbd.PROGRAMS}
"""direct-lvm over disks that an NBD server serves: mode to server. For tests that are marked ``remote``."""
DISK = 161 << 20
"""Bytes of each of the two disks of a direct-lvm store: 40 extents and what comes before them."""


def disks_of(root: Path) -> list[Path]:
    """The plain files that stand for the disks of the direct-lvm store in *root*."""
    return [root.with_name(f"{root.name}-disk{number}") for number in range(2)]


@contextmanager
def served(root: Path, mode: str) -> Iterator[list[nbd.Server]]:
    """Start the NBD servers of the disks of the store in *root*, if *mode* has them; makes missing disks."""
    with ExitStack() as stack:
        servers = []
        for disk in disks_of(root) if mode in REMOTE else []:
            name = REMOTE[mode]
            if not disk.exists():
                _make_disk(disk)
            servers.append(nbd.serve(name, name, disk))
            stack.callback(servers[-1].kill)
        yield servers


def _make_disk(disk: Path) -> None:
    with disk.open("wb") as file:
        file.truncate(DISK)


def files_of(root: Path) -> list[Path]:
    """The plain files that hold the store's pool; the metadata is in the first, the data in the last."""
    loop = [root / "pool/metadata", root / "pool/data"]
    return loop if loop[0].exists() else disks_of(root)


def allocated(root: Path) -> int:
    """Bytes that these files occupy on the host."""
    return sum(path.stat().st_blocks * 512 for path in files_of(root))


def options_for(mode: str, root: Path, *extra: str) -> list[str]:
    """``SMALL``, or for direct-lvm options with the same sizes and disks made for them."""
    if mode == "loop-lvm":
        return [*SMALL, *extra]
    for disk in disks_of(root):
        if not disk.exists():
            _make_disk(disk)
    address = "nbd+unix:///?socket={}.sock" if mode in REMOTE else "{}"
    return [
        *(text for text in SMALL if "loop" not in text),
        "dm.blocksize=64K",
        "dm.thinp_percent=80",
        "dm.thinp_metapercent=2",
        *(f"dm.directlvm_device={address.format(disk)}" for disk in disks_of(root)),
        *extra,
    ]


def set_up(root: Path, mode: str, *extra: str) -> Store:
    """A small store, open for writing."""
    held = "loop-lvm" if mode == "loop-lvm" else "direct-lvm"
    return Store.setup(root, mode=held, storage_options=options_for(mode, root, *extra))


def take_down(root: Path) -> None:
    """Deactivate the store's pool, so that its files can be read."""
    if not KERNEL or not (root / "config.toml").exists():
        return
    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.kernel_devices import deactivate_all

    try:
        mode = Config.load(root / "config.toml").mode
    except (CorruptError, UnsupportedError):
        return  # a test damaged it; nobody could open such a store
    with DeviceMapper() as dm:
        deactivate_all(dm, backends.backend(mode, root), root)


def copy_store(source: Path, target: Path) -> Path:
    """Copy a store and its disks, with their holes."""
    take_down(source)
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)
    for old, new in zip(disks_of(source), disks_of(target), strict=True):
        if old.exists():
            subprocess.run(["cp", "--sparse=always", old, new], check=True)
            for name in ("devices", "direct-lvm.json", "config.toml"):
                path = target / name
                path.write_text(path.read_text().replace(f"{old}", f"{new}"))
    return target


@contextmanager
def lvm_settings(folder: Path) -> Iterator[None]:
    """Put LVM's folders in *folder*, and scan no disk of this machine.

    With the kernel's engine LVM2's own commands are at work as well, which udev runs for every disk with a
    group that it sees come: they and we keep off each other by the locks in LVM's own folder.
    """
    locks = "" if KERNEL else f'global {{ locking_dir="{folder}/locks" }}\n'
    (folder / "lvm.conf").write_text(
        f'config {{ profile_dir="{folder}/profile" }}\n'
        f'backup {{ backup_dir="{folder}/backup"\n archive_dir="{folder}/archive" }}\n'
        f"{locks}"
        'devices { filter=["r|.*|"] hints="none" }\n'
    )
    before = os.environ.get("LVM_SYSTEM_DIR")
    os.environ["LVM_SYSTEM_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["LVM_SYSTEM_DIR"]
        if before is not None:
            os.environ["LVM_SYSTEM_DIR"] = before


@contextmanager
def pool_devices(root: Path, *, read_only: bool = False) -> Iterator[PoolDevices]:
    """The store's metadata and data devices, of either mode."""
    take_down(root)
    devices = backends.backend(Config.load(root / "config.toml").mode, root).open(read_only=read_only)
    try:
        yield devices
    finally:
        devices.close()


def metadata_of(root: Path) -> bytes:
    """The pool's metadata."""
    with pool_devices(root, read_only=True) as devices:
        return devices.metadata.read(0, devices.metadata.size)


def yes(found: Repair) -> bool:
    """Agree to every repair."""
    return True


def change_superblock(root: Path, **fields: int) -> None:
    """Change fields of the pool's superblock."""
    with pool_devices(root) as devices:
        found = superblock.unpack(devices.metadata.read(0, BLOCK_SIZE), name="it")
        for name, value in fields.items():
            setattr(found, name, value)
        devices.metadata.write(0, found.pack())
        devices.metadata.flush()


@contextmanager
def metadata_file(root: Path, folder: Path) -> Iterator[Path]:
    """The pool's metadata as a plain file, for programs: the store's own, or a copy in *folder*."""
    take_down(root)
    if (root / "pool/metadata").exists():
        yield root / "pool/metadata"
        return
    copy = folder / "metadata.copy"
    with (
        pool_devices(root, read_only=True) as devices,
        FileDevice.create(copy, devices.metadata.size) as file,
    ):
        for offset, length in devices.metadata.data_ranges():
            file.write(offset, devices.metadata.read(offset, length))
    yield copy
    copy.unlink()


_TABLES = ("pool", "note", "devices", "layers", "images", "image_references", "containers")


@dataclass(frozen=True)
class StateOf:
    """A store's records, and its pool's devices with every mapping."""

    records: dict[str, list[tuple[object, ...]]]
    mappings: dict[int, list[tuple[int, int, int]]]
    data_used: int


def state_of(root: Path) -> StateOf:
    """The content of the store, without transaction and device numbers that only increase."""
    with closing(sqlite3.connect(root / "state.db")) as database:
        records = {table: sorted(database.execute(f"SELECT * FROM {table}"), key=repr) for table in _TABLES}
        records["tar_split"] = sorted(database.execute("SELECT chain_id, piece, length(data) FROM tar_split"))
    records["pool"] = [(row[0], *row[3:]) for row in records["pool"]]
    with (
        pool_devices(root, read_only=True) as devices,
        Pool.open(devices.metadata, devices.data, options=PoolOptions(zero=False), read_only=True) as pool,
    ):
        mappings = {}
        for number in pool.devices():
            with pool.open_volume(number, 1 << 40, read_only=True) as volume:
                mappings[number] = [tuple(run[:3]) for run in volume.mapped_ranges()]
        return StateOf(records, mappings, pool.status().used_data)


def assert_sound(root: Path, *, but: str = "the pool is sound") -> None:
    """Our own check finds no problem, no unfinished operation and no unknown device in the pool.

    *but* begins what may be said of the pool's state: that it is full is no damage.
    """
    with Store.open(root) as store:
        report = store.check()
        problems = [problem for problem in report.problems if not problem.startswith(but)]
        assert problems == [], problems
        assert not [what for what, _ in report.looked_at if what in ("interrupted", "unused")]
    with closing(sqlite3.connect(root / "state.db")) as database:
        assert database.execute("SELECT count(*) FROM note").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM devices WHERE deleted").fetchone() == (0,)
        devices = {row[0] for row in database.execute("SELECT device_id FROM devices")}
        used = {
            row[0]
            for row in database.execute(
                "SELECT device FROM layers UNION SELECT device FROM containers "
                "UNION SELECT device FROM snapshots"
            )
        }
        known = {row[0] for row in database.execute("SELECT hash FROM devices")}
    assert known - {"snapshot-base"} == used - {"snapshot-base"} | {"base"}, known ^ used
    with pool_devices(root, read_only=True) as pool:
        report = check_metadata(pool.metadata)
        assert report.problems == []
        assert set(report.devices) == devices


def assert_sound_for_real_tools(root: Path, folder: Path) -> None:
    """``thin_check`` accepts the pool, and ``e2fsck -fn`` every file system in it."""
    if shutil.which("thin_check"):
        with metadata_file(root, folder) as metadata:
            subprocess.run(["thin_check", metadata], check=True, stdout=subprocess.DEVNULL)
    if not shutil.which("e2fsck"):
        return
    with Store.open(root, read_only=True) as store:
        for device in store.devices.state.devices():
            image = folder / f"{device.hash[:12]}.ext4"
            with store.devices.volume(device.hash) as volume, FileDevice.create(image, device.size) as file:
                for offset, length in volume.data_ranges():
                    for start in range(offset, offset + length, 1 << 20):
                        take = min(1 << 20, offset + length - start)
                        file.write(start, volume.read(start, take))
            done = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{device.hash}\n{done.stdout}{done.stderr}"
            image.unlink()


def fails(
    root: Path, error: type[LamellaError] | tuple[type[LamellaError], ...], action: Callable[[Store], object]
) -> LamellaError:
    """The error that *action* on the store fails with, which is of one line."""
    with Store.open(root) as store, pytest.raises(error) as caught:
        action(store)
    assert caught.value.message
    assert "\n" not in caught.value.message
    return caught.value
