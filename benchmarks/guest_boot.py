# SPDX-License-Identifier: Apache-2.0
"""Boot one guest with four disks and run the benchmarks in it that want the kernel's device-mapper.

    python -m benchmarks.guest_boot [--rounds 10] [--load-rounds 1]       or: make benchmarks-guest
    python -m benchmarks.guest_boot --only load

The Debian image is built here before (``tests/support/debian.py``). The guest's disks are files of this
machine's disk. What counts are the ratios, of programs that ran in turn in one boot; the load of the machine
before and after is printed with them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import posixpath
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from scripts.guest.machine import boot
from tests.support.debian import debian_image

DISK = 6 << 30


def loadable_by_docker(source: Path, target: Path) -> None:
    """The image without its last layer, in which a folder becomes a file: Docker cannot load that."""
    with tarfile.open(source) as archive, tarfile.open(target, "w") as out:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        [manifest] = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        config["rootfs"]["diff_ids"].pop()
        del config["history"]
        written = json.dumps(config).encode()
        manifest["Config"] = f"{hashlib.sha256(written).hexdigest()}.json"
        manifest["Layers"].pop()
        add(manifest["Config"], written)
        for layer in manifest["Layers"]:
            member = archive.getmember(layer)
            if member.issym():
                member = archive.getmember(posixpath.normpath(posixpath.join(layer, "..", member.linkname)))
            add(layer, read(member.name))
        add("manifest.json", json.dumps([manifest]).encode())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="of snapshots")
    parser.add_argument("--load-rounds", type=int, default=5)
    parser.add_argument("--only", choices=["snapshots", "load"])
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lamella-benchmarks-", dir="/var/tmp"))
    try:
        share = folder / "share"
        share.mkdir()
        disks = [folder / f"disk{number}" for number in range(4)]
        for disk in disks:
            with disk.open("wb") as file:
                file.truncate(DISK)
        loadable_by_docker(debian_image().docker_archive, share / "debian.tar")
        commands = []
        if args.only != "load":
            commands.append(f"python3 -m benchmarks.guest_snapshots --rounds {args.rounds}")
        if args.only != "snapshots":
            commands.append(f"python3 -m benchmarks.guest_load --rounds {args.load_rounds} /share/debian.tar")
        script = (
            # From the guest's own disk, compiled: the shared folder is slow to import from.
            "mkdir /root/p && cd /project && cp -r /packages src tests benchmarks /root/p && "
            "cd /root/p && export PYTHONPATH=/root/p/packages:/root/p/src:/root/p && " + " && ".join(commands)
        )
        print(f"load of the machine: {_load()}; {os.cpu_count()} processors", flush=True)
        code, output = boot(script, share, disks, timeout=7200)
        print(output, end="")
        print(f"load of the machine at the end: {_load()}")
        return code
    finally:
        shutil.rmtree(folder)


def _load() -> str:
    """Averages of the last 1, 5 and 15 minutes, as uptime prints them."""
    return ", ".join(f"{value:.2f}" for value in os.getloadavg())


if __name__ == "__main__":
    sys.exit(main())
