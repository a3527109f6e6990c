# SPDX-License-Identifier: Apache-2.0
"""The client of LVM2's ``dmeventd``, which monitors thin pools and extends them as their profile says.

It is reached through two pipes under ``/run``. Where it is installed and neither runs nor would be started
by systemd, it is started for the first registration, as LVM2 does; without LVM2 nothing happens. Authority:
the protocol of libdevmapper-event, as the daemon of LVM2 2.03 answers it.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from contextlib import suppress
from pathlib import Path

from lamella.closing import Closing
from lamella.errors import BusyError, CorruptError, LamellaError

RUN = Path("/run")
HEADER = struct.Struct(">iI")
"""Command (in an answer: 0 or a negative errno), bytes that follow."""
REGISTER, UNREGISTER, GET_REGISTERED = 2, 3, 4
THIN_PLUGIN = "libdevmapper-event-lvm2thin.so"
ERRORS_AND_TIMEOUT = 0x02FF00
"""The events that LVM2 registers for: all errors, and a timeout."""
PENDING = 0x01000000
"""Set in an answer's events while the registration is in progress."""
INTERVAL = 10
"""Seconds between timeouts, as in LVM2."""
ANSWER_TIMEOUT = 10.0
LARGEST = 64 << 10
PROGRAM = "dmeventd"


def listening(run: Path = RUN, program: str = PROGRAM) -> str:
    """Make sure that the daemon listens, starting it if necessary; returns why it does not, or ""."""
    if Monitor.reachable(run):
        return ""
    import shutil
    import subprocess

    from lamella.block import programs

    path = shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        return f"{PROGRAM} is not installed"
    try:
        # What was started goes into the background by itself, and ends when it can be spoken to.
        done = programs.run(
            [path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe might be kept open by the daemon
            stderr=subprocess.DEVNULL,
            cwd="/",
            timeout=ANSWER_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path} could not be started: {error}"
    if Monitor.reachable(run):
        return ""
    return f"{path} was started and does not listen (exit code {done.returncode}); see the system log"


def set_monitored(uuid: str, wanted: bool, run: Path = RUN) -> str:
    """Register the pool with this device-mapper UUID, or unregister it; returns why that failed, or "".

    The daemon is started for a registration only.
    """
    if not wanted and not Monitor.reachable(run):
        return ""
    problem = listening(run)
    if problem:
        return problem
    try:
        with Monitor(run) as daemon:
            if not wanted:
                daemon.unregister(uuid)
            elif not daemon.register(uuid):
                return f"{PROGRAM} refuses; see its messages in the system log"
    except (LamellaError, OSError) as error:
        return str(error)
    return ""


class Monitor(Closing):
    """A connection to dmeventd; use it as a context manager. See :meth:`reachable`."""

    def __init__(self, run: Path = RUN) -> None:
        self._number = 0
        self._answers = os.open(run / "dmeventd-server", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(self._answers, fcntl.LOCK_EX)
            self._questions = os.open(run / "dmeventd-client", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except BaseException:
            os.close(self._answers)
            raise

    @staticmethod
    def reachable(run: Path = RUN) -> bool:
        """Whether the daemon, or systemd on its behalf, is listening."""
        try:
            os.close(os.open(run / "dmeventd-client", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return False
        return (run / "dmeventd-server").exists()

    def close(self) -> None:
        """Close the connection; the next client may connect."""
        os.close(self._questions)
        os.close(self._answers)

    def is_registered(self, uuid: str) -> bool:
        """Whether the pool with this device-mapper UUID is registered."""
        code, answer = self._ask(GET_REGISTERED, uuid)
        words = answer.split()
        if code or len(words) < 4 or words[2] != uuid or not words[3].isdigit():
            return False
        return bool(int(words[3]) & ~PENDING)

    def register(self, uuid: str) -> bool:
        """Register the pool; returns whether the daemon monitors it."""
        return self._ask(REGISTER, uuid)[0] == 0

    def unregister(self, uuid: str) -> bool:
        """Unregister the pool; returns whether it was registered."""
        return self._ask(UNREGISTER, uuid)[0] == 0

    def _ask(self, command: int, uuid: str) -> tuple[int, str]:
        """The answer's code and words: the request's id, plugin, UUID, events."""
        mark = f"{os.getpid()}:{self._number} "
        self._number += 1
        text = f"{mark}{THIN_PLUGIN} {uuid} {ERRORS_AND_TIMEOUT} {INTERVAL}".encode() + b"\0"
        with suppress(BlockingIOError):
            while os.read(self._answers, LARGEST):  # what a client that has gone was sent
                pass
        os.write(self._questions, HEADER.pack(command, len(text)) + text)
        end = time.monotonic() + ANSWER_TIMEOUT
        while True:
            code, size = HEADER.unpack(self._read(HEADER.size, end))
            if not 0 <= size <= LARGEST:
                raise CorruptError(f"invalid answer from dmeventd: it claims {size} bytes")
            answer = self._read(size, end).partition(b"\0")[0].decode(errors="replace")
            if answer.startswith(mark):
                return int(code), answer

    def _read(self, size: int, end: float) -> bytes:
        found = b""
        while len(found) < size:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise BusyError(
                    f"dmeventd did not answer within {ANSWER_TIMEOUT:g} seconds",
                    hint="see whether it runs: systemctl status dm-event.socket dm-event.service",
                )
            with suppress(BlockingIOError):
                found += os.read(self._answers, size - len(found))
        return found
