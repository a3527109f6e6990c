# SPDX-License-Identifier: Apache-2.0
"""Device-mapper by raw ioctls, by libdevmapper through ctypes, and by a forked dmsetup, in one run.

Run as root where device-mapper is, with an empty disk or file:  python3 benchmarks/dm_interface.py DISK
Nothing of DISK is kept. Each operation is done by the three in turn, ROUNDS times; the median counts.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.nodes import QUIET_COOKIE
from lamella.devicemapper.table import Linear, Thin, ThinPool
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from collections.abc import Callable

POOL = "lamella-bench-pool"
PARTS = {"lamella-bench-meta": (0, 8192), "lamella-bench-data": (8192, 131072)}
DEVICE = "lamella-bench"
# Numbers of enum in libdevmapper.h.
CREATE, RELOAD, REMOVE, RESUME, STATUS, TARGET_MSG = 0, 1, 2, 5, 10, 17
NO_DM_RULES_AND_MORE = 0x0001 | 0x0002 | 0x0004 | 0x0008


class Way(Protocol):
    """One of the three."""

    name: str

    def make(self, name: str, table: list[tuple[int, int, str, str]]) -> None: ...
    def remove(self, name: str) -> None: ...
    def message(self, name: str, text: str) -> None: ...
    def status(self, name: str) -> str: ...


class Ioctls:
    """Our client."""

    name = "raw ioctls"

    def __init__(self) -> None:
        self.dm = DeviceMapper()

    def make(self, name: str, table: list[tuple[int, int, str, str]]) -> None:
        thin = [Thin(start, length, pool=text.split()[0], device_id=1) for start, length, _, text in table]
        self.dm.create_with_table(name, thin, cookie=QUIET_COOKIE)

    def remove(self, name: str) -> None:
        self.dm.remove(name, cookie=QUIET_COOKIE)

    def message(self, name: str, text: str) -> None:
        self.dm.message(name, text)

    def status(self, name: str) -> str:
        return self.dm.status(name, flush=False)[0].line


class Library:
    """libdevmapper, in this process."""

    name = "libdevmapper"

    def __init__(self) -> None:
        path = ctypes.util.find_library("devmapper") or "libdevmapper.so.1.02.1"
        self.lib = ctypes.CDLL(path)
        self.lib.dm_task_create.restype = ctypes.c_void_p
        self.lib.dm_get_next_target.restype = ctypes.c_void_p

    def _task(self, kind: int, name: str) -> Any:
        task = ctypes.c_void_p(self.lib.dm_task_create(kind))
        assert task
        assert self.lib.dm_task_set_name(task, name.encode())
        return task

    def _run(self, task: Any, *, cookie: bool = False) -> None:
        if cookie:  # flags only, as ours: nobody waits for udev
            value = ctypes.c_uint32(0)
            self.lib.dm_udev_set_sync_support(0)
            self.lib.dm_task_set_cookie(task, ctypes.byref(value), ctypes.c_uint16(NO_DM_RULES_AND_MORE))
        done = self.lib.dm_task_run(task)
        self.lib.dm_task_destroy(task)
        assert done

    def make(self, name: str, table: list[tuple[int, int, str, str]]) -> None:
        self._run(self._task(CREATE, name))
        task = self._task(RELOAD, name)
        for start, length, kind, text in table:
            self.lib.dm_task_add_target(
                task, ctypes.c_uint64(start), ctypes.c_uint64(length), kind.encode(), text.encode()
            )
        self._run(task)
        self._run(self._task(RESUME, name), cookie=True)

    def remove(self, name: str) -> None:
        self._run(self._task(REMOVE, name), cookie=True)

    def message(self, name: str, text: str) -> None:
        task = self._task(TARGET_MSG, name)
        self.lib.dm_task_set_sector(task, ctypes.c_uint64(0))
        self.lib.dm_task_set_message(task, text.encode())
        self._run(task)

    def status(self, name: str) -> str:
        task = self._task(STATUS, name)
        self.lib.dm_task_no_flush(task)
        assert self.lib.dm_task_run(task)
        start, length = ctypes.c_uint64(), ctypes.c_uint64()
        kind, text = ctypes.c_char_p(), ctypes.c_char_p()
        self.lib.dm_get_next_target(
            task, None, ctypes.byref(start), ctypes.byref(length), ctypes.byref(kind), ctypes.byref(text)
        )
        line = f"{start.value} {length.value} {(kind.value or b'').decode()} {(text.value or b'').decode()}"
        self.lib.dm_task_destroy(task)
        return line


class Forked:
    """A dmsetup process for each call, which does not wait for udev either."""

    name = "forked dmsetup"

    def __init__(self) -> None:
        self.program = shutil.which("dmsetup", path="/usr/sbin:/sbin:/usr/bin") or "dmsetup"

    def _run(self, *arguments: str) -> str:
        command = [self.program, "--noudevrules", "--noudevsync", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def make(self, name: str, table: list[tuple[int, int, str, str]]) -> None:
        text = "\n".join(f"{start} {length} {kind} {words}" for start, length, kind, words in table)
        self._run("create", name, "--table", text)

    def remove(self, name: str) -> None:
        self._run("remove", name)

    def message(self, name: str, text: str) -> None:
        self._run("message", name, "0", text)

    def status(self, name: str) -> str:
        return self._run("status", "--noflush", name).rstrip("\n")


def lay_out(dm: DeviceMapper, disk: str) -> str:
    """An empty pool with one thin device on *disk*; gives the pool's "major:minor"."""
    numbers = []
    for name, (start, length) in PARTS.items():
        table = [Linear(0, length, device=disk, offset=start)]
        numbers.append(dm.create_with_table(name, table, cookie=QUIET_COOKIE))
    with open(numbers[0].node, "r+b", buffering=0) as node:
        node.write(bytes(4096))
    pool = ThinPool(
        0, PARTS["lamella-bench-data"][1], metadata=numbers[0].number, data=numbers[1].number, chunk=128,
        features=("skip_block_zeroing",),
    )  # fmt: skip
    info = dm.create_with_table(POOL, [pool], cookie=QUIET_COOKIE)
    dm.message(POOL, "create_thin 1")
    return info.number


