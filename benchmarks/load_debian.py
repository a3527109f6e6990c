# SPDX-License-Identifier: Apache-2.0
"""Loading a Debian image into a store, beside ``umoci unpack`` and ``tar -x`` onto a loop-mounted ext4.

    python benchmarks/load_debian.py [--rounds 5] [--folder DIR]

Each round runs all three, in turn, from the same OCI layout (the tar gets the layers uncompressed by
``gzip -dc``, in a pipe), and each is over when what it wrote is on the disk (``sync -f``). Printed are
medians, and the ratio of ours to the peer's in the same round. Needs root, umoci and mmdebstrap.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["PATH"] += ":/usr/sbin:/sbin"

from tests.support.debian import Built, debian_image

OURS = """
import sys
from lamella import Store
with Store.setup(sys.argv[1]) as store:
    store.load(sys.argv[2])
print(next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def lamella(built: Built, folder: Path) -> tuple[float, str]:
    """A whole process, from its start: set-up, load, commit."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", OURS, folder / "store", built.layout],
        check=True,
        capture_output=True,
        text=True,
    )
    subprocess.run(["sync", "-f", folder], check=True)
    return time.monotonic() - begun, f"{done.stdout.strip()} MiB at its peak"


def umoci(built: Built, folder: Path) -> tuple[float, str]:
    begun = time.monotonic()
    command = ["umoci", "unpack", "--image", f"{built.layout}:{built.tag}", folder / "bundle"]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run(["sync", "-f", folder], check=True)
    return time.monotonic() - begun, ""


def tar_on_ext4(built: Built, folder: Path) -> tuple[float, str]:
    """An image file of the same size as our base device; making the file system is not counted."""
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(10 << 30)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    layers = [built.blob(layer["digest"]) for layer in built.manifest()["layers"]]
    try:
        begun = time.monotonic()
        for layer in layers:
            # tar knows no whiteouts: it is spared the deletions.
            options = "--recursive-unlink --exclude='.wh.*' --xattrs --xattrs-include='*' --numeric-owner"
            command = f"gzip -dc '{layer}' | tar -x {options} -C '{mount}'"
            subprocess.run(command, shell=True, check=True)
        subprocess.run(["sync", "-f", mount], check=True)
    finally:
        subprocess.run(["umount", mount], check=True)
    return time.monotonic() - begun, ""


WAYS = {"lamella load": lamella, "umoci unpack": umoci, "tar -x on ext4": tar_on_ext4}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write (default: the temporary folder)"
    )
    args = parser.parse_args()
    built = debian_image()
    sizes = [built.blob(layer["digest"]).stat().st_size for layer in built.manifest()["layers"]]
    print(f"Debian, {len(sizes)} layers, {sum(sizes) / 1e6:.0f} MB compressed; {os.cpu_count()} processors")
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    notes = {}
    for _ in range(args.rounds):
        for name, way in WAYS.items():
            folder = Path(tempfile.mkdtemp(prefix="lamella-load-", dir=args.folder))
            try:
                took, notes[name] = way(built, folder)
            finally:
                shutil.rmtree(folder)
            times[name].append(took)
    for name, found in times.items():
        ratios = [ours / theirs for ours, theirs in zip(times["lamella load"], found, strict=True)]
        print(
            f"{name:<16} {statistics.median(found):6.2f} s ({min(found):.2f} to {max(found):.2f})"
            + ("" if name == "lamella load" else f"   ours / theirs: {statistics.median(ratios):.2f}")
            + (f"   {notes[name]}" if notes[name] else "")
        )


if __name__ == "__main__":
    main()
