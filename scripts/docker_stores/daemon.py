# SPDX-License-Identifier: Apache-2.0
"""The guest's dockerd: start, stop, and kill with all processes that it has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from scripts.commands import run
from scripts.processes import running

ROOT = Path("/var/lib/docker")
RUN = Path("/run/docker-store")
LOG = Path("/var/tmp/dockerd.log")
TIMEOUT = 300.0
"""Seconds for dockerd to become ready, or to end; an emulated machine takes most of a minute."""


class Daemon:
    """A dockerd with the devicemapper driver and storage *options*; *debug* makes its log verbose."""

    def __init__(self, options: list[str], *, debug: bool = False) -> None:
        self.words = [word for option in options for word in ("--storage-opt", option)]
        if debug:
            self.words.append("--debug")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def line(self) -> str:
        """The command line, without the options that only the guest needs."""
        return " ".join(["dockerd", "--storage-driver=devicemapper", *self.words])

    @property
    def command(self) -> list[str]:
        """The whole command line."""
        return [
            *("dockerd", "--data-root", str(ROOT), "--exec-root", str(RUN / "exec")),
            *("--pidfile", str(RUN / "docker.pid"), "--host=unix:///var/run/docker.sock"),
            *("--bridge=none", "--iptables=false", "--ip-masq=false"),
            *("--storage-driver=devicemapper", *self.words),
        ]

    @property
    def process(self) -> int:
        """The process id of the running dockerd."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start dockerd and wait until it reports itself ready (sd_notify(3))."""
        RUN.mkdir(exist_ok=True)
        notify = RUN / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, LOG.open("ab") as log:
            ready.bind(str(notify))
            ready.settimeout(TIMEOUT)
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": str(notify)}
            )
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                raise SystemExit("dockerd does not start") from None
        notify.unlink()

    def stop(self) -> None:
        """Shut dockerd down with SIGTERM, and wait for its end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=TIMEOUT)

    def kill(self, *containers: str) -> None:
        """Kill dockerd, containerd, the shims and the processes of *containers*, as in a crash."""
        assert self._process is not None
        inside = [int(run("docker", "inspect", "-f", "{{.State.Pid}}", name)) for name in containers]
        shims = [_parent(process) for process in inside]
        containerd = int((RUN / "exec/containerd/containerd.pid").read_text())
        for process in (self._process.pid, containerd, *shims, *inside):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait(timeout=TIMEOUT)
        while any(running(process) for process in (containerd, *shims, *inside)):
            time.sleep(0.01)


def _parent(process: int) -> int:
    """The parent of *process*, which has to run: Docker gives 0 for a container that has ended."""
    found = running(process)
    if found is None:
        raise SystemExit(f"process {process} of a container does not run")
    return found.parent
