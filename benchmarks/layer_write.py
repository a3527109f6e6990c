# SPDX-License-Identifier: Apache-2.0
"""One layer into ext4: ours beside `tar -x` onto a loop mount and `umoci unpack`, in one run.

    python benchmarks/layer_write.py [--tar LAYER.tar] [--runs 3] [--folder /dev/shm]

Without --tar, a layer of about 350 MB is packed from this machine's /usr. Every run ends with everything
written: ours with the device's flush, tar's with sync by umount, umoci's with sync of its file system.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.fs.ext4.make import make_ext4
from lamella.fs.kinds import of_kind

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 10 << 30
LIMIT = 350_000_000


def pack(target: Path) -> None:
    """A tar of this machine's own files, about as large as a Debian root file system."""
    total = 0
    with tarfile.open(target, "w") as tar:
        for name in ("share/zoneinfo", "share/doc", "share/man", "share/perl", "lib/python3", "bin", "lib"):
            start = Path("/usr") / name
            for path in sorted(start.rglob("*")) if start.is_dir() else ():
                if total > LIMIT:
                    return
                if path.is_symlink() or path.is_file() or path.is_dir():
                    tar.add(path, path.relative_to("/").as_posix(), recursive=False)
                    total += path.lstat().st_size


def ours(tar: Path, folder: Path) -> None:
    with FileDevice.create(folder / "ours.img", SIZE) as device:
        make_ext4(device)
        with tar.open("rb", buffering=0) as stream:
            of_kind("ext4").apply_layer(device, stream)
        device.flush()


def loop_mount(tar: Path, folder: Path) -> None:
    image, root = folder / "loop.img", folder / "mnt"
    with image.open("wb") as file:
        file.truncate(SIZE)
    root.mkdir(exist_ok=True)
    options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", options, str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(root)], check=True)
    try:
        subprocess.run(["tar", "-xpf", str(tar), "-C", str(root)], check=True)
    finally:
        subprocess.run(["umount", str(root)], check=True)


def umoci(layout: Path, folder: Path) -> None:
    subprocess.run(
        ["umoci", "unpack", "--image", f"{layout}:x", str(folder / "bundle")], check=True, capture_output=True
    )
    subprocess.run(["sync", "-f", str(folder / "bundle")], check=True)


def best(name: str, runs: int, folder: Path, job: Callable[[Path], None]) -> float:
    times = []
    for number in range(runs):
        place = folder / f"{name}-{number}"
        place.mkdir()
        start = time.perf_counter()
        job(place)
        times.append(time.perf_counter() - start)
        shutil.rmtree(place)
    middle = statistics.median(times)
    print(f"{name:28s} {middle:7.2f} s  (min {min(times):.2f}, max {max(times):.2f})", flush=True)
    return middle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tar", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    arguments = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        tar = arguments.tar
        if tar is None:
            tar = folder / "layer.tar"
            pack(tar)
        with tarfile.open(tar) as opened:
            entries = sum(1 for _ in opened)
        print(f"{entries} entries, {tar.stat().st_size / 1e6:.0f} MB")
        mine = best("lamella", arguments.runs, folder, lambda place: ours(tar, place))
        print(
            f"{'lamella, peak memory':28s} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:7d} MB"
        )
        if os.geteuid() == 0 and shutil.which("mke2fs"):
            other = best("tar -x onto a loop mount", arguments.runs, folder, lambda at: loop_mount(tar, at))
            print(f"{'  ratio to ours':28s} {other / mine:7.2f}")
        if shutil.which("umoci"):
            layout = folder / "oci"
            subprocess.run(["umoci", "init", "--layout", str(layout)], check=True)
            subprocess.run(["umoci", "new", "--image", f"{layout}:x"], check=True)
            add = ["umoci", "raw", "add-layer", "--image", f"{layout}:x", str(tar)]
            subprocess.run(add, check=True, capture_output=True)
            other = best("umoci unpack", arguments.runs, folder, lambda place: umoci(layout, place))
            print(f"{'  ratio to ours':28s} {other / mine:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
