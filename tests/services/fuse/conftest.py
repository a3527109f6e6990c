# SPDX-License-Identifier: Apache-2.0
"""A server on this machine's own kernel, and requests to a worker without any kernel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lamella.errors import LamellaError
from lamella.services.fuse import FuseServer
from lamella.services.fuse.connection import available
from lamella.services.fuse.file_table import FileTable
from lamella.services.fuse.operations import Operations
from lamella.services.fuse.protocol import IN_HEADER, OUT_HEADER
from lamella.services.fuse.worker import Worker
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def request_bytes(opcode: int, node: int, body: bytes = b"", *, unique: int = 7, pid: int = 0) -> bytes:
    """A whole request, as the kernel sends it."""
    return IN_HEADER.pack(IN_HEADER.size + len(body), opcode, unique, node, 0, 0, pid, 0, 0) + body


class Kernel:
    """Stands in for the kernel: requests reach a worker, and answers come back, through a pair of sockets."""

    def __init__(self) -> None:
        self.files = FileTable()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs = theirs
        self._worker = Worker(0, theirs.fileno(), 1 << 20, self.files, Operations(self.files))
        self._worker.start()

    def send(self, data: bytes) -> None:
        self._ours.send(data)

    def receive(self) -> tuple[int, int, bytes]:
        """(unique, errno, body) of the next answer."""
        data = self._ours.recv(1 << 20)
        length, error, unique = OUT_HEADER.unpack_from(data)
        assert length == len(data)
        return unique, -error, data[OUT_HEADER.size :]

    def ask(self, opcode: int, node: int, body: bytes = b"") -> tuple[int, bytes]:
        """(errno, body) of the answer."""
        self.send(request_bytes(opcode, node, body))
        unique, error, found = self.receive()
        assert unique == 7
        return error, found

    def close(self) -> None:
        self._ours.close()
        self._worker.join()
        self._theirs.close()


_SERVE = """
import sys, pathlib, time
from lamella.block import MemoryDevice
from lamella.services.fuse import FuseServer
server = FuseServer(pathlib.Path(sys.argv[1]))
server.add("disk", MemoryDevice(1 << 20))
print("ready", flush=True)
time.sleep(3600)
"""


def serve_elsewhere(mountpoint: Path) -> subprocess.Popen[bytes]:
    """A process that serves the file "disk" until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", _SERVE, mountpoint], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    found = Kernel()
    yield found
    found.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FuseServer]:
    if not available():
        missing("/dev/fuse, and root to mount by it,")
    try:
        found = FuseServer(tmp_path / "mount")
    except LamellaError as error:
        missing(f"a FUSE mount ({error})")
        raise
    # Should a test hang in a request of its own, it could not even be killed before that is answered.
    watchdog = subprocess.Popen(
        ["sh", "-c", 'sleep 240; umount -f -l "$0"', found.mountpoint], start_new_session=True
    )
    try:
        with found:
            yield found
    finally:
        os.killpg(watchdog.pid, signal.SIGKILL)
        watchdog.wait()
