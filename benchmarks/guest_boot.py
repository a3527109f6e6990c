# SPDX-License-Identifier: Apache-2.0
"""Boot one guest with four disks and run the benchmarks in it that want the kernel's device-mapper.

    python -m benchmarks.guest_boot [--rounds 10] [--load-rounds 1]       or: make benchmarks-guest

The Debian image is built here before (``tests/support/debian.py``). Under emulation everything is ten to
twenty times slower than on the machine itself: what counts are the ratios, of programs that ran in one boot.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from scripts import guest
from tests.support.debian import debian_image

DISK = 6 << 30


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="of snapshots")
    parser.add_argument("--load-rounds", type=int, default=1)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lamella-benchmarks-", dir="/var/tmp"))
    try:
        share = folder / "share"
        share.mkdir()
        disks = [folder / f"disk{number}" for number in range(4)]
        for disk in disks:
            with disk.open("wb") as file:
                file.truncate(DISK)
        shutil.copy(debian_image().docker_archive, share / "debian.tar")
        script = (
            # From the guest's own disk, compiled: the shared folder is slow to import from.
            "mkdir /root/p && cd /project && cp -r /share/packages src tests benchmarks /root/p && "
            "cd /root/p && export PYTHONPATH=/root/p/packages:/root/p/src:/root/p && "
            f"python3 -m benchmarks.guest_snapshots --rounds {args.rounds} && "
            f"python3 -m benchmarks.guest_load --rounds {args.load_rounds} /share/debian.tar\n"
        )
        code, output = guest.boot(script, share, disks, timeout=7200)
        print(output, end="")
        return code
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
