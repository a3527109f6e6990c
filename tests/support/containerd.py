# SPDX-License-Identifier: Apache-2.0
"""A real containerd whose snapshots are Lamella's, and an image for it.

``Containerd(folder, programs)`` has its daemon and ours as processes; ``kill`` ends them at once, ``start``
starts those that do not run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.images import Sample, make_tar, write_docker_archive
from tests.support.stores import KERNEL

if TYPE_CHECKING:
    from collections.abc import Iterable

IMAGE = "docker.io/library/box:1"
COMMANDS = ("cat", "dd", "df", "echo", "ls", "mkdir", "rm", "sh", "sleep", "sync", "true")
CONFIG = """\
version = 3
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.nri.v1.nri",
]
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[proxy_plugins.lamella]
  type = "snapshot"
  address = "{folder}/store/run/containerd.sock"
[proxy_plugins.lamella-diff]
  type = "diff"
  address = "{folder}/store/run/containerd.sock"
[plugins."io.containerd.service.v1.diff-service"]
  default = {differs}
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux"
  snapshotter = "lamella"
  differ = "{differ}"
"""
SMALL = ("basesize=128M", "loopdatasize=8G", "loopmetadatasize=64M")


def box_image(path: Path, references: Iterable[str] = (IMAGE,)) -> Path:
    """An archive with a busybox in three layers: one changes a file of the one below, one removes one."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "the program busybox"
    members = [_member("bin/busybox", Path(busybox).read_bytes())]
    members += [_link(f"bin/{name}", "busybox") for name in COMMANDS]
    folders = dict.fromkeys(("bin/", "etc/", "proc/", "sys/", "dev/", "tmp/", "data/"))
    layers = [
        make_tar({**folders, "etc/hostname": b"first\n"}, members=members),
        make_tar({"etc/hostname": b"second\n", "data/large": b"x" * 3_000_000}),
        make_tar({"data/.wh.large": b"", "data/small": b"y" * 1000}),
    ]
    return write_docker_archive(path, [Sample(layers=layers, references=list(references))])


