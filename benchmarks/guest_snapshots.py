# SPDX-License-Identifier: Apache-2.0
"""Preparing and removing a container's snapshot on the kernel's device-mapper: by us and by others.

    make benchmarks-guest        (runs it in the guest, with three disks)

To prepare is to make a snapshot of an image and to have its block device; to remove is to take the device
down and the snapshot out of the pool. All pools have the same shape, all images the same size, in one boot:

- Lamella, in one process
- ``dmsetup``, forked for each step as the drivers do, with and without its waiting for udev
- containerd's devmapper snapshotter: what its server measures, without ``ctr``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.guest_pools import BASE_SIZE, Containerd, guest_disks, pool, run, shape, spread
from tests.support.images import write_docker_archive

from lamella.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Times = dict[str, tuple[list[float], list[float]]]
"""Way to seconds of each preparation and each removal."""
NAMES = {
    "lamella": "lamella, in one process",
    "dmsetup": "dmsetup",
    "no udev": "dmsetup --noudevsync",
    "containerd": "containerd devmapper",
}


@contextmanager
def timing(into: list[float]) -> Iterator[None]:
    """Append the seconds that the block takes."""
    begun = time.perf_counter()
    yield
    into.append(time.perf_counter() - begun)


@contextmanager
def ours(disk: str, folder: Path, times: Times) -> Iterator[Callable[[int], None]]:
    """A whole store: the container is recorded as well, and each step is durable."""
    root = folder / "store"
    options = [*shape(disk, "ours"), f"dm.basesize={BASE_SIZE}", "dm.min_free_space=0%"]
    options.append("dm.blkdiscard=false")  # as with the others
    write_docker_archive(folder / "image.tar")
    with Store.setup(root, storage_options=options, engine="kernel") as store:
        image = store.load(folder / "image.tar")[0].id

        def once(number: int) -> None:
            with timing(times["lamella"][0]):
                made = store.create(image, name=f"box-{number}", activate=True)
            with timing(times["lamella"][1]):
                store.remove_container(made.name)

        yield once
        store.teardown(force=True)


@contextmanager
def forked(disk: str, folder: Path, times: Times) -> Iterator[Callable[[int], None]]:
    """The commands that containerd runs for each step."""
    with pool(disk, "forked", folder) as name:
        run("dmsetup", "message", name, "0", "create_thin 1")
        table = f"0 {BASE_SIZE // 512} thin /dev/mapper/{name} 2"

        def once(_: int) -> None:
            for way, flags in (("dmsetup", []), ("no udev", ["--noudevsync", "--noudevrules"])):
                with timing(times[way][0]):
                    run("dmsetup", "message", name, "0", "create_snap 2 1")
                    run("dmsetup", *flags, "create", "bench-forked", "--table", table)
                with timing(times[way][1]):
                    run("dmsetup", *flags, "remove", "--retry", "bench-forked")
                    run("dmsetup", "message", name, "0", "delete 2")

        yield once


@contextmanager
def containerd(disk: str, folder: Path, times: Times) -> Iterator[Callable[[int], None]]:
    """What its server has spent in Prepare; and in Remove with the collection that really removes."""
    snapshots = ("snapshots", "--snapshotter", "devmapper")
    with pool(disk, "containerd", folder) as name:
        server = Containerd(folder / "containerd", name)
        with server.running():
            server.ctr(*snapshots, "prepare", "fresh", "")
            server.ctr(*snapshots, "commit", "base", "fresh")
            server.ctr(*snapshots, "label", "base", "containerd.io/gc.root=yes")

            def once(number: int) -> None:
                before = server.seconds_in("Prepare")
                server.ctr(*snapshots, "prepare", f"key-{number}", "base")
                times["containerd"][0].append(server.seconds_in("Prepare") - before)
                before, start = server.seconds_in("Remove"), server.log_size()
                server.ctr(*snapshots, "rm", f"key-{number}")
                collected = server.collected(start)
                times["containerd"][1].append(server.seconds_in("Remove") - before + collected)

            yield once


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
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir="/var/tmp"))
    disks = guest_disks(3)
    times: Times = {name: ([], []) for name in NAMES}
    with ExitStack() as stack:
        ways = [
            stack.enter_context(way(disk, folder, times))
            for way, disk in zip((ours, forked, containerd), disks, strict=True)
        ]
        for number in range(args.rounds + 1):
            # In turn, so that whatever else the machine does falls on all; the first round warms up. What one
            # leaves to udev and to its own later work is not the next one's.
            for way in ways:
                run("udevadm", "settle")
                time.sleep(1)
                way(number)
            if number == 0:
                for prepared, removed in times.values():
                    prepared.clear()
                    removed.clear()
        tell(times, *NAMES)

    title = f"A container's snapshot, {args.rounds} rounds, median (least to most) in ms"
    print(f"{title}\n{'':<28}{'prepare':>28}{'remove':>28}{'both':>28}   ours: faster by")
    both = {name: [sum(pair) for pair in zip(*found, strict=True)] for name, found in times.items()}
    mine = statistics.median(both["lamella"])
    for name, shown in NAMES.items():
        factor = "" if name == "lamella" else f"{statistics.median(both[name]) / mine:6.1f}"
        row = "".join(f"{spread(found):>28}" for found in (*times[name], both[name]))
        print(f"{shown:<28}{row}   {factor}")


if __name__ == "__main__":
    main()
