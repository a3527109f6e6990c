# SPDX-License-Identifier: Apache-2.0
"""A pool used in turn by the user engine and the kernel: the same content and tables."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.thin.engine.pool import Pool, PoolOptions
from tests.guest.machine import ROUNDS, dmsetup, run, thin_device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

SECTOR = 512
VOLUME_SIZE = 8 << 20
DATA_SIZE = 24 << 20
METADATA_SIZE = 4 << 20


class Disks:
    """The two files of a pool, and the kernel's devices on them while it is active."""

    def __init__(self, folder: Path, chunk: int, options: PoolOptions) -> None:
        self.metadata, self.data = folder / "metadata", folder / "data"
        self.chunk, self.options = chunk, options
        with (
            FileDevice.create(self.metadata, METADATA_SIZE) as metadata,
            FileDevice.create(self.data, DATA_SIZE) as data,
            Pool.create(metadata, data, chunk_size=chunk, options=options),
        ):
            pass

    @contextlib.contextmanager
    def ours(self) -> Iterator[Pool]:
        with (
            FileDevice(self.metadata) as metadata,
            FileDevice(self.data) as data,
            Pool.open(metadata, data, options=self.options) as pool,
        ):
            yield pool

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        loops = [run("losetup", "-f", "--show", str(path)).strip() for path in (self.metadata, self.data)]
        flags = [] if self.options.zero else ["skip_block_zeroing"]
        table = (
            f"0 {DATA_SIZE // SECTOR} thin-pool {loops[0]} {loops[1]} {self.chunk // SECTOR} 0 "
            f"{len(flags)} {' '.join(flags)}"
        )
        try:
            dmsetup("create", "judge", "--table", table)
            yield
        finally:
            dmsetup("remove", "--retry", "judge")
            for loop in loops:
                run("losetup", "-d", loop)

    def kernels_volume(self, number: int, size: int = VOLUME_SIZE) -> AbstractContextManager[str]:
        return thin_device("judge", f"judge-{number}", number, size)


def digest_of_kernels(path: str) -> str:
    with open(path, "rb") as device:
        return hashlib.file_digest(device, "sha256").hexdigest()


def digest(content: bytearray) -> str:
    return hashlib.sha256(content).hexdigest()


def changes(chooser: random.Random, count: int) -> Iterator[tuple[int, bytes]]:
    for _ in range(count):
        length = chooser.choice([512, 4096, 5120, 65536, 300 * 1024])
        yield chooser.randrange(0, (VOLUME_SIZE - length) // 512) * 512, chooser.randbytes(length)


@pytest.mark.parametrize("zero", [True, False], ids=["zeroing", "no-zeroing"])
def test_rounds(tmp_path: Path, zero: bool) -> None:
    """Each side writes, snapshots, discards and deletes in turn; the other reads the results."""
    chooser = random.Random(7)
    disks = Disks(tmp_path, 64 << 10, PoolOptions(zero=zero))
    model: dict[int, bytearray] = {1: bytearray(VOLUME_SIZE)}
    transaction = 0
    with disks.ours() as pool:
        pool.create_thin(1)
    number = 1
    for _ in range(ROUNDS):
        with disks.ours() as pool:
            assert pool.transaction_id == transaction
            origin = chooser.choice(list(model))
            number += 1
            pool.create_snap(number, origin)
            model[number] = bytearray(model[origin])
            with pool.open_volume(number, VOLUME_SIZE, zero_fresh=True) as volume:
                for offset, data in changes(chooser, 6):
                    volume.write(offset, data)
                    model[number][offset : offset + len(data)] = data
            pool.set_transaction_id(transaction, transaction + 1)
            transaction += 1
            pool.commit()
            ours = pool.status().line().split()
        with disks.kernels():
            assert run("dmsetup", "status", "judge").split(maxsplit=3)[3].split() == ours
            for device, content in model.items():
                with disks.kernels_volume(device) as path:
                    assert digest_of_kernels(path) == digest(content)
            origin = chooser.choice(list(model))
            number += 1
            run("dmsetup", "message", "judge", "0", f"create_snap {number} {origin}")
            model[number] = bytearray(model[origin])
            with disks.kernels_volume(number) as path:
                with open(path, "r+b", buffering=0) as device_file:
                    for offset, data in changes(chooser, 6):
                        if not zero and (offset % 65536 or len(data) % 65536):
                            # Without zeroing the kernel shows old bytes around a partial first write.
                            start, end = offset // 65536 * 65536, -(-(offset + len(data)) // 65536) * 65536
                            whole = model[number][start:end]
                            whole[offset - start : offset - start + len(data)] = data
                            offset, data = start, bytes(whole)
                        os.pwrite(device_file.fileno(), data, offset)
                        model[number][offset : offset + len(data)] = data
                    os.fsync(device_file.fileno())
                hole = chooser.randrange(0, VOLUME_SIZE >> 20) << 20
                run("blkdiscard", "-o", str(hole), "-l", str(1 << 20), path)
                model[number][hole : hole + (1 << 20)] = bytes(1 << 20)
            if len(model) > 4:
                gone = chooser.choice(list(model))
                run("dmsetup", "message", "judge", "0", f"delete {gone}")
                del model[gone]
            run("dmsetup", "message", "judge", "0", f"set_transaction_id {transaction} {transaction + 1}")
            transaction += 1
            kernels = run("dmsetup", "status", "judge").split(maxsplit=3)[3].split()
        run("thin_check", "-q", str(disks.metadata))
        with disks.ours() as pool:
            assert pool.status().line().split() == kernels
            for device, content in model.items():
                with pool.open_volume(device, VOLUME_SIZE, read_only=True) as volume:
                    assert hashlib.sha256(volume.read(0, VOLUME_SIZE)).hexdigest() == digest(content)
        run("thin_check", "-q", str(disks.metadata))


def test_status_and_table_lines_are_the_kernels(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 128 << 10, PoolOptions(zero=False))
    with disks.ours() as pool:
        pool.create_thin(5)
        with pool.open_volume(5, VOLUME_SIZE) as volume:
            volume.write(5 << 20, bytes(512 << 10))
            ours = volume.status_line().split()
        pool.reserve_metadata_snap()
        pool.commit()
        line = pool.status().line().split()
    with disks.kernels():
        assert run("dmsetup", "status", "judge").split(maxsplit=3)[3].split() == line
        with disks.kernels_volume(5):
            assert run("dmsetup", "status", "judge-5").split(maxsplit=3)[3].split() == ours
        run("dmsetup", "message", "judge", "0", "release_metadata_snap")
    with disks.ours() as pool:
        assert pool.metadata_snap is None


def test_a_full_pool_of_ours_is_full_to_the_kernel(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 64 << 10, PoolOptions())
    with disks.ours() as pool:
        for number in (1, 2, 3):
            pool.create_thin(number)
            with pool.open_volume(number, VOLUME_SIZE) as volume:
                volume.write(0, b"\x33" * VOLUME_SIZE)
        line = pool.status().line().split()
        assert f"{DATA_SIZE >> 16}/{DATA_SIZE >> 16}" in line
    with disks.kernels():
        shown = run("dmsetup", "status", "judge").split(maxsplit=3)[3].split()
        assert shown[2] == line[2]
        with disks.kernels_volume(3) as path:
            assert digest_of_kernels(path) == hashlib.sha256(b"\x33" * VOLUME_SIZE).hexdigest()
