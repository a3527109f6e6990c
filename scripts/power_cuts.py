# SPDX-License-Identifier: Apache-2.0
"""Power cuts of a guest that changes a store.

    python -m scripts.power_cuts [--rounds 2] [--engines user,kernel] [--more 6]

Each round boots a guest, which goes on where the last cut left the disk, and kills QEMU at a random moment.
The disk is then what it was at the last flush, with about half of what was written after that; for *more*
earlier moments of the same round such disks are made too. Each is opened here, where there is no
device-mapper, by the user engine: everything that was reported as finished has to be there, the step in
between wholly or not at all, and nothing else. `lamella repair` frees what has leaked under the kernel.
Real thin_check and e2fsck look as well, and the store has to take the next steps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.guest import qemu
from scripts.guest.machine import DEFAULT_ROOT, Machine
from scripts.guest.roots import root
from scripts.write_log import WriteLog, copy_sparse
from tests.guest import power_cut
from tests.support.stores import assert_sound, assert_sound_for_real_tools, lvm_settings

from lamella.block import FileDevice, Part
from lamella.cli.main import main as main_lamella
from lamella.fs.entry import Kind
from lamella.fs.ext4.journal import recover_journal
from lamella.fs.ext4.reader import Reader
from lamella.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
PARTITIONS = ((1 * MIB, 1 * MIB), (2 * MIB, 126 * MIB), (128 * MIB, 1400 * MIB))
"""Start and length in bytes: for reports, for the store's folder, for its physical volume."""
DISK = 1536 * MIB


@dataclass(frozen=True)
class Cut:
    """A moment in a round: after *count* requests, with the steps before *done* reported as finished."""

    count: int
    done: int


