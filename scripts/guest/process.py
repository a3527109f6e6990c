# SPDX-License-Identifier: Apache-2.0
"""The process of a guest, User-mode Linux or QEMU: started in a process group of its own, and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from typing import IO, TYPE_CHECKING

from scripts.processes import in_group

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEMORY = 4 << 30
"""Bytes of memory of a guest; less where the machine has under four times as much."""


def memory() -> int:
    """Bytes of memory for a guest."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(MEMORY, there // 4)


def scratch_folder() -> str:
    """The folder for large temporary files: in memory if there is enough."""
    found = os.statvfs("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    enough = found is not None and found.f_bavail * found.f_frsize >= 2 * memory()
    return "/dev/shm" if enough else tempfile.gettempdir()


def start(
    command: Sequence[str], console: IO[bytes] | int | None, folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a guest in *folder*, with its console written to *console*, or on our terminal if that is None.

    It is killed when the process that started it ends in any way, where there is setpriv(1).
    """
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    interactive = console is None
    return subprocess.Popen(
        command,
        stdin=None if interactive else subprocess.DEVNULL,
        stdout=console,
        stderr=None if interactive else subprocess.STDOUT,
        # The guest's memory is a file in TMPDIR, which should itself be in memory.
        env=os.environ | {"TMPDIR": scratch_folder()},
        cwd=folder,
        start_new_session=not interactive,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a guest that is not on the terminal, with its process group: all that runs in User-mode Linux.

    Returns when all have ended, so that its disks no longer change.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    while in_group(process.pid):
        time.sleep(0.01)
    process.wait()
