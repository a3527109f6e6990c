# SPDX-License-Identifier: Apache-2.0
"""Loading a Debian image onto the kernel's device-mapper: by us, by Docker and by containerd.

    make benchmarks-guest        (runs it in the guest, with four disks)

All pools have the same shape, and the archive lies on the guest's own disk. Each way is timed from the start
of its command to the end of a ``sync`` after it; daemons are running before. The user engine writes the same
disk without device-mapper.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.guest_pools import Containerd, dockerd, guest_disks, pool, run, shape

from lamella.store import Store

BASE_SIZE = 2 << 30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, help="a docker-archive")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir="/var/tmp"))
    image = shutil.copy(args.image, folder / "image.tar")
    disks = guest_disks(4)
    commands: dict[str, list[object]] = {}
    with ExitStack() as stack:
        for engine, disk in (("kernel", disks[0]), ("user", disks[1])):
            root = folder / f"store-{engine}"
            options = [*shape(disk, f"load-{engine}"), f"dm.basesize={BASE_SIZE}"]
            Store.setup(root, storage_options=options, engine=engine).close()
            lamella = [sys.executable, "-m", "lamella", "--quiet", "--root", root, "--engine", engine]
            commands[f"lamella load, {engine} engine"] = [*lamella, "load", "-i", image]
        name = stack.enter_context(pool(disks[2], "load-docker", folder))
        options = [f"dm.thinpooldev=/dev/mapper/{name}", "dm.fs=ext4", f"dm.basesize={BASE_SIZE}"]
        address = stack.enter_context(dockerd(folder / "docker", options))
        commands["docker load, devicemapper"] = ["docker", "--host", address, "load", "-q", "-i", image]
        name = stack.enter_context(pool(disks[3], "load-containerd", folder))
        server = Containerd(folder / "containerd", name)
        stack.enter_context(server.running())
        ctr = ["ctr", "--address", server.socket, "images", "import", "--snapshotter", "devmapper", image]
        commands["ctr images import, devmapper"] = ctr

        undo: dict[str, list[object]] = {}
        for shown, command in commands.items():
            if shown.startswith("lamella"):
                undo[shown] = [*command[:-3], "rmi", "--force", "debian"]
            elif shown.startswith("docker"):
                undo[shown] = [*command[:3], "rmi", "--force", "debian"]
            else:
                undo[shown] = [*command[:3], "images", "rm", "--sync", "docker.io/library/debian:latest"]

        times: dict[str, list[float]] = {shown: [] for shown in commands}
        for number in range(args.rounds):
            for shown, command in commands.items():
                if number:
                    run(*undo[shown])
                run("sync")
                begun = time.perf_counter()
                run(*command)
                run("sync")
                times[shown].append(time.perf_counter() - begun)
    size = Path(image).stat().st_size / 1e6
    print(f"Debian, {size:.0f} MB in layers, {args.rounds} rounds, median (least to most) in s")
    print(f"{'':<34}{'':>24}   kernel engine: faster by   user engine: faster by")
    ours = [statistics.median(times[f"lamella load, {engine} engine"]) for engine in ("kernel", "user")]
    for shown, found in times.items():
        median = statistics.median(found)
        row = f"{shown:<34}{median:8.2f} ({min(found):.2f} to {max(found):.2f})"
        factors = "" if shown.startswith("lamella") else "".join(f"{median / mine:>26.1f}" for mine in ours)
        print(f"{row:<58}{factors}")
    for engine in ("kernel", "user"):
        with Store.open(folder / f"store-{engine}", engine=engine) as store:
            store.teardown(force=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