def _member(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mode, info.size, info.mtime = 0o755, len(content), 1_600_000_000
    return info, content


def _link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = tarfile.SYMTYPE, target, 1_600_000_000
    return info, b""


class Containerd:
    """containerd and our daemon below *folder*, whose path has to be short; *programs* is a folder with
    containerd, ctr and containerd-shim-runc-v2. With *ours* layers are unpacked by our differ."""

    def __init__(self, folder: Path, programs: Path, *, ours: bool = True) -> None:
        self.folder = folder
        self.store = folder / "store"
        self._programs = programs
        self._clients: set[subprocess.Popen[str]] = set()
        self._ours: subprocess.Popen[bytes] | None = None
        self._theirs: subprocess.Popen[bytes] | None = None
        differs, differ = (
            ('["lamella-diff", "walking"]', "lamella-diff") if ours else ('["walking"]', "walking")
        )
        (folder / "config.toml").write_text(CONFIG.format(folder=folder, differs=differs, differ=differ))
        self._environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "LAMELLA_ENGINE": "kernel" if KERNEL else "user",
        }
        options = [word for option in SMALL for word in ("--storage-opt", f"dm.{option}")]
        self.lamella("setup", "loop-lvm", *options)

    # -- the daemons -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start what does not run, and wait until it answers."""
        if self._ours is None:
            self._ours = self._spawn(
                "lamella.log",
                *(sys.executable, "-m", "lamella", "--root", self.store, "serve", "--containerd"),
                *("--content", self.folder / "root/io.containerd.content.v1.content"),
            )
            self._wait("lamella.log", self._ours, lambda: self._answers(self.store / "run/containerd.sock"))
        if self._theirs is None:
            self._theirs = self._spawn(
                "containerd.log", "containerd", "--config", self.folder / "config.toml"
            )
            self._wait("containerd.log", self._theirs, lambda: self.try_ctr("version").returncode == 0)

    def _spawn(self, log: str, *command: str | Path) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._environment
            )

    def _answers(self, socket: Path) -> bool:
        import socket as sockets

        with sockets.socket(sockets.AF_UNIX) as client:
            return client.connect_ex(str(socket)) == 0

    def _wait(self, log: str, process: subprocess.Popen[bytes], answers: object) -> None:
        from tests.support.daemon import wait_until

        assert callable(answers)
        wait_until(lambda: answers() or process.poll() is not None)
        assert process.poll() is None, (self.folder / log).read_text()[-4000:]

    def kill(self, *, ours: bool = True, theirs: bool = True) -> None:
        """Kill daemons, as a crash ends them."""
        for process in (self._ours if ours else None, self._theirs if theirs else None):
            if process is not None:
                process.kill()
                process.wait()
        if ours:
            self._ours = None
        if theirs:
            self._theirs = None

    def kill_clients(self) -> None:
        """Kill the ctr processes, which wait for a containerd that is gone."""
        for client in list(self._clients):
            client.kill()

    def stop(self) -> int:
        """Stop both; gives our exit code."""
        code = 0
        if self._theirs is not None:
            self._theirs.send_signal(signal.SIGTERM)
            self._theirs.wait()
        if self._ours is not None:
            self._ours.send_signal(signal.SIGTERM)
            code = self._ours.wait()
        self._ours = self._theirs = None
        return code

    def logs(self) -> str:
        """The end of both logs."""
        found = []
        for name in ("lamella.log", "containerd.log"):
            with suppress(FileNotFoundError):
                found.append(f"-- {name}\n{(self.folder / name).read_text()[-3000:]}")
        return "\n".join(found)

    # -- commands --------------------------------------------------------------------------------

    def lamella(self, *words: str | Path) -> str:
        """The output of one of our commands, which must succeed."""
        command = [sys.executable, "-m", "lamella", "--root", self.store, *words]
        done = subprocess.run(
            command,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def try_ctr(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run ctr, whatever comes of it."""
        command = [self._programs / "ctr", "-a", self.folder / "containerd.sock", *words]
        with subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as client:
            self._clients.add(client)
            try:
                out, errors = client.communicate()
            finally:
                self._clients.discard(client)
        return subprocess.CompletedProcess(command, client.returncode, out, errors)

    def ctr(self, *words: str | Path, out: Path | None = None) -> str:
        """The output of ctr, which must succeed; with *out* it is bytes, and in that file."""
        if out is not None:
            command = [self._programs / "ctr", "-a", self.folder / "containerd.sock", *words]
            with out.open("wb") as file:
                subprocess.run(command, env=self._environment, stdout=file, check=True)
            return ""
        done = self.try_ctr(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.logs()}"
        return done.stdout

    def run(self, name: str, *command: str, image: str = IMAGE) -> str:
        """What a container says that is made for one command, and removed after it."""
        return self.ctr("run", "--rm", "--snapshotter", "lamella", image, name, *command)

    def snapshots(self) -> list[list[str]]:
        """(key, parent, kind) of containerd's records, in the order of their keys."""
        lines = self.ctr("snapshots", "--snapshotter", "lamella", "ls").splitlines()[1:]
        return [
            [line.split()[0], line.split()[1] if len(line.split()) > 2 else "", line.split()[-1]]
            for line in lines
        ]

    def remove_all(self) -> None:
        """Remove whatever is there: tasks, containers, images, leases and snapshots; and let it collect."""
        for task in self.ctr("tasks", "ls", "-q").split():
            self.try_ctr("tasks", "kill", "-s", "SIGKILL", task)
            self.try_ctr("tasks", "rm", "-f", task)
        for container in self.ctr("containers", "ls", "-q").split():
            self.ctr("containers", "rm", container)
        for lease in self.ctr("leases", "ls", "-q").split():
            self.ctr("leases", "rm", lease)
        images = self.ctr("images", "ls", "-q").split()
        for image in images:
            self.ctr("images", "rm", "--sync", image)
        while found := self.snapshots():
            parents = {parent for _, parent, _ in found}
            leaves = [key for key, _, _ in found if key not in parents]
            for key in leaves:
                self.ctr("snapshots", "--snapshotter", "lamella", "rm", key)
        # An import makes containerd collect what nothing refers to.
        self.ctr("content", "prune", "references")

    def used(self) -> tuple[int, list[str]]:
        """Bytes of the pool's data in use, and the names of the rows of df."""
        import json

        rows = json.loads(self.lamella("df", "--json"))
        return rows[0]["space"], [f"{row['kind']} {row['name']}" for row in rows[1:]]
