# SPDX-License-Identifier: Apache-2.0
"""loop-lvm: a pool on two sparse files under the state root, which is Docker's default."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella import clock, logs
from lamella.block import SECTOR, FileDevice
from lamella.block.atomic_file import sync_directory
from lamella.block.system import explaining
from lamella.closing import on_error
from lamella.driver.backend import PoolBackend, PoolDevices
from lamella.driver.device_names import pool_name
from lamella.errors import BusyError, CorruptError, LamellaError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.block.loop import LoopInfo
    from lamella.devicemapper.client import DeviceMapper
    from lamella.devicemapper.table import ThinPool
    from lamella.driver.backend import DeviceTree
    from lamella.driver.options import Options
    from lamella.driver.stack_node import Node
    from lamella.thin.format.superblock import Superblock
    from lamella.thin.status import PoolStatus

log = logs.logger(__name__)

WARNING = (
    "devicemapper: usage of loopback devices is strongly discouraged for production use.\n"
    "         Use `--storage-opt dm.thinpooldev` to specify a custom block storage device."
)
"""``docker info``'s warning (moby v24.0.9, ``daemon/info_unix.go``), without its leading "WARNING: "."""

LOW_WATER = 32768
"""Free chunks at which the kernel sends an event; Docker's number."""


class LoopLvm(PoolBackend):
    """``pool/data`` and ``pool/metadata`` under *root*. *opener* opens a device; tests record through it."""

    mode = "loop-lvm"

    def __init__(self, root: Path, *, opener: Callable[..., FileDevice] = FileDevice) -> None:
        self.root = root
        self.folder = root / "pool"
        self.data = self.folder / "data"
        self.metadata = self.folder / "metadata"
        self._opener = opener

    def exists(self) -> bool:
        return self.data.exists() or self.metadata.exists()

    def create(self, options: Options) -> None:
        with explaining("create", str(self.folder)):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self.folder.parent)
        FileDevice.create(self.metadata, options.loop_metadata_size).close()
        FileDevice.create(self.data, options.loop_data_size).close()

    def open(self, *, read_only: bool = False) -> PoolDevices:
        from lamella.block.loop import wait_until_free

        self._check_files()
        for path in (self.metadata, self.data):
            loops = self._loops(path)
            if loops and wait_until_free(path):
                loops = []
            for loop in loops:
                raise BusyError(
                    f"the pool is active in the kernel: {path} is attached to {loop.path}",
                    hint="as root use --engine kernel, or deactivate the pool: lamella deactivate",
                )
        if read_only and self.beside_writer:
            return self._both(lambda path: FileDevice(path, read_only=True, lock=False))
        return self._both(lambda path: self._opener(path, read_only=read_only))

    def open_inactive(self) -> PoolDevices:
        if not any(self._loops(path) for path in (self.metadata, self.data)):
            return self.open(read_only=True)
        self._check_files()
        # The loop devices hold the locks.
        return self._both(lambda path: FileDevice(path, read_only=True, lock=False))

    def transaction_id(self) -> int | None:
        from lamella.thin.format import superblock
        from lamella.thin.format.checksum import BLOCK_SIZE

        # Through the file also where a loop device is on it, which goes through the same pages.
        with suppress(LamellaError), FileDevice(self.metadata, read_only=True, lock=False) as file:
            start = file.read(0, min(BLOCK_SIZE, file.size))
            return superblock.unpack(start, name=str(self.metadata), read_only=True).transaction_id
        return None

    def _both(self, opener: Callable[[Path], BlockDevice]) -> PoolDevices:
        metadata = opener(self.metadata)
        with on_error(metadata.close):
            return PoolDevices(metadata, opener(self.data))

    def _check_files(self) -> None:
        for path in (self.metadata, self.data):
            if not path.exists():
                raise NotFoundError(
                    f"cannot open the pool: {path} is missing",
                    hint="restore it from a backup; without it the store's layers are gone, and "
                    "lamella teardown --force clears the rest away",
                )

    def _loops(self, path: Path) -> list[LoopInfo]:
        from lamella.block.loop import find

        with suppress(LamellaError):  # no /sys: then there is no kernel that uses the file, as far as we see
            return find(path)
        return []

    # -- the kernel's engine ---------------------------------------------------------------------

    def unfit_for_kernel(self, options: Options | None = None) -> str:
        return ""

    def active(self, dm: DeviceMapper) -> str | None:
        name = pool_name(self.root)
        info = dm.find(name)
        return name if info is not None and info.live_table else None

    def activate(self, dm: DeviceMapper) -> str:
        from lamella.block.loop import attach
        from lamella.devicemapper.nodes import QUIET_COOKIE, make_name
        from lamella.thin.format import superblock
        from lamella.thin.format.checksum import BLOCK_SIZE

        name = pool_name(self.root)
        info = dm.find(name)
        if info is not None and not info.live_table:
            dm.remove(name, cookie=QUIET_COOKIE)  # what a killed process had begun
            info = None
        if info is None:
            self._check_files()
            with FileDevice(self.metadata, read_only=True, lock=False) as file:
                start = file.read(0, min(BLOCK_SIZE, file.size))
            fields = superblock.unpack(start, name=str(self.metadata), read_only=True)
            self._check_activatable(fields)
            chunk = fields.data_block_size
            with attach(self.metadata) as metadata, attach(self.data) as data:
                size = self.data.stat().st_size
                table = _table(size, _number(metadata.device), _number(data.device), chunk)
                info = dm.create_with_table(name, [table], cookie=QUIET_COOKIE)
        make_name(name, info.major, info.minor)
        return name

    def _check_activatable(self, fields: Superblock) -> None:
        """As LVM does before it activates a pool: the kernel reads nothing but the superblock then."""
        from lamella.lvm.activation.pool_checks import check_metadata
        from lamella.thin.health import refuse_activation

        sizes = {"metadata_size": self.metadata.stat().st_size, "data_size": self.data.stat().st_size}
        found = refuse_activation(fields, **sizes, chunk_size=fields.data_block_size * SECTOR)
        if found is not None:
            raise CorruptError(f"the pool {found.summary}: {found.meaning}", steps=found.steps)
        if not check_metadata(str(self.metadata)):
            raise CorruptError(
                f"the pool's metadata {self.metadata} is damaged: refusing to activate it",
                hint="repair it, which keeps the original: lamella repair",
            )

    def emulate(self, tree: DeviceTree, devices: PoolDevices, chunk_size: int) -> None:
        metadata, data = tree.attach(str(self.metadata)), tree.attach(str(self.data))
        tree.add(pool_name(self.root), "", (_table(devices.data.size, metadata, data, chunk_size // SECTOR),))

    def deactivate(self, dm: DeviceMapper) -> None:
        from lamella.block.loop import detach, wait_until_free
        from lamella.devicemapper.nodes import drop_name

        name = pool_name(self.root)
        info = dm.find(name)
        if info is not None:
            from lamella.driver.kernel_devices import remove

            remove(dm, name, info)
        drop_name(name)
        for path in (self.data, self.metadata):
            for loop in self._loops(path):
                detach(loop)
        with suppress(LamellaError):  # no /sys, as above
            wait_until_free(self.data, self.metadata)

    def grow_active(self, dm: DeviceMapper, options: Options) -> list[str]:
        from lamella.driver.loop_lvm.grow import grow_active

        return grow_active(dm, pool_name(self.root), self.data, self.metadata, options)

    def grow(self, devices: PoolDevices, options: Options) -> list[str]:
        from lamella.driver.loop_lvm.grow import resize_all, shrinking

        warnings = []
        larger = []
        wanted = (
            (devices.metadata, "dm.loopmetadatasize", options.loop_metadata_size),
            (devices.data, "dm.loopdatasize", options.loop_data_size),
        )
        for device, key, size in wanted:
            if key not in options.given or size == device.size:
                continue
            if size < device.size:
                warnings.append(shrinking(device.name, device.size, key, size))
            elif isinstance(device, FileDevice):
                larger.append((device, size))
        resize_all(larger)
        return warnings

    def plan(self, options: Options) -> list[str]:
        return [
            f"truncate -s {options.loop_data_size} {shlex.quote(str(self.data))}",
            f"truncate -s {options.loop_metadata_size} {shlex.quote(str(self.metadata))}",
        ]

    def how_to_grow(self, what: str) -> str:
        key = "dm.loopdatasize" if what == "data" else "dm.loopmetadatasize"
        return f"lamella setup loop-lvm --storage-opt {key}=SIZE"

    def repaired_metadata(self, root: Path) -> Path:
        return self.metadata.with_name("metadata.repaired")

    def replace_metadata(self, repaired: Path) -> str:
        stamp = clock.utc().strftime("%Y%m%dT%H%M%S")
        kept = self.metadata.with_name(f"metadata.damaged-{stamp}")
        number = 1
        with explaining("put the repaired metadata in place of", str(self.metadata)):
            while kept.exists():
                number += 1
                kept = self.metadata.with_name(f"metadata.damaged-{stamp}.{number}")
            # A hard link first, so that at every moment one of the names is that of metadata.
            os.link(self.metadata, kept)
            sync_directory(self.folder)
            repaired.replace(self.metadata)
            log.info("%s has taken the place of %s, which is kept as %s", repaired, self.metadata, kept)
            sync_directory(self.folder)
        return str(kept)

    def remove(self) -> list[str]:
        with explaining("remove", str(self.folder)):
            of_repairs = [*self.folder.glob("metadata.damaged-*"), self.folder / "metadata.repaired"]
            for path in (self.data, self.metadata, *of_repairs):
                path.unlink(missing_ok=True)
            if self.folder.exists():
                self.folder.rmdir()
        return []

    def structure(self, devices: PoolDevices, status: PoolStatus) -> tuple[list[Node], list[Node]]:
        from lamella.driver.stack_node import Node

        files = [
            Node("file", str(self.data), devices.data.size, _allocated(self.data), "data"),
            Node("file", str(self.metadata), devices.metadata.size, _allocated(self.metadata), "metadata"),
        ]

        return files, files

    def names(self) -> dict[str, str]:
        # The user engine attaches no loop device: the files are the devices.
        loops = [self._loops(path) if self.engine == "kernel" else [] for path in (self.data, self.metadata)]
        return {
            "Data file": loops[0][0].path if loops[0] else str(self.data),
            "Metadata file": loops[1][0].path if loops[1] else str(self.metadata),
            "Data loop file": str(self.data),
            "Metadata loop file": str(self.metadata),
        }

    def host_space(self) -> int | None:
        try:
            found = os.statvfs(self.folder)
        except OSError:
            return None
        return found.f_bfree * found.f_frsize

    def warnings(self) -> list[str]:
        return [WARNING] if self.engine == "kernel" else []  # only there it is on loop devices


def _table(size: int, metadata: str, data: str, chunk: int) -> ThinPool:
    """The pool's table, of *size* bytes of data and chunks of *chunk* sectors: Docker's."""
    from lamella.devicemapper.table import ThinPool

    return ThinPool(
        0,
        size // SECTOR,
        metadata=metadata,
        data=data,
        chunk=chunk,
        low_water=LOW_WATER,
        features=("skip_block_zeroing",),
    )


def _number(device: tuple[int, int]) -> str:
    return f"{device[0]}:{device[1]}"


def _allocated(path: Path) -> int:
    """Bytes allocated to a sparse file."""
    return path.stat().st_blocks * 512
