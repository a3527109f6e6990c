# SPDX-License-Identifier: Apache-2.0
"""Pools of the same shape for the benchmarks in the guest, and the programs that work on them."""

from __future__ import annotations

import os
import re
import signal
import statistics
import string
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.store.pool_only import make_pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BASE_SIZE = 1 << 30
CHUNK = "64K"
METRICS = "127.0.0.1:10338"


def guest_disks(count: int) -> list[str]:
    """The first disks that the guest was given."""
    return [f"{os.environ['GUEST_DISKS']}{letter}" for letter in string.ascii_lowercase[1 : count + 1]]


def spread(values: Sequence[float]) -> str:
    """Median, least and most of durations, in ms."""
    low, high = min(values) * 1e3, max(values) * 1e3
    return f"{statistics.median(values) * 1e3:9.1f} ({low:.1f} to {high:.1f})"


def run(*command: object) -> str:
    """What a command prints. Its errors go to ours."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def shape(disk: str, group: str) -> list[str]:
    """The options with which every pool is made."""
    return [
        *(f"dm.directlvm_device={disk}", f"lamella.vg={group}", "lamella.pool=pool", f"dm.blocksize={CHUNK}"),
        *("dm.thinp_percent=90", "dm.thinp_metapercent=2"),
    ]


@contextmanager
def pool(disk: str, group: str, folder: Path) -> Iterator[str]:
    """An active pool on *disk* for as long as the block lasts; gives its device-mapper name."""
    name = make_pool(folder / f"made-{group}", storage_options=shape(disk, group))
    run("lvchange", "-ay", f"{group}/pool")
    try:
        yield name
    finally:
        run("vgremove", "-ff", "-y", group)
        run("pvremove", "-y", disk)


class Containerd:
    """containerd with its devmapper snapshotter on a pool."""

    def __init__(self, folder: Path, pool: str) -> None:
        folder.mkdir()
        self.log, self.socket = folder / "log", folder / "containerd.sock"
        self.config = folder / "config.toml"
        self.config.write_text(f"""version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "{self.socket}"
[debug]
level = "debug"
[metrics]
address = "{METRICS}"
grpc_histogram = true
[plugins."io.containerd.gc.v1.scheduler"]
deletion_threshold = 1
schedule_delay = "0s"
startup_delay = "0s"
[plugins."io.containerd.snapshotter.v1.devmapper"]
root_path = "{folder}/devmapper"
pool_name = "{pool}"
base_image_size = "{BASE_SIZE}"
fs_type = "ext4"
""")

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.log.open("w") as log:
            process = subprocess.Popen(["containerd", "--config", self.config], stdout=log, stderr=log)
        try:
            self.wait_for("containerd successfully booted")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def wait_for(self, *texts: str, start: int = 0, patience: float = 300) -> str:
        """The first line with all of *texts* in the log from byte *start* on."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with self.log.open() as log:
                log.seek(start)
                for line in log:
                    if line.endswith("\n") and all(text in line for text in texts):
                        return line
            time.sleep(0.02)
        raise TimeoutError(
            f"containerd has not logged {texts}; its log ends with:\n{self.log.read_text()[-2000:]}"
        )

    def ctr(self, *words: object) -> str:
        return run("ctr", "--address", self.socket, *words)

    def seconds_in(self, method: str) -> float:
        """All that its server has spent in a method of the snapshots' service, in seconds."""
        with urllib.request.urlopen(f"http://{METRICS}/v1/metrics") as answer:
            text = answer.read().decode()
        wanted = (
            rf'^grpc_server_handling_seconds_sum{{[^}}]*grpc_method="{method}"[^}}]*Snapshots[^}}]*}} (\S+)$'
        )
        return sum(float(found) for found in re.findall(wanted, text, re.MULTILINE))

    def collected(self, start: int) -> float:
        """Seconds that collecting removed snapshots took, as logged first after byte *start*."""
        line = self.wait_for("snapshot garbage collected", "snapshotter=devmapper", start=start)
        found = re.search(r'\bd="?([0-9.]+)(ns|µs|us|ms|s)', line)
        assert found, line
        return float(found[1]) * {"ns": 1e-9, "µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]

    def log_size(self) -> int:
        return os.path.getsize(self.log)


@contextmanager
def dockerd(folder: Path, options: Sequence[str]) -> Iterator[str]:
    """A dockerd with its devicemapper driver; gives its address."""
    import socket

    folder.mkdir()
    address, notify = f"unix://{folder}/docker.sock", folder / "notify"
    command = [
        *("dockerd", "--data-root", folder / "docker", "--exec-root", folder / "exec", "--host", address),
        *("--pidfile", folder / "pid", "--bridge=none", "--iptables=false", "--ip-masq=false"),
        *("--storage-driver=devicemapper", *(word for text in options for word in ("--storage-opt", text))),
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, (folder / "log").open("w") as log:
        ready.bind(os.fspath(notify))
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=log,
            stderr=log,
            env=os.environ | {"NOTIFY_SOCKET": str(notify)},
        )
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
