# SPDX-License-Identifier: Apache-2.0
"""LVM2's ``dmeventd``, which watches thin pools and extends them by their profile: who is watched, and by us.

It is spoken to through two pipes under ``/run``; only where it runs, or systemd would start it, so that a
machine without LVM2 has nothing to do with it. Authority: the protocol of libdevmapper-event, as the
daemon of LVM2 2.03 answers it.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.errors import BusyError, CorruptError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

RUN = Path("/run")
HEADER = struct.Struct(">iI")
"""Command (in an answer: 0 or a negative errno), bytes that follow."""
REGISTER, UNREGISTER, GET_REGISTERED = 2, 3, 4
THIN_PLUGIN = "libdevmapper-event-lvm2thin.so"
ERRORS_AND_TIMEOUT = 0x02FF00
"""The events that LVM2 asks for: all errors, and a look in regular intervals."""
PENDING = 0x01000000
"""Set in an answer's events while the registration is under way."""
INTERVAL = 10
"""Seconds between these, as with LVM2."""
PATIENCE = 10.0
LARGEST = 64 << 10


class Monitor:
    """A conversation with dmeventd; use it as a context manager. See :meth:`reachable`."""

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
        """Whether the daemon, or systemd for it, is listening."""
        try:
            os.close(os.open(run / "dmeventd-client", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return False
        return (run / "dmeventd-server").exists()

    def close(self) -> None:
        """Let others talk to it."""
        os.close(self._questions)
        os.close(self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_registered(self, uuid: str) -> bool:
        """Whether the pool with this device-mapper UUID is watched."""
        code, answer = self._ask(GET_REGISTERED, uuid)
        words = answer.split()
        if code or len(words) < 4 or words[2] != uuid or not words[3].isdigit():
            return False
        return bool(int(words[3]) & ~PENDING)

    def register(self, uuid: str) -> bool:
        """Let the pool be watched; whether the daemon does."""
        return self._ask(REGISTER, uuid)[0] == 0

    def unregister(self, uuid: str) -> bool:
        """Let it be watched no more; whether it was."""
        return self._ask(UNREGISTER, uuid)[0] == 0

    def _ask(self, command: int, uuid: str) -> tuple[int, str]:
        """The answer's code, and its words: the request's mark, plugin, UUID, events."""
        mark = f"{os.getpid()}:{self._number} "
        self._number += 1
        text = f"{mark}{THIN_PLUGIN} {uuid} {ERRORS_AND_TIMEOUT} {INTERVAL}".encode() + b"\0"
        with suppress(BlockingIOError):
            while os.read(self._answers, LARGEST):  # what somebody who went away was told
                pass
        os.write(self._questions, HEADER.pack(command, len(text)) + text)
        end = time.monotonic() + PATIENCE
        while True:
            code, size = HEADER.unpack(self._read(HEADER.size, end))
            if not 0 <= size <= LARGEST:
                raise CorruptError(f"dmeventd's answer makes no sense: it claims {size} bytes")
            answer = self._read(size, end).partition(b"\0")[0].decode(errors="replace")
            if answer.startswith(mark):
                return int(code), answer

    def _read(self, size: int, end: float) -> bytes:
        found = b""
        while len(found) < size:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise BusyError(
                    f"dmeventd did not answer within {PATIENCE:g} seconds",
                    hint="see whether it runs: systemctl status dm-event.socket dm-event.service",
                )
            with suppress(BlockingIOError):
                found += os.read(self._answers, size - len(found))
        return found
