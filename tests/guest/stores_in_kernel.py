# SPDX-License-Identifier: Apache-2.0
"""A small store with the kernel engine, for the guest's tests of mounting and reconciliation."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lamella.block import loop, mountinfo
from lamella.devicemapper.client import DeviceMapper
from lamella.driver.active_devices import present
from lamella.driver.kernel_devices import of_store
from lamella.errors import LamellaError
from lamella.fs.mounted import mount as mounts
from lamella.store import Store
from tests.support.images import SAMPLE_LAYERS, Sample, write_oci_layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS = ("dm.basesize=64M", "dm.loopdatasize=256M", "dm.loopmetadatasize=4M", "dm.min_free_space=0%")


@contextmanager
def kernel_store(folder: Path) -> Iterator[Path]:
    """A loop-lvm store with the images "sample" and "alone"; deactivated afterwards."""
    root = folder / "root"
    alone = Sample(layers=SAMPLE_LAYERS[:1], references=["docker.io/library/alone:latest"])
    try:
        with Store.setup(root, storage_options=OPTIONS, engine="kernel") as store:
            store.load(write_oci_layout(folder / "layout", [Sample(), alone]))
        yield root
    finally:
        clear(root)


def clear(root: Path) -> None:
    """Deactivate all devices of the store, in any state."""
    points = mount_points(root) + [point for each in present(root).values() for point in each.points]
    for point in reversed(points):
        with suppress(LamellaError):
            mounts.unmount(point, lazy=True)
    with DeviceMapper() as dm:
        for _ in range(2):  # the pool goes after what stands on it
            for info in of_store(dm, root):
                with suppress(LamellaError):
                    if info.suspended:
                        dm.resume(info.name)
                    dm.remove(info.name)
    for name in ("data", "metadata"):
        with suppress(LamellaError):
            for attached in loop.find(root / "pool" / name):
                loop.detach(attached)


@contextmanager
def helper(program: str, *arguments: object, namespace: bool = False) -> Iterator[int]:
    """A process that runs *program*, a line of Python, and waits until the block ends; gives its id.

    *namespace*: in a mount namespace of its own, with copies of all that is mounted now.
    """
    whole = f"{program}\nprint('ready', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", f"import os, sys\n{whole}", *map(str, arguments)]
    before = ["unshare", "-m", "--propagation", "private"] if namespace else []
    process = subprocess.Popen([*before, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.communicate()


def mount_points(root: Path) -> list[str]:
    """The mount points in the store's folder."""
    return [line.point for line in mountinfo.mounts() if line.point.startswith(f"{root}/")]


def names_in_kernel(root: Path) -> set[str]:
    """The store's devices, by the ends of their names."""
    with DeviceMapper() as dm:
        return {info.name.rpartition("-")[2] for info in of_store(dm, root)}


def wait_until_gone(root: Path, name: str) -> None:
    """Wait until the kernel has removed a device, some moments after its last user closed it."""
    end = time.monotonic() + 60
    while name in names_in_kernel(root):
        assert time.monotonic() < end, f"{name} is still there"
        time.sleep(0.02)


def write(path: Path, data: bytes) -> None:
    """Write a file and sync it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
