# SPDX-License-Identifier: Apache-2.0
"""One layer into a device that the kernel has: written past the kernel's ext4, or through a mount of it.

    python benchmarks/guest_unpack.py [--tar LAYER.tar] [--runs 3] [--loop] [--folder /var/tmp]

The three ways take turns, in one run: libext2fs straight to the block device; a mount of that ext4 and
system calls; and the same for XFS. By default each unpacks into a fresh snapshot in a thin pool of the
kernel's, from creating the snapshot to the commit of the transaction (run it in the guest, as root).
``--loop`` takes loop devices over fresh files in its place, for a machine without device-mapper: there a run
ends with the device's flush. Without --tar, a layer of 3000 small files and three of 16 MiB is made.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import subprocess
import tarfile
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.fs.ext4.kind import Ext4
from lamella.fs.kinds import of_kind
from lamella.fs.mounted import detached
from lamella.fs.mounted.tree import DirectoryTree
from lamella.fs.tar.split import TarSplitWriter
from lamella.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.block import BlockDevice
    from lamella.fs.filesystem import FileSystem
    from lamella.fs.layer import ChangingTree, RemovalWatcher

SIZE = 1 << 30


class MountedExt4(Ext4):
    """ext4 by the kernel."""

    written_here = False

    @contextmanager
    def tree(self, device: BlockDevice, *, watcher: RemovalWatcher | None = None) -> Iterator[ChangingTree]:
        with (
            device.lent() as node,  # type: ignore[attr-defined]  # a device of the kernel's
            detached.mounted(node, "ext4") as root,
            DirectoryTree(root, "ext4", watcher=watcher) as tree,
        ):
            yield tree


class LoopDevice(FileDevice):
    """A loop device that may be mounted while it is open."""

    @contextmanager
    def lent(self) -> Iterator[str]:
        self.flush()
        yield self.path


WAYS: tuple[tuple[str, FileSystem], ...] = (
    ("ext4, libext2fs to the block device", Ext4()),
    ("ext4, mounted", MountedExt4()),
    ("xfs, mounted", of_kind("xfs")),
)


def make_layer(target: Path) -> None:
    """Many small files, in folders of forty, and a few large ones."""
    generator = random.Random(1)
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, size: int) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = size, 1_700_000_000
            tar.addfile(info, io.BytesIO(generator.randbytes(size)))

        for folder in range(75):
            info = tarfile.TarInfo(f"usr/share/folder-{folder}")
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
            for number in range(40):
                add(f"{info.name}/file-{number}", generator.randrange(16384))
        for number in range(3):
            add(f"usr/lib/large-{number}", 16 << 20)


def unpack(filesystem: FileSystem, device: BlockDevice, tar: Path) -> None:
    """As a store does it: with the record for putting the tar together again."""
    with tar.open("rb", buffering=0) as stream, TarSplitWriter(io.BytesIO()) as split:
        filesystem.apply_layer(device, stream, recorder=split)


@contextmanager
def on_loop(filesystem: FileSystem, tar: Path, folder: Path) -> Iterator[Callable[[], None]]:
    """The work on a fresh loop device, made before."""
    image = folder / "image"
    FileDevice.create(image, SIZE).close()
    command = ["losetup", "-f", "--show", str(image)]
    node = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        with LoopDevice(node, lock=False) as device:
            filesystem.make(device)
            device.flush()

            def work() -> None:
                unpack(filesystem, device, tar)
                device.flush()

            yield work
    finally:
        subprocess.run(["losetup", "-d", node], check=True)
        image.unlink()


@contextmanager
def on_pool(filesystem: FileSystem, tar: Path, folder: Path) -> Iterator[Callable[[], None]]:
    """The work in a store of the kernel's engine, made before."""
    options = [
        f"dm.fs={filesystem.kind}", f"dm.basesize={SIZE}", "dm.loopdatasize=2G", "dm.loopmetadatasize=16M",
        "dm.min_free_space=0%",
    ]  # fmt: skip
    with Store.setup(folder / "store", storage_options=options, engine="kernel") as store:
        devices = store.devices
        devices.__dict__["filesystem"] = filesystem

        def work() -> None:
            devices.add("f" * 64, "base", fill=lambda volume: unpack(filesystem, volume, tar))

        yield work
        store.teardown(force=True)


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    seconds: float
    own: float
    """Processor time of this process, in seconds."""
    machine: float
    """Processor time of the whole machine: much is done by the kernel's threads, but others count too."""
    written: float
    """MB written to loop devices."""


def measure(work: Callable[[], None]) -> Cost:
    """One run."""
    before = _counters()
    work()
    after = _counters()
    return Cost(*(late - early for early, late in zip(before, after, strict=True)))


def _counters() -> tuple[float, float, float, float]:
    user, nice, system, _, _, interrupts, soft = Path("/proc/stat").read_text().split()[1:8]
    busy = sum(map(int, (user, nice, system, interrupts, soft))) / os.sysconf("SC_CLK_TCK")
    lines = [line.split() for line in Path("/proc/diskstats").read_text().splitlines()]
    sectors = sum(int(fields[9]) for fields in lines if fields[2].startswith("loop"))
    return time.perf_counter(), time.process_time(), busy, sectors * 512 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tar", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="benchmark-") as name:
        folder = Path(name)
        tar = args.tar or folder / "layer.tar"
        if not args.tar:
            make_layer(tar)
        tar.read_bytes()  # into the page cache
        print(f"a layer of {os.path.getsize(tar) / 1e6:.0f} MB, {args.runs} runs each in turn, medians")
        found: dict[str, list[Cost]] = {shown: [] for shown, _ in WAYS}
        prepare = on_loop if args.loop else on_pool
        for _ in range(args.runs):
            for shown, filesystem in WAYS:
                with ExitStack() as stack:
                    work = stack.enter_context(prepare(filesystem, tar, folder))
                    os.sync()
                    found[shown].append(measure(work))
        for shown, results in found.items():
            whole, own, machine, written = (
                statistics.median(getattr(cost, field.name) for cost in results) for field in fields(Cost)
            )
            print(
                f"{shown:36} {whole:7.2f} s, processor {own:6.2f} s of its own, {machine:6.2f} s of all; "
                f"{written:6.1f} MB written"
            )


if __name__ == "__main__":
    main()
