# SPDX-License-Identifier: Apache-2.0
"""loop-lvm: a pool on two sparse files under the state root, as Docker makes it when told nothing else."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.block.file import sync_directory
from lamella.block.system import explain
from lamella.driver.backend import PoolBackend, PoolDevices
from lamella.driver.structure import Node
from lamella.errors import NotFoundError
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.driver.options import Options
    from lamella.thin.status import PoolStatus

WARNING = (
    "devicemapper: usage of loopback devices is strongly discouraged for production use.\n"
    "         Use `--storage-opt dm.thinpooldev` to specify a custom block storage device."
)
"""``docker info``'s warning (moby v24.0.9, ``daemon/info_unix.go``), without its leading "WARNING: "."""


class LoopLvm(PoolBackend):
    """``pool/data`` and ``pool/metadata`` under *root*. *opener* opens a device; tests record through it."""

    mode = "loop-lvm"

    def __init__(self, root: Path, *, opener: Callable[..., FileDevice] = FileDevice) -> None:
        self.folder = root / "pool"
        self.data = self.folder / "data"
        self.metadata = self.folder / "metadata"
        self._opener = opener

    def exists(self) -> bool:
        return self.data.exists() or self.metadata.exists()

    def create(self, options: Options) -> None:
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self.folder.parent)
        except OSError as error:
            raise explain(error, "create", str(self.folder)) from error
        FileDevice.create(self.metadata, options.loop_metadata_size).close()
        FileDevice.create(self.data, options.loop_data_size).close()

    def open(self, *, read_only: bool = False) -> PoolDevices:
        for path in (self.metadata, self.data):
            if not path.exists():
                raise NotFoundError(
                    f"cannot open the pool: {path} is missing",
                    hint="restore it from a backup; without it the store's layers are gone, and "
                    "lamella teardown --force clears the rest away",
                )
        metadata = self._opener(self.metadata, read_only=read_only)
        try:
            data = self._opener(self.data, read_only=read_only)
        except BaseException:
            metadata.close()
            raise
        return PoolDevices(metadata, data)

    def grow(self, devices: PoolDevices, options: Options) -> list[str]:
        warnings = []
        wanted = (
            (devices.metadata, "dm.loopmetadatasize", options.loop_metadata_size),
            (devices.data, "dm.loopdatasize", options.loop_data_size),
        )
        for device, key, size in wanted:
            if key not in options.given or size == device.size:
                continue
            if size < device.size:
                warnings.append(
                    f"Can't shrink loopback file {device.name}: it has {human_size(device.size)}, "
                    f"and {key} asks for {human_size(size)}"
                )
            elif isinstance(device, FileDevice):
                device.resize(size)
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
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        kept = self.metadata.with_name(f"metadata.damaged-{stamp}")
        number = 1
        try:
            while kept.exists():
                number += 1
                kept = self.metadata.with_name(f"metadata.damaged-{stamp}.{number}")
            # A second name first: at no moment is there no metadata, or only one of the two.
            os.link(self.metadata, kept)
            sync_directory(self.folder)
            repaired.replace(self.metadata)
            sync_directory(self.folder)
        except OSError as error:
            raise explain(error, "put the repaired metadata in place of", str(self.metadata)) from error
        return str(kept)

    def remove(self) -> list[str]:
        try:
            of_repairs = [*self.folder.glob("metadata.damaged-*"), self.folder / "metadata.repaired"]
            for path in (self.data, self.metadata, *of_repairs):
                path.unlink(missing_ok=True)
            if self.folder.exists():
                self.folder.rmdir()
        except OSError as error:
            raise explain(error, "remove", str(self.folder)) from error
        return []

    def structure(self, devices: PoolDevices, status: PoolStatus) -> tuple[list[Node], list[Node]]:
        files = [
            Node("file", str(self.data), devices.data.size, _allocated(self.data), "data"),
            Node("file", str(self.metadata), devices.metadata.size, _allocated(self.metadata), "metadata"),
        ]
        return files, files

    def names(self) -> dict[str, str]:
        # The user engine attaches no loop device: the files are the devices.
        return {
            "Data file": str(self.data),
            "Metadata file": str(self.metadata),
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
        return [WARNING]


def _allocated(path: Path) -> int:
    """Bytes that a sparse file takes."""
    return path.stat().st_blocks * 512
