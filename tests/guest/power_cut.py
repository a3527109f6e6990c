# SPDX-License-Identifier: Apache-2.0
"""The guest's part of the power cut tests: change a store endlessly, and report each finished step.

    python3 -m tests.guest.power_cut FIRST-STEP

A first step of -1 means a fresh disk; the engine is that of LAMELLA_ENGINE. The disk has three partitions:
where a report is written, a file system for the store's folder, and its physical volume. A report is a write
without a flush, so that it makes nothing durable that was not. What the store holds after each step is
:func:`state_after`, which the host asks as well.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella.store import Store

DISK = "/dev/vdb"
ROOT = "/state/root"
REPORT = b"LAMELLA-REPORT "
SHARED_LAYER = 100
"""The number of the layer that all images have below their own."""


@dataclass
class State:
    """What is in the store: for images and containers the digest of each file that matters, by its path."""

    images: dict[str, dict[str, str]] = field(default_factory=dict)
    containers: dict[str, dict[str, str]] = field(default_factory=dict)


def content(number: int) -> dict[str, bytes]:
    """The files of layer *number*, which are always the same."""
    made = random.Random(number)
    files = {f"layer-{number}/file-{n}": made.randbytes(made.randrange(1, 30000)) for n in range(12)}
    files[f"layer-{number}/large"] = made.randbytes(1 << 20)
    return files


def layer(number: int) -> bytes:
    """A tar of :func:`content`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in content(number).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def copied(number: int) -> dict[str, bytes]:
    """The files that step *number* copies: over those of the copies before, with other contents and sizes."""
    made = random.Random(-number)
    names = [f"copied/file-{n}" for n in range(12)]
    files = {name: made.randbytes(made.randrange(1, 30000)) for name in made.sample(names, 8)}
    files["copied/large"] = made.randbytes(made.randrange(1 << 18, 1 << 20))
    return files


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def step(number: int) -> tuple[str, int]:
    """What step *number* does, "load", "create", "copy" or "remove", and to which image or container."""
    box = number - number % 8 + 2
    last = box - 8
    match number % 8:
        case 3:
            return "create", box
        case 4 | 5:
            return "copy", box
        case 6:
            return "copy", last if last > 0 else box
        case 7 if last > 0:
            return "remove", last
    return "load", number


def state_after(count: int) -> State:
    """What the store holds once the steps before step *count* are finished."""
    state = State()
    for number in range(count):
        action, which = step(number)
        image, box = f"docker.io/library/image-{which}:1", f"box-{which}"
        if action == "load":
            state.images[image] = digests(content(SHARED_LAYER) | content(which))
        elif action == "create":
            state.containers[box] = dict(state.images[image])
        elif action == "copy":
            state.containers[box] |= digests(copied(number))
        else:
            state.containers.pop(box, None)
    return state


def carry_out(store: Store, number: int) -> None:
    """Carry out step *number*."""
    action, which = step(number)
    if action == "load":
        from tests.support.images import Sample, write_docker_archive

        sample = Sample(
            layers=[layer(SHARED_LAYER), layer(which)], references=[f"docker.io/library/image-{which}:1"]
        )
        with tempfile.TemporaryDirectory() as folder:
            store.load(write_docker_archive(Path(folder) / "image.tar", [sample]))
    elif action == "create":
        store.create(f"image-{which}:1", name=f"box-{which}")
    elif action == "copy":
        with tempfile.TemporaryDirectory() as folder:
            for name, data in copied(number).items():
                path = Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
            store.copy_in(f"box-{which}", f"{folder}/.", b"/")
    else:
        store.remove_container(f"box-{which}", force=True)


def report(done: int) -> None:
    """Report that the steps before *done* are finished, to the disk without a flush and to the host."""
    page = mmap.mmap(-1, 4096)
    page.write(REPORT + json.dumps({"done": done}).encode() + b"\n")
    disk = os.open(f"{DISK}1", os.O_WRONLY | os.O_DIRECT)
    os.write(disk, page)
    os.close(disk)
    with open("/share/progress", "a") as file:
        file.write(f"{done}\n")


def options() -> list[str]:
    return [
        *(f"dm.directlvm_device={DISK}3", "dm.thinp_percent=85", "dm.thinp_metapercent=2"),
        *("dm.blocksize=64K", "dm.basesize=192M", "dm.min_free_space=0%"),
    ]


def main() -> None:
    from lamella.store import Store

    first = int(sys.argv[1])
    os.makedirs("/state", exist_ok=True)
    if first < 0:
        subprocess.run(["mkfs.ext4", "-q", f"{DISK}2"], check=True)
    subprocess.run(["mount", "-t", "ext4", f"{DISK}2", "/state"], check=True)
    if first < 0:
        store = Store.setup(ROOT, storage_options=options())
        first = 0
    else:
        if os.environ.get("LAMELLA_ENGINE") == "user":
            Store.deactivate(root=ROOT)  # what LVM's rules have activated at the boot
        store = Store.open(ROOT)
    with store:
        report(first)
        for number in range(first, 100_000):
            carry_out(store, number)
            report(number + 1)


if __name__ == "__main__":
    main()
