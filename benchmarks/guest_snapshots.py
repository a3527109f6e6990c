# SPDX-License-Identifier: Apache-2.0
"""Preparing and removing a container's snapshot on the kernel's device-mapper: by us and by others.

    make benchmarks-guest        (runs it in the guest, with three disks)

To prepare is to make a snapshot of an image and to have its block device; to remove is to take the device
down and the snapshot out of the pool. All pools have the same shape, all images the same size, in one boot:

- Lamella: in one process, and as commands
- ``dmsetup``, forked for each step as the drivers do, with and without its waiting for udev
- containerd's devmapper snapshotter: what its server measures, without ``ctr``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.guest_pools import BASE_SIZE, Containerd, pool, run, shape
from tests.support.images import write_docker_archive

from lamella.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

Times = dict[str, tuple[list[float], list[float]]]
"""Way to seconds of each preparation and each removal."""
NAMES = {
    "lamella": "lamella, in one process",
    "command": "lamella commands",
    "dmsetup": "dmsetup",
    "no udev": "dmsetup --noudevsync",
    "containerd": "containerd devmapper",
}


@contextmanager
def timing(into: list[float] | None = None) -> Iterator[list[float]]:
    """Append the seconds that the block takes."""
    into = [] if into is None else into
    begun = time.perf_counter()
    yield into
    into.append(time.perf_counter() - begun)


def ours(disk: str, folder: Path, rounds: int, times: Times) -> None:
    """A whole store: the container is recorded as well, and each step is durable."""
    root = folder / "store"
    options = [*shape(disk, "ours"), f"dm.basesize={BASE_SIZE}", "dm.min_free_space=0%"]
    options.append("dm.blkdiscard=false")  # as with the others
    write_docker_archive(folder / "image.tar")
    with Store.setup(root, storage_options=options, engine="kernel") as store:
        image = store.load(folder / "image.tar")[0].id
        for number in range(rounds + 1):
            with timing() as prepare:
                made = store.create(image, name=f"box-{number}")
                store.activate([made.name])
            with timing() as remove:
                store.remove_container(made.name)
            if number:  # the first one reads what the others find in memory
                times["lamella"][0].extend(prepare)
                times["lamella"][1].extend(remove)
    lamella = (sys.executable, "-m", "lamella", "--root", root, "--engine", "kernel")
    for number in range(min(rounds, 5)):
        with timing(times["command"][0]):
            run(*lamella, "create", "--name", f"command-{number}", image)
            run(*lamella, "activate", f"command-{number}")
        with timing(times["command"][1]):
            run(*lamella, "rm", f"command-{number}")
    run(*lamella, "teardown", "--force")


def forked(pool_name: str, rounds: int, times: Times) -> None:
    """The commands that containerd runs for each step; the transaction id is Docker's addition."""
    run("dmsetup", "message", pool_name, "0", "create_thin 1")
    for number in range(2 * rounds):
        way = ("dmsetup", "no udev")[number % 2]
        flags = ["--noudevsync", "--noudevrules"] if number % 2 else []
        table = f"0 {BASE_SIZE // 512} thin /dev/mapper/{pool_name} 2"
        with timing(times[way][0]):
            run("dmsetup", "message", pool_name, "0", "create_snap 2 1")
            run("dmsetup", *flags, "create", "bench-forked", "--table", table)
        with timing(times[way][1]):
            run("dmsetup", *flags, "remove", "--retry", "bench-forked")
            run("dmsetup", "message", pool_name, "0", "delete 2")
    run("dmsetup", "message", pool_name, "0", "delete 1")


def containerd(pool_name: str, folder: Path, rounds: int, times: Times) -> None:
    """What its server has spent in Prepare; and in Remove with the collection that really removes."""
    server = Containerd(folder / "containerd", pool_name)
    snapshots = ("snapshots", "--snapshotter", "devmapper")
    with server.running():
        server.ctr(*snapshots, "prepare", "fresh", "")
        server.ctr(*snapshots, "commit", "base", "fresh")
        server.ctr(*snapshots, "label", "base", "containerd.io/gc.root=yes")
        for number in range(rounds):
            before = server.seconds_in("Prepare")
            server.ctr(*snapshots, "prepare", f"key-{number}", "base")
            times["containerd"][0].append(server.seconds_in("Prepare") - before)
            before, start = server.seconds_in("Remove"), server.log_size()
            server.ctr(*snapshots, "rm", f"key-{number}")
            collected = server.collected(start)
            times["containerd"][1].append(server.seconds_in("Remove") - before + collected)


def tell(times: Times, *names: str) -> None:
    """Each figure, as soon as it is there."""
    for name in names:
        for what, found in zip(("prepare", "remove"), times[name], strict=True):
            shown = ", ".join(f"{value * 1e3:.0f}" for value in found)
            print(f"{NAMES[name]}, {what}, ms: {shown}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--disks", default="/dev/vdb,/dev/vdc,/dev/vdd")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir="/var/tmp"))
    disks = args.disks.split(",")
    times: Times = {name: ([], []) for name in NAMES}
    ours(disks[0], folder, args.rounds, times)
    tell(times, "lamella", "command")
    with pool(disks[1], "forked", folder) as name:
        forked(name, args.rounds, times)
    tell(times, "dmsetup", "no udev")
    with pool(disks[2], "containerd", folder) as name:
        containerd(name, folder, args.rounds, times)
    tell(times, "containerd")

    title = f"A container's snapshot, medians of {args.rounds} in ms"
    print(f"{title:<54}  prepare   remove     both   ours: faster by")
    mine = [statistics.median(found) for found in times["lamella"]]
    for name, shown in NAMES.items():
        median = [statistics.median(found) for found in times[name]]
        factor = "" if name == "lamella" else f"{sum(median) / sum(mine):6.1f}"
        row = "".join(f"{value * 1e3:9.1f}" for value in (*median, sum(median)))
        print(f"{shown:<54}{row}   {factor}")


if __name__ == "__main__":
    main()
