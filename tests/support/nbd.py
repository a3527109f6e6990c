# SPDX-License-Identifier: Apache-2.0
"""NBD servers of plain files, which tests kill and restart."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = ("nbdkit", "qemu-nbd")


class Server:
    """An NBD server of one plain file on a unix socket."""

    def __init__(self, command: Callable[[str, str], list[str]], disk: Path, size: int | None = None) -> None:
        """*command* takes socket and file. With *size* (bytes) the file is made; without, it exists."""
        self.socket = f"{disk}.sock"
        self.file = f"{disk}"
        if size is not None:
            with disk.open("wb") as file:
                file.truncate(size)
        self.command = command(self.socket, self.file)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        return f"nbd+unix:///?socket={self.socket}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections; one that exits is started again."""
        for _ in range(2500):
            if self.process is None or self.process.poll() is not None:
                Path(self.socket).unlink(missing_ok=True)
                self.process = subprocess.Popen(
                    self.command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                )
            with socket.socket(socket.AF_UNIX) as link:
                try:
                    link.connect(self.socket)
                    return
                except OSError:
                    time.sleep(0.004)
        raise AssertionError(f"{self.command[0]} did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def serve(name: str, program: str, disk: Path, size: int | None = None) -> Server:
    """Serve *disk*, a new file of *size* bytes or an existing one, with *program*, *name* of PROGRAMS."""
    if name == "nbdkit":
        return Server(lambda sock, file: [program, "-f", "-U", sock, "file", file], disk, size)
    return Server(
        lambda sock, file: [program, "-t", "-e", "8", "-f", "raw", "--discard=unmap", "-k", sock, file],
        disk,
        size,
    )
