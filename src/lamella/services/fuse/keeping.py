# SPDX-License-Identifier: Apache-2.0
"""Who holds the descriptor of ``/dev/fuse`` while no server runs: a process, or the service manager."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from lamella import logs
from lamella.block.system import explaining
from lamella.errors import BusyError
from lamella.services.fuse import keeper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logs.logger(__name__)

SOCKET = "fuse.sock"
_PATIENCE = 10.0
"""Seconds for a keeper to answer, on a busy machine."""


class Keeping(Protocol):
    """Holds one descriptor beyond this process's end."""

    def keep(self, descriptor: int, token: str) -> None:
        """Hold *descriptor*, for who gives *token*. It may be closed then. Raises
        :class:`lamella.errors.LamellaError`."""

    def take(self, token: str) -> int | None:
        """What is held, and held no longer; None if nothing is held for *token*."""

    def discard(self) -> None:
        """Let go of what is held, if anything is."""


class KeeperProcess:
    """A process of its own, which is asked by a socket in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, descriptor: int, token: str) -> None:
        path = self._folder / SOCKET
        with explaining("make", str(path)), _address(self._folder) as address:
            path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                before = os.umask(0o177)
                try:
                    listener.bind(address)
                finally:
                    os.umask(before)
                listener.listen(1)
                passed = descriptor, listener.fileno()
                command = [sys.executable, "-I", "-S", keeper.__file__, *map(str, passed), str(path)]
                try:
                    subprocess.run(
                        command, input=token.encode(), stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL, pass_fds=passed, cwd="/", check=True, timeout=_PATIENCE,
                    )  # fmt: skip
                except subprocess.SubprocessError as error:
                    raise BusyError(
                        f"the program that is to keep the FUSE file system does not start: {error}",
                        hint=f"see whether {sys.executable} can be run",
                    ) from error
        log.info("a process keeps the FUSE file system until the next server comes")

    def take(self, token: str) -> int | None:
        with self._asking(keeper.GIVE + token.encode()) as connection:
            if connection is None:
                return None
            try:
                _, descriptors, _, _ = socket.recv_fds(connection, 16, 1)
            except OSError as error:
                log.info("the keeper of the FUSE file system does not answer: %s", error)
                return None
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return descriptors[0] if descriptors else None

    def discard(self) -> None:
        with self._asking(keeper.END):
            pass

    @contextmanager
    def _asking(self, what: bytes) -> Iterator[socket.socket | None]:
        """The connection to the keeper that was asked *what*; None if there is no keeper."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE)
            try:
                with _address(self._folder) as address:
                    connection.connect(address)
                connection.sendall(what)
            except OSError:
                with suppress(OSError):
                    (self._folder / SOCKET).unlink()
                yield None
            else:
                yield connection


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's address, short enough wherever *folder* is. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
