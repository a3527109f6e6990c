# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells systemd: sd_notify(3), a datagram of ``NAME=value`` lines."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

from lamella import logs

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logs.logger(__name__)

_BARRIER_TIMEOUT = 10
"""Seconds for a busy manager."""


class Notifier:
    """Tells the service manager of the process's state; nothing where there is none.

    The parameters are the values of ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
    """

    def __init__(self, address: str, interval: str = "", process: str = "") -> None:
        self._address = address
        meant = process in ("", str(os.getpid()))
        self.watchdog: float | None = None
        """Seconds within which the manager expects to hear of the process; None if it does not."""
        if self._address and meant and interval.isdigit() and int(interval) > 0:
            self.watchdog = int(interval) / 1e6

    @property
    def listens(self) -> bool:
        """Whether there is a manager."""
        return bool(self._address)

    def tell(self, **fields: str | int) -> None:
        """Send *fields*, such as READY=1. A manager that does not listen is no error."""
        if not self._address:
            return
        try:
            self._send(fields)
        except OSError as error:
            log.info("cannot tell the service manager: %s", error)

    def store(self, name: str, descriptor: int) -> None:
        """Let the manager hold *descriptor* for the process that it starts next (``FDSTORE``), and return
        when it has it. One whose unit does not permit that (``FileDescriptorStoreMax``) closes it.

        Raises ``OSError`` where it does not listen.
        """
        self._send({"FDSTORE": 1, "FDNAME": name}, descriptor)
        # It looks at who has sent a message, which must not have ended. It closes this pipe when it has come
        # to it: sd_notify_barrier(3).
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        with open(ours, "rb", buffering=0):
            try:
                self._send({"BARRIER": 1}, theirs)
            finally:
                os.close(theirs)
            poll = select.poll()
            poll.register(ours, 0)
            if not poll.poll(_BARRIER_TIMEOUT * 1000):
                raise TimeoutError("the service manager does not answer")

    def _send(self, fields: Mapping[str, str | int], *descriptors: int) -> None:
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items())
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(5)
            sender.connect(address)
            if descriptors:
                socket.send_fds(sender, [text.encode()], list(descriptors))
            else:
                sender.send(text.encode())
