#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decompressing and verifying a layer beside the usual tools.

    python benchmarks/decompress.py [--runs 5] [--size 200] [--layer layer.tar] [--folder /var/tmp]

Ours checks the blob's digest and the diff id while it decompresses; the peers are given the same to do
(``tee`` into ``sha256sum`` for the blob, ``sha256sum`` for the tar), and once only the decompression.
Without --layer a tar of SIZE megabytes is made from the running Python's own files. Prints medians of
processor time (user + system) and wall time, with the ratio ours / theirs.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

OURS = """
import sys
from lamella.images.content import PathPiece
from lamella.images.stream import LayerStream
buffer = memoryview(bytearray(1 << 18))
with LayerStream(PathPiece(sys.argv[1]), digest=sys.argv[2], diff_id=sys.argv[3]) as stream:
    while stream.readinto(buffer):
        pass
"""
ZLIB = """
import gzip, hashlib, sys
blob, hasher = hashlib.sha256(open(sys.argv[1], "rb").read()), hashlib.sha256()
with gzip.open(sys.argv[1]) as stream:
    while data := stream.read(1 << 20):
        hasher.update(data)
"""


def make_tar(path: Path, megabytes: int) -> None:
    """About *megabytes* of the standard library and the installed packages, several times if need be."""
    limit = megabytes * 1_000_000
    with tarfile.open(path, "w") as tar:
        for turn in range(100):
            for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("platlib")):
                for item in sorted(Path(folder).rglob("*")):
                    if item.is_file() and not item.is_symlink():
                        tar.add(item, f"{turn}{item}")
                    if tar.offset > limit:
                        return


def digest(path: Path) -> str:
    return (
        "sha256:"
        + subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    )


def measure(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of *command* and all that it starts."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=200, help="megabytes of the tar that is made")
    parser.add_argument("--layer", type=Path, help="an uncompressed tar to use instead")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tar = Path(folder) / "layer.tar"
        if options.layer:
            shutil.copyfile(options.layer, tar)
        else:
            make_tar(tar, options.size)
        size, diff_id = tar.stat().st_size / 1e6, digest(tar)
        print(f"{size:.0f} MB, {options.runs} runs in turns, on {os.cpu_count()} processors; medians")
        print(f"{'what':34} {'wall s':>8} {'cpu s':>8} {'MB/s':>6}   ours/theirs: wall   cpu")
        for kind, tool in (("gzip", "gzip"), ("zstd", "zstd")):
            if shutil.which(tool) is None:
                continue
            blob = Path(f"{tar}.{kind}")
            with blob.open("wb") as out:
                subprocess.run([tool, "-c", tar], stdout=out, check=True)
            compare(kind, tool, blob, diff_id, size, options.runs)


def compare(kind: str, tool: str, blob: Path, diff_id: str, size: float, runs: int) -> None:
    verified = f"{tool} -dc < {blob} | sha256sum & sha256sum {blob}; wait"
    commands = {
        f"ours, {kind}": [sys.executable, "-c", OURS, str(blob), digest(blob), diff_id],
        f"{tool} -dc, both digests": ["sh", "-c", verified],
        f"{tool} -dc alone": ["sh", "-c", f"{tool} -dc < {blob}"],
    }
    if kind == "gzip":
        commands["Python's gzip, both digests"] = [sys.executable, "-c", ZLIB, str(blob)]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(measure(command))
    results = {
        name: (statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found))
        for name, found in times.items()
    }
    ours = results[f"ours, {kind}"]
    for name, (wall, cpu) in results.items():
        print(
            f"{name:34} {wall:8.3f} {cpu:8.3f} {size / wall:6.0f}   "
            f"{'':12} {ours[0] / wall:5.2f} {ours[1] / cpu:5.2f}"
        )


if __name__ == "__main__":
    main()
