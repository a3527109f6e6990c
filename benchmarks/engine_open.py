#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Opening a pool with ten thousand devices, in a fresh process.

    python benchmarks/engine_open.py [--folder /var/tmp] [--devices 10000] [--runs 7]

Times opening the pool, listing all devices, and opening and reading one volume; beside them thin_ls where
it is installed (it opens and lists), and the bare start of Python with numpy. Medians.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lamella.block import FileDevice
from lamella.thin.engine.pool import Pool

OURS = """
import sys, time
from lamella.block import FileDevice
from lamella.thin.engine.pool import Pool
begun = time.perf_counter()
pool = Pool.open(FileDevice(sys.argv[1]), FileDevice(sys.argv[2]))
opened = time.perf_counter()
pool.open_volume(5000, 10 << 30).read(0, 4096)
read = time.perf_counter()
count = len(pool.devices())
listed = time.perf_counter()
print(count, opened - begun, read - opened, listed - read)
"""


def make(paths: list[str], devices: int) -> None:
    """A pool of *devices* devices, each a snapshot with a chunk more than the one before."""
    with (
        FileDevice.create(paths[0], 2 << 30) as metadata,
        FileDevice.create(paths[1], 100 << 30) as data,
        Pool.create(metadata, data, chunk_size=64 << 10) as pool,
    ):
        pool.create_thin(0)
        volume = pool.open_volume(0, 10 << 30)
        for dev_id in range(1, devices):
            volume.write(dev_id * 7919 % 160_000 << 16, b"data")
            pool.create_snap(dev_id, 0)
            if dev_id % 500 == 0:
                pool.commit()
        volume.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        paths = [str(Path(folder, name)) for name in ("metadata", "data")]
        make(paths, options.devices)
        rows, whole, bare, peers = [], [], [], []
        for _ in range(options.runs):
            begun = time.perf_counter()
            out = subprocess.run(
                [sys.executable, "-c", OURS, *paths], check=True, capture_output=True, text=True
            ).stdout.split()
            whole.append(time.perf_counter() - begun)
            rows.append([float(number) for number in out])
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import numpy"], check=True)
            bare.append(time.perf_counter() - begun)
            if shutil.which("thin_ls"):
                begun = time.perf_counter()
                subprocess.run(["thin_ls", paths[0]], check=True, stdout=subprocess.DEVNULL)
                peers.append(time.perf_counter() - begun)
        opening, reading, listing = (statistics.median(row[i] for row in rows) * 1e3 for i in (1, 2, 3))
        print(f"a pool of {int(rows[0][0])} devices:")
        print(f"  opening it                  {opening:8.2f} ms")
        print(f"  first read of one volume    {reading:8.2f} ms")
        print(f"  listing all                 {listing:8.2f} ms")
        ours, start = statistics.median(whole), statistics.median(bare)
        print(f"  the whole process           {ours * 1e3:8.1f} ms, Python and numpy {start * 1e3:.1f} ms")
        if peers:
            theirs = statistics.median(peers)
            print(f"  thin_ls (opens and lists)   {theirs * 1e3:8.1f} ms, ours / theirs {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
