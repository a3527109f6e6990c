#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The thin tools beside the installed ones, on metadata of one and four million mappings.

    python benchmarks/thin_tools.py [--runs 5] [--mappings 1000000 4000000] [--folder /var/tmp]

Makes the metadata with the real thin_restore, then runs ours and theirs in turns, each as its own process,
and prints medians of processor time (user + system) and wall time, with the ratio ours / theirs.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

OURS = "import sys; from lamella.cli.main import main; sys.exit(main(sys.argv[1:]))"


def write_xml(out: TextIO, mappings: int, devices: int, single: float, seed: int) -> None:
    """About *mappings* mappings in *devices* devices, half of them snapshots of others; *single* is the
    share of runs that are one block long."""
    source = random.Random(seed)
    data, made, bodies = 0, [], []
    for device in range(1, devices + 1):
        runs = []
        if made and source.random() < 0.5:
            for begin, place, length, when in source.choice(made):
                if source.random() < 0.7:
                    runs.append((begin, place, length, when))
                else:
                    runs.append((begin, data, length, device))
                    data += length
        else:
            begin = mapped = 0
            while mapped < mappings // devices:
                length = 1 if source.random() < single else source.randint(2, 64)
                runs.append((begin, data, length, device))
                data += length
                mapped += length
                begin += length + source.choice((0, 1, 7, 20))
        made.append(runs)
        bodies.append((device, runs))
    out.write(
        f'<superblock uuid="" time="{devices + 1}" transaction="1" flags="0" version="2" '
        f'data_block_size="128" nr_data_blocks="{data + 1000}">\n'
    )
    for device, runs in bodies:
        mapped = sum(run[2] for run in runs)
        out.write(
            f'<device dev_id="{device}" mapped_blocks="{mapped}" transaction="0" creation_time="0" '
            f'snap_time="{device}">\n'
        )
        out.writelines(
            f'<range_mapping origin_begin="{begin}" data_begin="{place}" length="{length}" time="{when}"/>\n'
            for begin, place, length, when in runs
        )
        out.write("</device>\n")
    out.write("</superblock>\n")


def make_metadata(folder: Path, mappings: int) -> Path:
    """A metadata file for *mappings* mappings, made by the real thin_restore."""
    text, path = folder / f"{mappings}.xml", folder / f"{mappings}.bin"
    with open(text, "w") as out:
        write_xml(out, mappings, devices=50, single=0.7, seed=mappings)
    with open(path, "wb") as out_file:
        out_file.truncate(max(mappings * 80, 16 << 20) // 4096 * 4096)
    subprocess.run(["thin_restore", "-i", text, "-o", path], check=True, stdout=subprocess.DEVNULL)
    text.unlink()
    return path


def measure(command: list[str]) -> tuple[float, float]:
    """Processor and wall seconds of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def compare(tool: str, path: Path, runs: int, output: Path | None = None) -> None:
    """Print one line for *tool* on *path*, writing to *output* if the tool does that."""
    arguments = [tool, str(path)] if output is None else [tool, "-i", str(path), "-o", str(output)]
    commands = {"ours": [sys.executable, "-c", OURS, *arguments], "theirs": arguments}
    results: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for turn in range(runs + 1):
        for who in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
            result = measure(commands[who])
            if turn:  # the first run of each only warms the page cache
                results[who].append(result)
    ours, theirs = (
        [statistics.median(column) for column in zip(*results[who], strict=True)]
        for who in ("ours", "theirs")
    )
    print(
        f"{tool:<12} {path.stem:>9} mappings   processor {ours[0]:6.3f} / {theirs[0]:6.3f} s = "
        f"{ours[0] / theirs[0]:4.2f}   wall {ours[1]:6.3f} / {theirs[1]:6.3f} s = {ours[1] / theirs[1]:4.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mappings", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--folder", type=Path, default=None, help="where the metadata is made")
    args = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    tools = ("thin_check", "thin_dump", "thin_repair", "thin_restore")
    absent = [tool for tool in tools if not shutil.which(tool)]
    if absent:
        print(f"not installed: {', '.join(absent)} (Debian: thin-provisioning-tools)", file=sys.stderr)
        return 1
    version = subprocess.run(["thin_check", "-V"], capture_output=True, text=True).stdout.strip()
    print(f"ours / theirs (thin-provisioning-tools {version}), medians of {args.runs} runs in turns")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for mappings in args.mappings:
            path = make_metadata(Path(folder), mappings)
            for tool in ("thin_check", "thin_dump"):
                compare(tool, path, args.runs)
            output, text = path.with_suffix(".out"), path.with_suffix(".xml")
            with open(output, "wb") as made:
                made.truncate(path.stat().st_size)
            compare("thin_repair", path, args.runs, output)
            with open(text, "wb") as dumped:
                subprocess.run(["thin_dump", path], check=True, stdout=dumped)
            compare("thin_restore", text, args.runs, output)
            for used in (path, output, text):
                used.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
