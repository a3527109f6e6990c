#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reading a layer's tar stream beside Python's tarfile and GNU tar.

    python benchmarks/tar_parse.py [--runs 5] [--tar layer.tar] [--entries 19000] [--folder /var/tmp]

Without --tar an archive of about ENTRIES files is made from /usr. Every program reads the archive from the
page cache through a pipe-like stream (no seeking over payloads), as a layer comes out of a decompressor;
GNU tar is given a pipe so that it cannot seek either.
Medians of wall time in turns, with the ratio ours / theirs. Also: the same with a tar split recorded, and
putting the stream together again from it.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.fs.tar.read import read_tar
from lamella.fs.tar.split import TarSplitWriter, reassemble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def make_archive(path: Path, entries: int) -> None:
    """An archive of files from /usr with about *entries* entries and at most 400 MB."""
    names: list[str] = []
    total = 0
    for folder, _, files in os.walk("/usr"):
        names.append(folder)
        for name in files:
            size = os.lstat(os.path.join(folder, name)).st_size
            if size < 1 << 20 and total + size < 400_000_000:
                names.append(os.path.join(folder, name))
                total += size
        if len(names) >= entries:
            break
    command = ["tar", "-cf", str(path), "--format=gnu", "--no-recursion", "--null", "-T", "-"]
    subprocess.run(command, input="\0".join(names).encode(), check=True, stderr=subprocess.DEVNULL)


def ours(path: Path) -> int:
    count = 0
    with open(path, "rb", buffering=0) as file:
        for _, payload in read_tar(file):
            count += 1
            for _piece in payload.pieces():
                pass
    return count


def recorded(path: Path, split: io.BytesIO) -> int:
    count = 0
    with open(path, "rb", buffering=0) as file, TarSplitWriter(split) as recorder:
        for _, payload in read_tar(file, recorder=recorder):
            count += 1
            for _piece in payload.pieces():
                pass
    return count


def python_tarfile(path: Path) -> int:
    with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|") as archive:
        return sum(1 for _ in archive)


def through_a_pipe(command: list[str]) -> Callable[[Path], int]:
    def run(path: Path) -> int:
        with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as source:
            done = subprocess.run(command, stdin=source.stdout, stdout=subprocess.PIPE, check=True)
        return done.stdout.count(b"\n")

    return run


class Discard:
    """Takes bytes and forgets them."""

    def write(self, data: bytes) -> None:
        """Forget *data*."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tar", type=Path)
    parser.add_argument("--entries", type=int, default=19_000)
    parser.add_argument("--folder", default="/var/tmp")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = arguments.tar or Path(folder, "layer.tar")
        if arguments.tar is None:
            make_archive(path, arguments.entries)
        contents: dict[bytes, bytes] = {}
        with open(path, "rb") as file:
            contents = {entry.path: payload.read() for entry, payload in read_tar(file)}
        split = io.BytesIO()

        def record(archive: Path) -> int:
            split.seek(0)
            split.truncate()
            return recorded(archive, split)

        def assemble(archive: Path) -> int:
            def read(name: bytes, offset: int, length: int) -> Iterator[bytes]:
                yield contents[name][offset : offset + length]

            return reassemble(split, read, Discard())

        jobs: dict[str, Callable[[Path], int]] = {
            "ours": ours,
            "ours, with a tar split": record,
            "reassembled from it": assemble,
            "tarfile, streaming": python_tarfile,
            "cat | tar -t": through_a_pipe(["tar", "-t"]),
        }
        times: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(arguments.runs):
            for name, job in jobs.items():
                begun = time.perf_counter()
                job(path)
                times[name].append(time.perf_counter() - begun)
        size, kept = path.stat().st_size / 1e6, len(split.getvalue()) / 1e3
        print(f"{len(contents)} entries, {size:.0f} MB, tar split {kept:.0f} kB")
        base = statistics.median(times["ours"])
        for name, taken in times.items():
            median = statistics.median(taken)
            print(f"{name:<24} {median * 1000:8.0f} ms   ours / this {base / median:5.2f}")


if __name__ == "__main__":
    main()
