#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The FUSE server's files below loop devices, beside a plain file and QEMU's FUSE export. Root only.

    python benchmarks/fuse.py [--folder /var/tmp] [--rounds 5] [--size 128] [--threads 6] [--only NAME]

Random reads and writes of 4 KiB, one and 32 at a time, and sequential ones of 1 MiB, on a loop device over a
file of --size megabytes that is written before, so that the page cache has all of it: what is measured is the
way, not the disk. Another process makes the load, by the kernel's asynchronous I/O with O_DIRECT. Each figure
with its ratio to the plain file's; each is the best of --rounds rounds.

 - plain file: a file of --folder below the loop device, through the page cache
 - plain file, direct I/O: past the page cache, and so limited by the disk
 - FUSE over file: the same file, through the server
 - FUSE over thin volume: a volume of the user engine whose pool is in files of --folder
 - qemu-storage-daemon: the same file, through its FUSE export, where it is installed
 - mfusepy: the same file, through a server in Python that calls libfuse by ctypes, where these are installed
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import mmap
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import FileDevice, loop
from lamella.services.fuse import FuseServer
from lamella.thin.engine.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.block import BlockDevice

CHUNK = 64 << 10
CASES = [
    ("random read 4 KiB, depth 1", "read", 4096, 1),
    ("random read 4 KiB, depth 32", "read", 4096, 32),
    ("random write 4 KiB, depth 1", "write", 4096, 1),
    ("random write 4 KiB, depth 32", "write", 4096, 32),
    ("sequential read 1 MiB, depth 1", "read", 1 << 20, 1),
    ("sequential read 1 MiB, depth 4", "read", 1 << 20, 4),
    ("sequential write 1 MiB, depth 1", "write", 1 << 20, 1),
    ("sequential write 1 MiB, depth 4", "write", 1 << 20, 4),
]


# -- the load: one process, the system calls of linux/aio_abi.h ------------------------------------


class ControlBlock(ctypes.Structure):
    """struct iocb."""

    _fields_ = (
        ("data", ctypes.c_uint64), ("key", ctypes.c_uint32), ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16), ("priority", ctypes.c_int16), ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64), ("length", ctypes.c_uint64), ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("event", ctypes.c_uint32),
    )  # fmt: skip


class Event(ctypes.Structure):
    """struct io_event."""

    _fields_ = (
        ("data", ctypes.c_uint64), ("block", ctypes.c_uint64), ("result", ctypes.c_int64),
        ("more", ctypes.c_int64),
    )  # fmt: skip


SETUP, SUBMIT, GET_EVENTS = (206, 209, 208) if platform.machine() == "x86_64" else (0, 2, 4)


