#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""LVM commands beside LVM2's own, in one run: a volume group of many volumes, and one of many disks.

Needs root, loop devices and lvm2. Both sides run as separate programs on the same loop devices, with
``global/activation=0`` and without backups. Times are medians; memory is the peak of one run.

    benchmarks/lvm_reports.py [--volumes 5000] [--disks 64] [--runs 5]
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

from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.model import LogicalVolume
from lamella.lvm.format.segments import Area, StripedSegment
from lamella.lvm.operations.physical_volumes import PvOptions
from lamella.lvm.operations.volume_groups import create_group
from lamella.lvm.session.environment import Environment
from lamella.lvm.session.session import Session

MIB = 1 << 20
BACKUP = "backup{backup=0 archive=0}"


def make_group(name: str, devices: list[str], volumes: int) -> None:
    """A group on *devices* with *volumes* volumes of one extent, in one commit."""
    with Session(devices, Environment()) as session, session.creating(name):
        found = create_group(session, name, devices, None, PvOptions(metadata_size=64 * MIB))
        group = found.group
        pv = group.pvs[0]
        for number in range(volumes):
            lv = LogicalVolume(f"volume{number}", new_uuid(), creation_time=1700000000, creation_host="host")
            lv.segments = [StripedSegment("striped", 0, 1, mapped=[Area(pv, number)])]
            group.lvs[lv.name] = lv
        session.commit(found)


def loop_devices(folder: Path, count: int, size: int) -> list[str]:
    """Loop devices over new sparse files."""
    made = []
    for number in range(count):
        path = folder / f"{size}-{number}"
        with path.open("wb") as stream:
            stream.truncate(size)
        command = ["losetup", "-f", "--show", str(path)]
        made.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    return made


def run(command: list[str]) -> tuple[float, int]:
    """(seconds, peak memory in KiB) of one run."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _pid, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    said = process.stderr.read().decode() if process.stderr else ""
    if process.stderr:
        process.stderr.close()
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed: {said}")
    return seconds, usage.ru_maxrss


def theirs(words: list[str], devices: list[str]) -> list[str]:
    """The command line of LVM2."""
    accept = ",".join(f'"a|^{device}$|"' for device in devices)
    config = (
        f'global{{activation=0}} devices{{filter=[{accept},"r|.*|"] use_devicesfile=0 hints="none"}} {BACKUP}'
    )
    return ["lvm", words[0], "--config", config, *words[1:]]


def ours(words: list[str], devices: list[str]) -> list[str]:
    """Our command line."""
    program = shutil.which("lamella") or str(Path(sys.executable).with_name("lamella"))
    config = f"global{{activation=0}} {BACKUP}"
    return [program, words[0], "--config", config, "--devices", ",".join(devices), *words[1:]]


def compare(title: str, commands: list[list[str]], devices: list[str], runs: int) -> None:
    """Run *commands* in turn on both sides, and print the median of the first."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    memory = {"ours": 0, "theirs": 0}
    for words in commands:
        run(ours(words, devices))
    for _ in range(runs):
        for side, line in (("theirs", theirs), ("ours", ours)):
            for number, words in enumerate(commands):
                seconds, peak = run(line(words, devices))
                if number == 0:
                    times[side].append(seconds)
                    memory[side] = max(memory[side], peak)
    mine, other = (statistics.median(times[side]) for side in ("ours", "theirs"))
    print(
        f"{title:<32} LVM2 {other * 1000:7.0f} ms {memory['theirs'] / 1024:5.0f} MiB   "
        f"Lamella {mine * 1000:7.0f} ms {memory['ours'] / 1024:5.0f} MiB   {other / mine:5.2f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=5000)
    parser.add_argument("--disks", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("lvm"):
        raise SystemExit("this needs root and lvm2")
    os.environ["LVM_SUPPRESS_FD_WARNINGS"] = "1"
    loops: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        # An installed program has its modules compiled; let ours be so, wherever it runs from.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        try:
            big = loop_devices(Path(folder), 1, (options.volumes + 100) * 4 * MIB + 128 * MIB)
            loops += big
            make_group("many", big, options.volumes)
            print(f"{options.volumes} volumes:")
            compare("lvs", [["lvs"]], big, options.runs)
            compare(
                "lvs -a -o all (JSON)",
                [["lvs", "-a", "-o", "all", "--reportformat", "json"]],
                big,
                options.runs,
            )
            compare("vgs", [["vgs"]], big, options.runs)
            create = ["lvcreate", "-y", "-n", "extra", "-l", "1", "many"]
            remove = ["lvremove", "-y", "many/extra"]
            compare("lvcreate", [create, remove], big, options.runs)
            run(ours(create, big))
            compare("lvremove", [remove, create], big, options.runs)
            small = loop_devices(Path(folder), options.disks, 64 * MIB)
            loops += small
            with Session(small, Environment()) as session, session.creating("wide"):
                create_group(session, "wide", small)
            print(f"{options.disks} disks:")
            compare("pvs", [["pvs"]], small, options.runs)
            compare("vgs", [["vgs"]], small, options.runs)
        finally:
            for device in loops:
                subprocess.run(["losetup", "-d", device], check=False)


if __name__ == "__main__":
    main()
