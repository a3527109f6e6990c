# SPDX-License-Identifier: Apache-2.0
"""``lamella serve`` as a process, and commands beside it.

``served(root)`` is ready when its block begins, and has ended when that is over; ``lamella(root, ...)`` runs
a command, which finds the daemon or not.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAMELLA = (sys.executable, "-m", "lamella")
LONG = 120.0
"""Seconds after which something has failed, also on a busy machine."""


def environment(root: Path, **more: str) -> dict[str, str]:
    """This process's, with the store in *root* as the default, and what a test runs under left out."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LAMELLA_LOG", "NOTIFY_SOCKET")}
    return {**kept, "LAMELLA_ROOT": str(root), "LAMELLA_ENGINE": "user", "COLUMNS": "100", **more}


def lamella(root: Path, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, with its output."""
    options.setdefault("env", environment(root))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([*LAMELLA, *words], check=False, timeout=LONG, **options)


class Manager:
    """Stands for systemd: what the daemon tells it."""

    def __init__(self, folder: str) -> None:
        self.path = f"{folder}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(LONG)

    def next(self) -> dict[str, str]:
        """The next message."""
        lines = self._socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def wait_for(self, field: str) -> dict[str, str]:
        """The next message that has *field*."""
        while True:
            found = self.next()
            if field in found:
                return found

    def close(self) -> None:
        self._socket.close()


class Served:
    """A running daemon."""

    def __init__(self, process: subprocess.Popen[bytes], root: Path, log: Path, manager: Manager) -> None:
        self.process = process
        self.root = root
        self.log = log
        self.manager = manager

    def lamella(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return lamella(self.root, *words, **options)

    def descriptors(self) -> set[str]:
        """What the daemon has open, but for state.db: SQLite keeps some descriptors of it, to use again."""
        found = set()
        for path in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found.add(f"{path.name} {os.readlink(path)}")
            except FileNotFoundError:  # closed meanwhile
                pass
        return {name for name in found if "state.db" not in name}

    def wait_until_no_more(self, before: set[str]) -> None:
        """Return when no more descriptors are open than *before*."""
        end = time.monotonic() + LONG / 2
        while len(now := self.descriptors()) > len(before):
            assert time.monotonic() < end, now ^ before
            time.sleep(0.02)

    def logged(self) -> str:
        return self.log.read_text()

    def wait_for_log(self, text: str) -> None:
        """Return when the log has *text*. The test's own time limit ends this."""
        wait_until(lambda: text in self.logged() or self.process.poll() is not None)
        assert text in self.logged(), (self.process.poll(), self.logged()[-3000:])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(LONG)


def wait_until(condition: Callable[[], object]) -> None:
    """Look again and again. The test's own time limit ends this."""
    while not condition():
        time.sleep(0.02)


@contextmanager
def served(
    root: Path, *options: str, variables: dict[str, str] | None = None, **process: Any
) -> Iterator[Served]:
    """A daemon of the store in *root*, which has told that it is ready."""
    with tempfile.TemporaryDirectory(prefix="lamella-") as folder:  # pytest's paths are too long for a socket
        manager = Manager(folder)
        log = Path(folder) / "log"
        with log.open("wb") as out:
            started = subprocess.Popen(
                [*LAMELLA, "serve", *options],
                env=environment(root, NOTIFY_SOCKET=manager.path, **(variables or {})),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                **process,
            )
        try:
            daemon = Served(started, root, log, manager)
            try:
                manager.wait_for("READY")
            except TimeoutError:
                raise AssertionError(log.read_text()) from None
            yield daemon
            if started.poll() is None:
                assert daemon.stop() == 0, daemon.logged()
        finally:
            started.kill()
            started.wait()
            manager.close()
