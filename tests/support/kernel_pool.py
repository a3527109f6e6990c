# SPDX-License-Identifier: Apache-2.0
"""A small thin pool active in the kernel, for tests of the kernel engine without a store. Needs the guest."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.block.loop import attach
from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.nodes import QUIET_COOKIE
from lamella.devicemapper.table import ThinPool
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.kernel.pool import KernelPool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 64 << 10
OLD = 0xEE
"""The byte that fills the data device."""


@contextmanager
def dirty_files(folder: Path, data_size: int = 24 << 20) -> Iterator[tuple[FileDevice, FileDevice]]:
    """Metadata of an empty pool, and data full of old bytes."""
    folder.mkdir()
    (folder / "data").write_bytes(bytes([OLD]) * data_size)
    with FileDevice.create(folder / "metadata", 4 << 20) as metadata, FileDevice(folder / "data") as data:
        Pool.create(metadata, data, chunk_size=CHUNK, options=PoolOptions(zero=False)).close()
        yield metadata, data


@contextmanager
def kernel_pool(folder: Path, name: str) -> Iterator[KernelPool]:
    """The pool of :func:`dirty_files`, active and without zeroing."""
    with dirty_files(folder):
        pass
    size = (folder / "data").stat().st_size // 512
    with DeviceMapper() as dm:
        with attach(folder / "metadata") as metadata, attach(folder / "data") as data:
            numbers = [f"{major}:{minor}" for major, minor in (metadata.device, data.device)]
            table = ThinPool(
                0, size, metadata=numbers[0], data=numbers[1], chunk=CHUNK // 512, low_water=0,
                features=("skip_block_zeroing",),
            )  # fmt: skip
            dm.create_with_table(name, [table], cookie=QUIET_COOKIE)
        pool = KernelPool(dm, name)
        try:
            yield pool
        finally:
            pool.close()
            for other, _, _ in dm.list():
                if other.startswith(f"{name}-"):
                    dm.remove(other, retry=5)
            dm.remove(name, retry=5)
