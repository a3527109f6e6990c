# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells systemd: sd_notify(3), a datagram of ``NAME=value`` lines."""

from __future__ import annotations

import os
import socket

from lamella import logs

log = logs.logger(__name__)


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

    def tell(self, **fields: str | int) -> None:
        """Send *fields*, such as READY=1. A manager that does not listen is no error."""
        if not self._address:
            return
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items())
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(5)
                sender.sendto(text.encode(), address)
        except OSError as error:
            log.info("cannot tell the service manager: %s", error)
