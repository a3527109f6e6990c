#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ten thousand snapshots of one 10 GiB volume, each with its own commit.

    python benchmarks/engine_snapshots.py [--folder /var/tmp] [--snapshots 10000] [--mapped 16384]

Two runs: snapshots of an unchanging volume, and of one that gets a 4 KiB write before each. Prints medians
of each tenth, so that growth would show, beside two ``fdatasync`` of as much data, taken in between in the
same folder: the disk's own part. Where ``qemu-img`` is installed its internal qcow2
snapshots are timed too (fewer: they cost more with each).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from lamella.block import FileDevice
from lamella.thin.engine.pool import Pool, PoolOptions

CHUNK = 64 << 10
SIZE = 10 << 30


class Flushes:
    """The disk's own part, measured in between: ten blocks written, flushed, one block written, flushed."""

    def __init__(self, folder: Path) -> None:
        self.descriptor = os.open(folder / "flushes", os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.descriptor, 64 << 20)
        self.number = 0

    def measure(self) -> float:
        self.number += 1
        begun = time.perf_counter()
        os.pwrite(self.descriptor, bytes(40960), 4096 + self.number * 40960 % (32 << 20))
        os.fdatasync(self.descriptor)
        os.pwrite(self.descriptor, bytes(4096), 0)
        os.fdatasync(self.descriptor)
        return time.perf_counter() - begun


def snapshots(folder: Path, count: int, mapped: int, *, writing: bool) -> None:
    metadata = FileDevice.create(folder / "metadata", 1 << 30)
    data = FileDevice.create(folder / "data", 2 * SIZE)
    pool = Pool.create(metadata, data, chunk_size=CHUNK, options=PoolOptions())
    pool.create_thin(0)
    volume = pool.open_volume(0, SIZE)
    places = random.Random(1).sample(range(SIZE // CHUNK), mapped)
    volume.write_many((place * CHUNK, b"x" * 512) for place in places)
    pool.commit()
    flushes = Flushes(folder)
    taken, busy, floors = [], [], []
    chance = random.Random(2)
    tenth = max(count // 10, 1)
    print(f"{count} snapshots of a 10 GiB volume, {'a write before each' if writing else 'nothing written'};")
    print("  medians in ms    wall   worst  processor  two flushes  over the flushes")
    for number in range(1, count + 1):
        begun, cpu = time.perf_counter(), time.process_time()
        if writing:
            volume.write(chance.choice(places) * CHUNK, b"y" * 4096)
        pool.create_snap(number, 0)
        pool.commit()
        taken.append(time.perf_counter() - begun)
        busy.append(time.process_time() - cpu)
        if number % 4 == 0:
            floors.append(flushes.measure())
        if number % tenth == 0:
            part, median = taken[-tenth:], statistics.median(taken[-tenth:])
            floor = statistics.median(floors[-tenth // 4 :])
            work = statistics.median(busy[-tenth:])
            print(
                f"  {number - tenth + 1:6} to {number:6} {median * 1e3:6.2f} {max(part) * 1e3:7.2f} "
                f"{work * 1e3:10.2f} {floor * 1e3:12.2f} {(median - floor) * 1e3:+17.2f}"
            )
    ratio = statistics.median(busy[-tenth:]) / statistics.median(busy[:tenth])
    whole = statistics.median(taken) / statistics.median(floors)
    print(f"  last tenth / first tenth, processor: {ratio:.2f};   wall / two flushes: {whole:.2f}")
    pool.close()
    begun = time.perf_counter()
    Pool.open(metadata, data, read_only=True)
    print(f"  opening the pool with its {count + 1} devices: {(time.perf_counter() - begun) * 1e3:.1f} ms")
    metadata.close()
    data.close()
    (folder / "metadata").unlink()
    (folder / "data").unlink()


def peer(folder: Path, count: int) -> None:
    if not shutil.which("qemu-img"):
        return
    image = str(folder / "image.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, str(SIZE)], check=True)
    subprocess.run(
        ["qemu-io", "-f", "qcow2", image, "-c", "write -q 0 256M"], check=True, stdout=subprocess.DEVNULL
    )
    begun = time.perf_counter()
    subprocess.run(["qemu-img", "info", image], check=True, stdout=subprocess.DEVNULL)
    start_up = time.perf_counter() - begun
    taken = []
    for number in range(count):
        begun = time.perf_counter()
        subprocess.run(["qemu-img", "snapshot", "-c", f"s{number}", image], check=True)
        taken.append(time.perf_counter() - begun - start_up)
    fifth = max(count // 5, 1)
    first, last = (statistics.median(part) * 1e3 for part in (taken[:fifth], taken[-fifth:]))
    print(
        f"qcow2 by qemu-img, less its start: {first:.2f} ms for the first {fifth} of {count}, "
        f"{last:.2f} ms for the last"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--snapshots", type=int, default=10_000)
    parser.add_argument("--mapped", type=int, default=16_384)
    parser.add_argument("--peer", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for writing in (False, True):
            snapshots(Path(folder), options.snapshots, options.mapped, writing=writing)
        peer(Path(folder), options.peer)


if __name__ == "__main__":
    main()
