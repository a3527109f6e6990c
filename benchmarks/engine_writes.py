#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The user engine's writes: random first writes, the commit of many new mappings, sequential data.

    python benchmarks/engine_writes.py [--folder /var/tmp] [--mappings 1000000] [--sequential 400]

Random first writes of 4 KiB go to a pool of 64 KiB chunks in sparse files (--folder), one by one and in
batches of 1024; beside them the same bytes into a plain sparse file (``pwrite``: the floor), and into a
qcow2 image by ``qemu-io`` where it is installed. Then a commit of --mappings new mappings, its two flushes
measured by themselves in the same run. Then --sequential megabytes written and read through a volume,
beside the plain file. Each figure with its ratio to the floor.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import BlockDevice, FileDevice
from lamella.thin.engine.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

CHUNK = 64 << 10
BLOCK = 4096


class Counted(BlockDevice):
    """Nothing is kept: what mapping and allocating costs without the disk."""

    def __init__(self, size: int) -> None:
        self.name, self.size, self.read_only = "nothing", size, False

    def read(self, offset: int, length: int) -> bytes:
        return bytes(length)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        pass

    def write(self, offset: int, data: Buffer) -> None:
        pass

    def write_many(self, pieces: object) -> None:
        pass

    def flush(self) -> None:
        pass

    @property
    def discard_zeroes(self) -> bool:
        return True

    def discard(self, offset: int, length: int) -> None:
        pass

    def write_zeros(self, offset: int, length: int) -> None:
        pass


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def line(what: str, seconds: float, count: int, unit: str, floor: float | None = None) -> None:
    ratio = f"   {seconds / floor:6.2f} x the floor" if floor else ""
    print(f"{what:58} {seconds:8.3f} s {seconds / count * 1e6:9.2f} µs/{unit}{ratio}")


def order(count: int) -> list[int]:
    places = list(range(count))
    random.Random(1).shuffle(places)
    return places


def first_writes(folder: Path, count: int) -> None:
    places, block = order(count), b"x" * BLOCK
    plain = FileDevice.create(folder / "plain", count * CHUNK)

    def write_all(device: BlockDevice) -> None:
        for place in places:
            device.write(place * CHUNK, block)

    floor = timed(lambda: write_all(plain))
    line(f"{count} random first writes of 4 KiB: plain sparse file", floor, count, "write")
    flushed = timed(plain.flush)
    line("  its flush", flushed, count, "write")
    plain.close()
    for how in ("one by one", "in batches of 1024"):
        metadata = FileDevice.create(folder / f"metadata-{how[:2]}", 256 << 20)
        data = FileDevice.create(folder / f"data-{how[:2]}", (count + 1000) * CHUNK)
        pool = Pool.create(metadata, data, chunk_size=CHUNK)
        pool.create_thin(1)
        volume = pool.open_volume(1, count * CHUNK)

        def batches(target: BlockDevice = volume) -> None:
            for start in range(0, count, 1024):
                target.write_many([(place * CHUNK, block) for place in places[start : start + 1024]])

        def singly(target: BlockDevice = volume) -> None:
            write_all(target)

        seconds = timed(batches if "batch" in how else singly)
        line(f"  thin volume, {how}", seconds, count, "write", floor)
        line("  its commit", timed(pool.commit), count, "write", flushed)
        pool.close()
        metadata.close()
        data.close()
    if shutil.which("qemu-img") and shutil.which("qemu-io"):
        image = folder / "image.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", str(image), str(count * CHUNK)], check=True
        )
        some = places[: min(count, 20_000)]
        commands = "\n".join(f"write -q {place * CHUNK} {BLOCK}" for place in some) + "\nflush\nquit\n"
        seconds = timed(
            lambda: subprocess.run(
                ["qemu-io", "-f", "qcow2", "-t", "writeback", str(image)],
                input=commands, text=True, check=True, stdout=subprocess.DEVNULL,
            )
        )  # fmt: skip
        line(f"  qcow2 through qemu-io ({len(some)} of them)", seconds, len(some), "write")


