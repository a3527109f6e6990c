#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long commands take inside a daemon, through its control socket, beside the same commands alone.

benchmarks/control.py [--runs 20]

One small store twice, one of them with a daemon; the commands take turns. Beside them: Python's own start.
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

LAMELLA = str(Path(sys.executable).with_name("lamella"))
COMMANDS = ("ps", "images", "info")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lamella-") as folder:
        alone, served = Path(folder) / "alone", Path(folder) / "served"
        subprocess.run([LAMELLA, "--root", alone, "quickstart"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cp", "-a", "--sparse=always", alone, served], check=True)
        daemon = subprocess.Popen(
            [LAMELLA, "--root", served, "serve"], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if ": ready, " in line:
                break
        drain = subprocess.Popen(["cat"], stdin=daemon.stderr, stdout=subprocess.DEVNULL)
        try:
            measure(args.runs, alone, served)
        finally:
            daemon.terminate()
            daemon.wait()
            drain.wait()
        shutil.rmtree(served)


def measure(runs: int, alone: Path, served: Path) -> None:
    """Print the medians and the ratio of each command."""
    empty = timed([sys.executable, "-c", "pass"], runs)
    print(f"{'python -c pass':<16} {empty * 1000:7.1f} ms")
    for name in COMMANDS:
        here, there = [], []
        for _ in range(runs + 1):
            here.append(timed([LAMELLA, "--root", str(alone), name], 1))
            there.append(timed([LAMELLA, "--root", str(served), name], 1))
        one, other = statistics.median(here[1:]), statistics.median(there[1:])
        print(
            f"lamella {name:<8} alone {one * 1000:7.1f} ms   in the daemon {other * 1000:7.1f} ms"
            f"   alone / daemon: {one / other:5.2f}"
        )


def timed(command: list[str], runs: int) -> float:
    """The median of *runs* runs, in seconds."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    main()