def load(path: str, how: str, block: int, depth: int, seconds: float) -> dict[str, float]:
    """Keep *depth* requests open for some seconds; operations per second."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments: object) -> int:
        result = libc.syscall(*arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(result)

    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    size = os.lseek(descriptor, 0, os.SEEK_END)
    memory = mmap.mmap(-1, depth * block)
    memory.write(random.Random(2).randbytes(depth * block))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    context = ctypes.c_ulong(0)
    call(ctypes.c_long(SETUP), ctypes.c_long(depth), ctypes.byref(context))
    blocks = [
        ControlBlock(
            data=number, opcode=how == "write", descriptor=descriptor, length=block,
            buffer=address + number * block,
        )
        for number in range(depth)
    ]  # fmt: skip
    events = (Event * depth)()
    pointers = (ctypes.POINTER(ControlBlock) * depth)()
    places = list(range(0, size, block))
    if block < 1 << 20:
        random.Random(1).shuffle(places)
    at = done = 0
    ready = list(range(depth))
    begun = time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        for position, number in enumerate(ready):
            blocks[number].offset = places[at]
            at = (at + 1) % len(places)
            pointers[position] = ctypes.pointer(blocks[number])
        call(ctypes.c_long(SUBMIT), context, ctypes.c_long(len(ready)), pointers)
        count = call(ctypes.c_long(GET_EVENTS), context, ctypes.c_long(1), ctypes.c_long(depth), events, None)
        for event in events[:count]:
            if event.result != block:
                raise OSError(-event.result, f"{how} of {path}: {event.result}")
        ready = [event.data for event in events[:count]]
        done += count
    return {"rate": done / (now - begun)}


# -- what is loaded --------------------------------------------------------------------------------


def filled(device: BlockDevice) -> BlockDevice:
    piece = os.urandom(1 << 20)
    for offset in range(0, device.size, len(piece)):
        device.write(offset, piece)
    device.flush()
    return device


@contextmanager
def plain(folder: Path, size: int, _threads: int) -> Iterator[Path]:
    filled(FileDevice.create(folder / "plain", size)).close()
    yield folder / "plain"


@contextmanager
def fuse_over_file(folder: Path, size: int, threads: int) -> Iterator[Path]:
    with (
        FuseServer(folder / "mount", threads=threads) as server,
        FileDevice.create(folder / "file", size) as device,
    ):
        yield server.add("disk", filled(device))


@contextmanager
def fuse_over_thin(folder: Path, size: int, threads: int) -> Iterator[Path]:
    with (
        FileDevice.create(folder / "metadata", 64 << 20) as metadata,
        FileDevice.create(folder / "data", size + (64 << 20)) as data,
        FuseServer(folder / "mount", threads=threads) as server,
    ):
        pool = Pool.create(metadata, data, chunk_size=CHUNK)
        pool.create_thin(1)
        try:
            yield server.add("disk", filled(pool.open_volume(1, size)))
        finally:
            server.close()
            pool.close()


@contextmanager
def qemu(folder: Path, size: int, _threads: int) -> Iterator[Path]:
    filled(FileDevice.create(folder / "image", size)).close()
    point = folder / "export"
    point.touch()
    process = subprocess.Popen(
        [
            "qemu-storage-daemon",
            "--blockdev", f"driver=file,node-name=image,filename={folder / 'image'}",
            "--export", f"type=fuse,id=export,node-name=image,mountpoint={point},writable=on",
            "--pidfile", str(folder / "pid"),
        ]
    )  # fmt: skip
    try:
        while not (folder / "pid").exists():  # written when the export is there
            if process.poll() is not None:
                raise SystemExit("qemu-storage-daemon has ended")
            time.sleep(0.01)
        yield point
    finally:
        process.terminate()
        process.wait()


def mfusepy_server(file: str, point: str) -> None:
    """The same file by mfusepy, which calls libfuse by ctypes; in a process of its own."""
    import mfusepy

    class Files(mfusepy.Operations):  # type: ignore[misc]
        def __init__(self) -> None:
            self.file = os.open(file, os.O_RDWR)

        def getattr(self, path: str, *_: object) -> dict[str, int]:
            if path == "/":
                return {"st_mode": 0o040700, "st_nlink": 2}
            return {"st_mode": 0o100600, "st_nlink": 1, "st_size": os.fstat(self.file).st_size}

        def read(self, path: str, size: int, offset: int, *_: object) -> bytes:
            return os.pread(self.file, size, offset)

        def write(self, path: str, data: bytes, offset: int, *_: object) -> int:
            return os.pwrite(self.file, data, offset)

    mfusepy.FUSE(Files(), point, foreground=True, nothreads=False)


@contextmanager
def mfusepy_export(folder: Path, size: int, _threads: int) -> Iterator[Path]:
    filled(FileDevice.create(folder / "image", size)).close()
    point = folder / "point"
    point.mkdir()
    process = subprocess.Popen([sys.executable, __file__, "--mfusepy", str(folder / "image"), str(point)])
    try:
        while not os.path.ismount(point):
            if process.poll() is not None:
                raise SystemExit("the server by mfusepy has ended")
            time.sleep(0.01)
        yield point / "disk"
    finally:
        subprocess.run(["umount", point], check=True)
        process.wait()


WAYS = {
    "plain file": (plain, False),
    "plain file, direct I/O": (plain, True),
    "FUSE over file": (fuse_over_file, True),
    "FUSE over thin volume": (fuse_over_thin, True),
    "FUSE over thin volume, loop without direct I/O": (fuse_over_thin, False),
    "qemu-storage-daemon": (qemu, True),
    "mfusepy": (mfusepy_export, True),
}


def measure(path: Path, seconds: float, *, direct_io: bool) -> list[float]:
    rates = []
    with loop.attach(path, direct_io=direct_io) as device:
        info = loop.look(device.number)
        if info is None or info.direct_io != direct_io:
            raise SystemExit(f"the loop device does not do direct I/O as asked: {path}")
        for _, how, block, depth in CASES:
            done = subprocess.run(
                [sys.executable, __file__, "--load", device.path, how, str(block), str(depth), str(seconds)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            rates.append(json.loads(done.stdout)["rate"])
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=6)
    parser.add_argument("--only", choices=list(WAYS))
    parser.add_argument("--mfusepy", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        path, how, block, depth, seconds = options.load
        print(json.dumps(load(path, how, int(block), int(depth), float(seconds))))
        return
    if options.mfusepy:
        mfusepy_server(*options.mfusepy)
        return
    best: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, (way, direct_io) in WAYS.items():
            if options.only not in (None, name) and name != "plain file":
                continue
            if way in (qemu, mfusepy_export) and not (shutil.which(name) or importlib.util.find_spec(name)):
                print(f"{name} is not installed")
                continue
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
                path = stack.enter_context(way(folder, options.size << 20, options.threads))
                rates = measure(path, options.seconds, direct_io=direct_io)
            best[name] = [max(pair) for pair in zip(rates, best.get(name, rates), strict=True)]
    for name, rates in best.items():
        print(name)
        for (what, _, block, _), rate, floor in zip(CASES, rates, best["plain file"], strict=True):
            speed = f"{rate * block / (1 << 20):8.0f} MiB/s" if block >= 1 << 20 else f"{rate:8.0f} per s"
            print(f"  {what:34} {speed}   {rate / floor:5.2f} x the plain file")


if __name__ == "__main__":
    main()
