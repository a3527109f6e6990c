#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long the program takes to start, beside the programs that it replaces, in turns in one run.

benchmarks/start_up.py [--runs 20]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

LAMELLA = str(Path(sys.executable).with_name("lamella"))
COMMANDS = (
    [LAMELLA, "--version"],
    [LAMELLA, "--help"],
    [LAMELLA, "pvs", "--version"],
    [sys.executable, "-c", "pass"],
    ["lvm", "version"],
    ["umoci", "--version"],
    ["skopeo", "--version"],
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    commands = [command for command in COMMANDS if shutil.which(command[0], path=None)]
    times: dict[int, list[float]] = {number: [] for number in range(len(commands))}
    for _ in range(args.runs + 1):
        for number, command in enumerate(commands):
            begin = time.perf_counter()
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            times[number].append(time.perf_counter() - begin)
    ours = statistics.median(times[0][1:])
    for number, command in enumerate(commands):
        median = statistics.median(times[number][1:])
        name = " ".join([Path(command[0]).name, *command[1:]])
        print(f"{name:<28} {median * 1000:7.1f} ms   lamella --version / this: {ours / median:5.2f}")


if __name__ == "__main__":
    main()