def large_commit(folder: Path, count: int) -> None:
    metadata = FileDevice.create(folder / "metadata", 1 << 30)
    pool = Pool.create(metadata, Counted((count + 20_000) * CHUNK), chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, count * CHUNK)
    places, block = order(count), b"x" * BLOCK

    def one_by_one() -> None:
        for place in places:
            volume.write(place * CHUNK, block)

    line(f"{count} random first writes: mapping and allocating only", timed(one_by_one), count, "write")
    line(f"  commit of {count} new mappings", timed(pool.commit), count, "mapping")
    written = 12 * count

    def flushes() -> None:
        with open(folder / "flushed", "wb") as file:
            file.write(bytes(written))
            os.fdatasync(file.fileno())
            file.seek(0)
            file.write(bytes(4096))
            os.fdatasync(file.fileno())

    line(
        f"  of that: writing {written >> 20} MiB and two flushes, by themselves",
        timed(flushes),
        count,
        "mapping",
    )
    pool.create_snap(2, 1)
    pool.commit()
    for dirty in (0, 1, 10, 100, 1000, 10_000):
        for place in random.Random(dirty).sample(range(count), min(dirty, count)):
            volume.write(place * CHUNK, bytes(CHUNK))
        pool.set_transaction_id(pool.transaction_id, pool.transaction_id + 1)
        print(f"  commit after breaking {dirty:6} shared mappings {'':17} {timed(pool.commit) * 1e3:8.2f} ms")
    pool.close()
    again = Pool.open(metadata, Counted((count + 20_000) * CHUNK))
    root = again.mapping_root(1)
    line(f"  loading {count} mappings", timed(lambda: again.live.maps.read_range(root)), count, "mapping")
    metadata.close()


def sequential(folder: Path, megabytes: int) -> None:
    size, piece = megabytes << 20, os.urandom(1 << 20)

    def write_all(device: BlockDevice) -> None:
        for at in range(0, size, len(piece)):
            device.write(at, piece)
        device.flush()

    buffer = bytearray(1 << 20)

    def read_all(device: BlockDevice) -> None:
        for at in range(0, size, len(buffer)):
            device.read_into(at, buffer)

    plain = FileDevice.create(folder / "sequential", size)

    def read_best(device: BlockDevice) -> float:
        return min(timed(lambda: read_all(device)) for _ in range(3))

    floors = [timed(lambda: write_all(plain)), read_best(plain)]
    plain.close()
    (folder / "sequential").unlink()
    metadata = FileDevice.create(folder / "metadata-s", 64 << 20)
    data = FileDevice.create(folder / "data-s", 2 * size + (64 << 20))
    pool = Pool.create(metadata, data, chunk_size=CHUNK)
    pool.create_thin(1)
    volume = pool.open_volume(1, size)
    ours = [timed(lambda: write_all(volume)), read_best(volume)]
    pool.create_snap(2, 1)
    ours.append(timed(lambda: write_all(volume)))
    for what, seconds, floor in zip(
        ("written once", "read (best of 3)", "written over a snapshot"),
        ours,
        [*floors, floors[0]],
        strict=True,
    ):
        print(
            f"{megabytes} MiB {what:26} {megabytes / seconds:8.0f} MiB/s, plain file "
            f"{megabytes / floor:8.0f} MiB/s   {seconds / floor:6.2f} x the floor"
        )
    volume.close()
    pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--mappings", type=int, default=1_000_000)
    parser.add_argument("--writes", type=int, default=100_000)
    parser.add_argument("--sequential", type=int, default=400)
    options = parser.parse_args()
    for part in (
        lambda folder: first_writes(folder, options.writes),
        lambda folder: large_commit(folder, options.mappings),
        lambda folder: sequential(folder, options.sequential),
    ):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            part(Path(folder))


if __name__ == "__main__":
    main()
