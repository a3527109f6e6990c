# SPDX-License-Identifier: Apache-2.0
"""Sockets that systemd listens on for the daemon, and what it has kept for it: sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

FIRST = 3
"""SD_LISTEN_FDS_START"""
HINT = "set FileDescriptorName= in the socket unit"


def passed_sockets(
    known: Collection[str], count: str, process: str, listed: str = "", *, kept: str = "", first: int = FIRST
) -> dict[str, socket.socket]:
    """The listening sockets that this process was given, by name, each one of *known*.

    *count*, *process* and *listed* are the values of ``LISTEN_FDS``, ``LISTEN_PID`` and ``LISTEN_FDNAMES``. A
    single socket without a known name is the first of *known*: systemd names it after its unit. What is
    called *kept* is left to :func:`passed_descriptor`. Raises :class:`UsageError` for others.
    """
    found: dict[str, socket.socket] = {}
    names = enumerate(_passed(count, process, listed))
    sockets = [(number, name) for number, name in names if not kept or name != kept]
    for number, name in sockets:
        if len(sockets) == 1 and name not in known:
            name = next(iter(known))
        os.set_inheritable(first + number, False)
        if name not in known or name in found:
            raise UsageError(
                f"the service manager passed a socket {name!r}, and the daemon knows: {', '.join(known)}",
                hint=HINT,
            )
        try:
            passed = socket.socket(fileno=first + number)
        except OSError as error:
            raise UsageError(f"what was passed as {name!r} is no socket", hint=HINT) from error
        if passed.type != socket.SOCK_STREAM or not passed.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            raise UsageError(f"the socket {name!r} does not listen for connections", hint="use ListenStream=")
        found[name] = passed
    return found


def passed_descriptor(
    name: str, count: str, process: str, listed: str = "", *, first: int = FIRST
) -> int | None:
    """The descriptor *name* that the manager has kept; None if it has none, or several, which are closed.

    The other parameters are those of :func:`passed_sockets`.
    """
    passed = enumerate(_passed(count, process, listed))
    found = [first + number for number, each in passed if each == name]
    if len(found) == 1:
        os.set_inheritable(found[0], False)
        return found[0]
    for descriptor in found:
        with suppress(OSError):
            os.close(descriptor)
    return None


def _passed(count: str, process: str, listed: str) -> list[str]:
    """The names of what was passed, from the first on."""
    if process != str(os.getpid()) or not count.isdigit():
        return []
    names = listed.split(":")[: int(count)]
    return names + [""] * (int(count) - len(names))