def take_down(dm: DeviceMapper) -> None:
    for name in (DEVICE, POOL, *PARTS):
        with suppress(LamellaError):
            dm.remove(name, cookie=QUIET_COOKIE, retry=5)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("disk", type=Path, help="a disk of at least 70 MiB, or a file made into one")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    loop = ""
    if not args.disk.is_block_device():
        with args.disk.open("ab") as file:
            file.truncate(max(file.tell(), 80 << 20))
        loop = subprocess.run(
            ["losetup", "--find", "--show", args.disk], check=True, capture_output=True, text=True
        ).stdout.strip()
    found = os.stat(loop or args.disk).st_rdev
    dm = DeviceMapper()
    times: dict[str, dict[str, list[float]]] = {}
    try:
        pool = lay_out(dm, f"{os.major(found)}:{os.minor(found)}")
        table = [(0, 65536, "thin", f"{pool} 1")]
        ways: list[Way] = [Ioctls(), Library(), Forked()]
        for round_ in range(args.rounds + 1):  # the first is for warming up
            for number, way in enumerate(ways):
                thin = 2 + round_ * len(ways) + number
                steps: dict[str, Callable[[], object]] = {
                    "create + load + resume": partial(way.make, DEVICE, table),
                    "remove": partial(way.remove, DEVICE),
                    "message (create_snap)": partial(way.message, POOL, f"create_snap {thin} 1"),
                    "message (delete)": partial(way.message, POOL, f"delete {thin}"),
                    "status": partial(way.status, POOL),
                }
                for step, act in steps.items():
                    started = time.perf_counter()
                    answer = act()
                    taken = time.perf_counter() - started
                    if round_:
                        times.setdefault(step, {}).setdefault(way.name, []).append(taken)
                assert " thin-pool " in str(answer)
    finally:
        take_down(dm)
        if loop:
            subprocess.run(["losetup", "--detach", loop], check=True)
    print(f"{'median of ' + str(args.rounds) + ', ms':<24}" + "".join(f"{way.name:>24}" for way in ways))
    for step, by_way in times.items():
        medians = [statistics.median(by_way[way.name]) * 1000 for way in ways]
        cells = [f"{medians[0]:24.2f}"]
        cells += [f"{median:15.2f} ({median / medians[0]:5.1f}x)" for median in medians[1:]]
        print(f"{step:<24}" + "".join(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
