# SPDX-License-Identifier: Apache-2.0
"""Stores made by Docker for tests; see :mod:`scripts.docker_stores`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
from scripts.docker_stores import recipes
from scripts.docker_stores.making import store
from scripts.guest import roots

from lamella.block import FileDevice
from lamella.lvm.disks.scan import scan
from lamella.lvm.disks.volume_device import open_lv
from lamella.thin.engine.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.block import BlockDevice

    DockerStores = Callable[[str, str, str], "DockerStore"]

ALL = [(mode, fs, state) for mode in recipes.MODES for fs in recipes.FILE_SYSTEMS for state in recipes.STATES]
"""Mode, file system and state of each store."""
NEEDED = ("mmdebstrap", "qemu-system-x86_64")
"""Programs that a guest needs; the second only without User-mode Linux."""
TIMEOUT = 3600
"""The time limit in seconds of a test that may first have to make a guest, and stores in it."""


@dataclass(frozen=True)
class DockerStore:
    """A packed store, which is unpacked to *place* when first needed."""

    folder: Path
    mode: str
    fs: str
    state: str
    place: Path = field(repr=False)

    @cached_property
    def docker(self) -> Path:
        """Docker's folder, with the pool's files for loop-lvm."""
        self.place.mkdir(exist_ok=True)
        # Only root can make device nodes; of these there is one, which only dockerd uses.
        unpack = f"tar -xS -C '{self.place}' --exclude=backingFsBlockDev"
        line = f"zstd -dc '{self.folder / 'docker.tar.zst'}' | {unpack}"
        subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)
        return self.place / "var/lib/docker"

    @cached_property
    def disk(self) -> Path:
        """The disk of direct-lvm."""
        self.place.mkdir(exist_ok=True)
        command = ["zstd", "-dq", "--sparse", self.folder / "pv.img.zst", "-o", self.place / "pv.img"]
        subprocess.run(command, check=True)
        return self.place / "pv.img"

    @contextmanager
    def halves(self) -> Iterator[tuple[BlockDevice, BlockDevice]]:
        """The pool's metadata and data, read-only; those of direct-lvm are opened by our own LVM."""
        with ExitStack() as stack:
            if self.mode == "loop-lvm":
                files = [self.docker / "devicemapper/devicemapper" / half for half in ("metadata", "data")]
                metadata, data = (stack.enter_context(FileDevice(file, read_only=True)) for file in files)
                yield metadata, data
            else:
                found = scan([str(self.disk)])
                stack.callback(found.close)
                (group,) = found.named("docker")
                yield (
                    open_lv(group, "thinpool_tmeta", read_only=True),
                    open_lv(group, "thinpool_tdata", read_only=True),
                )

    @contextmanager
    def pool(self) -> Iterator[Pool]:
        """The pool in the user engine, read-only."""
        with self.halves() as (metadata, data), Pool.open(metadata, data, read_only=True) as pool:
            yield pool

    def copied(self, folder: Path) -> tuple[Path, Path]:
        """Writable copies of the pool's metadata and data, as files in *folder*."""
        with self.halves() as halves:
            made = []
            for name, half in zip(("metadata", "data"), halves, strict=True):
                copy_sparse(half, folder / name)
                made.append(folder / name)
        return made[0], made[1]

    def text(self, name: str) -> str:
        """The content of one of the store's text files."""
        return (self.folder / name).read_text()

    @property
    def devices(self) -> list[int]:
        """The ids of the thin devices."""
        return sorted(int(path.stem) for path in (self.folder / "truth").glob("*.sha256"))

    @property
    def file_systems(self) -> list[int]:
        """The devices with a file system; Docker discards the content of one that it cannot delete yet."""
        return sorted(int(path.name.split(".")[0]) for path in (self.folder / "truth").glob("*.jsonl"))

    def digest(self, device: int) -> str:
        """The digest of a device's content, as the kernel read it."""
        return self.text(f"truth/{device}.sha256").strip()

    def size(self, device: int) -> int:
        """A device's size in bytes."""
        return int(self._status(device)[1]) * 512

    def usage(self, device: int) -> str:
        """The mapped sectors and the highest mapped sector of a device, from the kernel's status line."""
        return " ".join(self._status(device)[3:])

    def name(self, device: int) -> str:
        """Docker's name for a device; "" if it has none."""
        return self.text(f"truth/{device}.blkid").rpartition("name=")[2].strip()

    def device_name(self, container: str) -> str:
        """Docker's name for the device of the container with that full id."""
        return (self.docker / f"image/devicemapper/layerdb/mounts/{container}/mount-id").read_text()

    def _status(self, device: int) -> list[str]:
        return re.findall(r"^0 \d+ thin .*$", self.text(f"truth/{device}.blkid"), re.MULTILINE)[0].split()

    def uuid(self, device: int) -> str:
        """The UUID of the file system in a device."""
        return re.findall(r' UUID="([^"]*)"', self.text(f"truth/{device}.blkid"))[0]

    def manifest(self, device: int) -> dict[str, dict[str, Any]]:
        """The attributes and digest of each file by path, recorded while the device was mounted."""
        lines = self.text(f"truth/{device}.manifest.jsonl").splitlines()
        return {row.pop("path"): row for row in map(json.loads, lines)}

    @property
    def status(self) -> str:
        """The kernel's status line of the pool, just after its activation."""
        return self.text("truth/pool.txt").split(" thin-pool ")[1].rstrip("\n")


def copy_sparse(device: BlockDevice, path: Path) -> None:
    """Copy *device* to a sparse file."""
    with FileDevice.create(path, device.size) as target:
        for offset, length in device.data_ranges():
            for at in range(offset, offset + length, 1 << 20):
                target.write(at, device.read(at, min(1 << 20, offset + length - at)))


@pytest.fixture(scope="session")
def docker_store(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str, str, str], DockerStore]]:
    """``docker_store("loop-lvm", "ext4", "clean")`` gives a store, made in a guest if it is not in the cache.

    Where no guest can be had the test skips and says what is missing. What was unpacked goes at the end.
    """
    given: dict[str, DockerStore] = {}
    place = tmp_path_factory.mktemp("docker-stores")

    def get(mode: str, fs: str, state: str) -> DockerStore:
        from tests.conftest import missing

        name = f"{mode}-{fs}-{state}"
        if name not in given:
            try:
                folder = store(mode, fs, state)
            except roots.NotMade as error:
                missing(f"a guest to run Docker in ({error})")
            except FileNotFoundError as error:
                if error.filename not in NEEDED:
                    raise
                missing(f"{error.filename}, which is needed to run Docker in a guest,")
            given[name] = DockerStore(folder, mode, fs, state, place / name)
        return given[name]

    yield get
    shutil.rmtree(place, ignore_errors=True)  # pytest keeps it where a test failed


def allow_time(items: list[pytest.Item]) -> None:
    """Raise the time limit of tests that use a store: the first has to wait until it is made."""
    for item in items:
        if "docker_store" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
