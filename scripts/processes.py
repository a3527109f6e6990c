# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine, from proc(5)."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import subprocess


class Process(NamedTuple):
    """A process's parent and process group."""

    parent: int
    group: int


def running(number: int) -> Process | None:
    """The process, or None if it has ended; a zombie has ended."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else Process(int(fields[1]), int(fields[2]))


def in_group(group: int) -> list[int]:
    """The ids of the running processes of a process group."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [number for number in numbers if (found := running(number)) and found.group == group]


def wait_for_port(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until *server* takes connections on loopback *port*; False if it has ended instead.

    Without a time limit: a busy machine starts a program slowly, and one that cannot start ends.
    """
    while server.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        time.sleep(0.05)
    return False
