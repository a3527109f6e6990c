# SPDX-License-Identifier: Apache-2.0
"""A unix socket for a server that binds it by its path only, as gRPC's does."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lamella.block.system import explain, explaining
from lamella.errors import BusyError, ExistsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONGEST_NAME = 80
"""Bytes of a socket's name in its folder. A whole address has 107 (unix(7)): some lead to the folder."""
_BOUND = "s"


class Listening:
    """The socket at *address* while a server listens on it.

    *bind* is given a path, and listens there when it returns. That path is in a folder that only this user
    can enter, and leads there by the folder's descriptor: it is short, however long *address* is. With its
    mode set, 0600, the socket then takes the place of *address*, so that nobody finds it there earlier or
    with other rights. A socket that nobody listens on is replaced.

    Raises :class:`BusyError` if somebody listens at *address*, :class:`ExistsError` if what is there is no
    socket, and :class:`UsageError` if its name is too long for the name of a socket.
    """

    def __init__(self, address: Path, bind: Callable[[str], None]) -> None:
        self.address = address
        if len(os.fsencode(address.name)) > LONGEST_NAME:
            raise UsageError(
                f"{address.name} is too long for the name of a socket",
                hint=f"up to {LONGEST_NAME} bytes are possible; the folder's path may be longer",
            )
        with explaining("listen on", str(address)):
            address.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(address.parent) as folder:
                _refuse_what_is_there(folder, address)
                # What a process left here that was killed is nobody's now, as the folder is locked.
                private = f".{address.name}.new"
                with suppress(FileExistsError):
                    os.mkdir(private, 0o700, dir_fd=folder)
                self._folder = os.open(private, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    _require_private(self._folder, address.parent / private)
                    with suppress(FileNotFoundError):
                        os.unlink(_BOUND, dir_fd=self._folder)
                    bind(f"/proc/self/fd/{self._folder}/{_BOUND}")
                    os.chmod(_BOUND, 0o600, dir_fd=self._folder)
                    os.rename(_BOUND, address.name, src_dir_fd=self._folder, dst_dir_fd=folder)
                    self._identity = _identity(os.stat(address.name, dir_fd=folder, follow_symlinks=False))
                except BaseException:
                    os.close(self._folder)
                    raise
                finally:
                    with suppress(OSError):
                        os.rmdir(private, dir_fd=folder)

    def remove(self) -> None:
        """Remove the socket, unless another is in its place: nobody finds the server any more."""
        try:
            if _identity(os.lstat(self.address)) == self._identity:
                os.unlink(self.address)
        except FileNotFoundError:
            pass  # somebody else did
        except OSError as error:
            raise explain(error, "remove", str(self.address)) from error

    def close(self) -> None:
        """Forget the folder; only when the server has ended, which removes what it has bound by that path."""
        os.close(self._folder)


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """*folder* as a descriptor, locked against others that do the same."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield opened
    finally:
        os.close(opened)


def _refuse_what_is_there(folder: int, address: Path) -> None:
    try:
        found = os.stat(address.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ExistsError(f"{address} is there and is no socket", hint="give another path, or remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(f"/proc/self/fd/{folder}/{address.name}")
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass  # somebody who has not accepted all that wait
    raise BusyError(
        f"another server listens on {address}", hint="stop it, or give another path (see: ss -xlp)"
    )


def _require_private(folder: int, path: Path) -> None:
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ExistsError(
            f"{path} is there, and others can enter it",
            hint="remove it, and see who makes such folders; or give a socket in a folder of your own",
        )


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