def make_disk(path: Path) -> None:
    """An empty disk with an MBR of three partitions."""
    table = bytearray(512)
    for number, (start, length) in enumerate(PARTITIONS):
        entry = bytes(4) + b"\x83" + bytes(3) + (start // 512).to_bytes(4, "little")
        table[446 + 16 * number : 462 + 16 * number] = entry + (length // 512).to_bytes(4, "little")
    table[510:] = b"\x55\xaa"
    with path.open("wb") as file:
        file.truncate(DISK)
        file.write(table)


# -- a round in the guest ----------------------------------------------------------------------------


def cut_a_guest(disk: Path, log: Path, share: Path, engine: str, first: int, chooser: random.Random) -> None:
    """Boot, let it work on *disk* from step *first* on, and kill it; its requests are in *log*."""
    log.write_bytes(b"")
    progress = share / "progress"
    progress.unlink(missing_ok=True)
    guest = Machine(root(DEFAULT_ROOT), share)
    guest.write_script(f"LAMELLA_ENGINE={engine} exec python3 -B -m tests.guest.power_cut {first}\n")
    blocks = (
        f"driver=raw,node-name=disk,discard=unmap,file.driver=file,file.filename={disk}",
        f"driver=file,node-name=log,filename={log}",
        "driver=blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1",
    )
    more = [word for block in blocks for word in ("-blockdev", block)]
    more += ["-device", "virtio-blk-pci,drive=logged,addr=0x1e"]  # after the root on the bus, as in its name
    steps, begun = chooser.randrange(2, 6), time.monotonic()
    with (
        guest.folders() as folders,
        subprocess.Popen(qemu.command(guest.root, folders, more=more), stdin=subprocess.DEVNULL) as machine,
    ):
        try:
            while not progress.exists() or len(progress.read_text().split()) < steps:
                if machine.poll() is not None or time.monotonic() > begun + 600:
                    raise SystemExit(f"the guest did not get to work:\n{guest.printed()}")
                time.sleep(0.05)
            time.sleep(chooser.uniform(0, 3))  # anywhere in the next step
        finally:
            machine.kill()


def cuts(log: WriteLog, first: int) -> list[Cut]:
    """Every moment of the round from the first report on."""
    found = []
    done = -1
    for count, request in enumerate(log.requests, 1):
        if request.offset == PARTITIONS[0][0] and request.length == 4096:
            text = log.data(request)
            if text.startswith(power_cut.REPORT):
                done = json.loads(text[len(power_cut.REPORT) : text.index(b"\n")])["done"]
                assert done >= max(first, 0)
        if done >= 0:
            found.append(Cut(count, done))
    return found


# -- what is on the disk afterwards ------------------------------------------------------------------


@contextmanager
def unpacked(disk: Path, folder: Path) -> Iterator[Path]:
    """The store on *disk*, with its folder unpacked to the host and its physical volume as a plain file."""
    folder.mkdir()
    (_, _), (start, length), volume = PARTITIONS
    with FileDevice(disk) as device:
        part = Part(device, start, length)
        recover_journal(part)
        _unpack(Reader.open(part), b"root", folder / "root")
        with FileDevice.create(folder / "disk", volume[1]) as copy:
            there = Part(device, *volume)
            for offset, size in there.data_ranges():
                for at in range(offset, offset + size, 8 * MIB):
                    copy.write(at, there.read(at, min(8 * MIB, offset + size - at)))
    for name in ("devices", "direct-lvm.json", "config.toml"):
        path = folder / "root" / name
        if path.exists():
            path.write_text(path.read_text().replace(f"{power_cut.DISK}3", str(folder / "disk")))
    (folder / "settings").mkdir()
    try:
        with lvm_settings(folder / "settings"):
            yield folder / "root"
    finally:
        shutil.rmtree(folder)


def _unpack(reader: Reader, top: bytes, target: Path) -> None:
    for entry in reader.walk(top):
        path = target / os.fsdecode(entry.path.removeprefix(top).lstrip(b"/"))
        if entry.kind is Kind.DIRECTORY:
            path.mkdir(mode=entry.mode)
        elif entry.kind is Kind.FILE:
            path.write_bytes(b"".join(reader.read(entry.path)))


def found_in(store: Store) -> power_cut.State:
    """The store's images and containers, with the digest of each file that was put in."""
    state = power_cut.State()
    for image in store.images():
        state.images[f"docker.io/library/{image.references[0]}"] = _digests(store, image.id)
    for container in store.containers():
        state.containers[container.name] = _digests(store, container.name)
    return state


def _digests(store: Store, name: str) -> dict[str, str]:
    with store.tree(name) as tree:
        return {
            os.fsdecode(entry.path): hashlib.sha256(b"".join(tree.read(entry.path))).hexdigest()
            for entry in tree.walk()
            if entry.kind is Kind.FILE
        }


def repair_leaks(root: Path) -> int:
    """Free the chunks that the kernel had allocated but not mapped at the cut; gives their number.

    Its commits are sound, but they come between the two: no more than space is lost, until a repair. That is
    what our own commands have to find, and to do.
    """
    with Store.open(root, engine="user", read_only=True) as store:
        report = store.check()
    if report.problems:
        raise SystemExit(f"the pool is damaged: {report.problems[0]}")
    if not report.harmless:
        return 0
    for times in range(2):
        if main_lamella(["--root", str(root), "--engine", "user", "repair", "--yes"]):
            raise SystemExit(f"lamella repair failed, run {times + 1}")
    with Store.open(root, engine="user", read_only=True) as store:
        again = store.check()
    if again.problems or again.harmless or again.leaks:
        raise SystemExit(f"after lamella repair: {again.as_dict()}")
    assert report.leaks is not None
    return report.leaks.data_chunks


def judge(disk: Path, cut: Cut, folder: Path, *, may_leak: bool) -> int:
    """Open and compare the disk after a cut, and continue on it; gives the number of its steps."""
    with unpacked(disk, folder / "judged") as root:
        with Store.open(root, engine="user") as store:
            found = found_in(store)
        leaked = repair_leaks(root)
        if leaked:
            print(f"    {leaked} leaked chunks were freed", flush=True)
        done = next((done for done in (cut.done, cut.done + 1) if power_cut.state_after(done) == found), None)
        if leaked and not may_leak:
            raise SystemExit(f"after {cut}: {leaked} chunks have leaked")
        if done is None:
            wanted = power_cut.state_after(cut.done)
            raise SystemExit(
                f"after {cut}: images {_difference(wanted.images, found.images)}, containers "
                f"{_difference(wanted.containers, found.containers)}"
            )
        assert_sound(root)
        assert_sound_for_real_tools(root, folder)
        with Store.open(root, engine="user") as store:
            for number in (done, done + 1):
                power_cut.carry_out(store, number)
            assert found_in(store) == power_cut.state_after(done + 2)
        assert_sound(root)
    return done


def _difference(wanted: dict[str, dict[str, str]], found: dict[str, dict[str, str]]) -> str:
    lost, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    changed = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    return f"lost {lost}, unexpected {extra}, changed {changed}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("LAMELLA_ROUNDS", "2")))
    parser.add_argument("--engines", default="user,kernel", help="the guest's, in turn")
    parser.add_argument("--more", type=int, default=6, help="further moments of each round")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = random.randrange(1 << 32) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    chooser = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="lamella-power-cuts-", dir="/var/tmp"))
    disk, before, after, log = (folder / name for name in ("disk", "before", "after", "log"))
    share = folder / "share"
    share.mkdir()
    make_disk(disk)
    first, judged = -1, 0
    engines = (args.engines.split(",") * args.rounds)[: args.rounds]
    try:
        for number in range(args.rounds):
            engine = engines[number]
            copy_sparse(disk, before)
            cut_a_guest(disk, log, share, engine, first, chooser)
            written = WriteLog(log)
            moments = cuts(written, first)
            chosen = sorted(chooser.sample(moments[:-1], args.more), key=lambda cut: cut.count)
            done = first
            for cut in [*chosen, moments[-1]]:
                print(f"  {cut} of {len(moments)}", flush=True)
                unsure = written.disk_after(before, after, cut.count, chooser)
                done = judge(after, cut, folder, may_leak="kernel" in engines[: number + 1])
                judged += 1
            written.close()
            after.replace(disk)
            print(
                f"round {number + 1}, {engine} engine: {len(written.requests)} requests, cut after step "
                f"{cut.done} with {unsure} requests not flushed; {done} steps are there",
                flush=True,
            )
            first = done
    except BaseException:
        print(f"what was found is in {folder}: before, log, after", flush=True)
        raise
    shutil.rmtree(folder)
    print(f"{args.rounds} power cuts and {judged - args.rounds} further moments: nothing finished was lost")


if __name__ == "__main__":
    main()
