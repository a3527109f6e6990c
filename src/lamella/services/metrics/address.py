# SPDX-License-Identifier: Apache-2.0
"""Where metrics are served: "HOST:PORT", ":PORT", "[IPv6]:PORT" or "unix:/path"."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.system import explain
from lamella.closing import on_error
from lamella.errors import BusyError, PermissionDeniedError, UsageError
from lamella.units import whole_number

if TYPE_CHECKING:
    from lamella.errors import LamellaError

FORMS = "write it as HOST:PORT, :PORT for all interfaces, [IPv6]:PORT or unix:/path"
BACKLOG = 16


@dataclass(frozen=True)
class Address:
    """One of the two forms: *path* of a Unix socket, or *host* ("" for all interfaces) and *port*."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises :class:`UsageError` for what is none. Port 0 lets the system choose."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/"):
                raise UsageError(f"{text!r} is not an absolute path", hint="write it as unix:/path")
            if len(os.fsencode(path)) > 107 or "\0" in path:
                raise UsageError(
                    f"the path of a Unix socket has at most 107 bytes: {path[:120]!r}", hint="a shorter path"
                )
            return cls(path=path)
        host, colon, digits = text.rpartition(":")
        port = whole_number(digits, 65535)
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or port is None or (":" in host and not bracketed) or (bracketed and ":" not in host):
            raise UsageError(f"{text!r} is not an address to serve on", hint=FORMS)
        return cls(host[1:-1] if bracketed else host, port)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listen(self) -> socket.socket:
        """A socket that listens there. Raises :class:`BusyError` where another process does, and the like."""
        return self._listen_unix() if self.path else self._listen_tcp()

    # -- TCP -------------------------------------------------------------------------------------

    def _listen_tcp(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(
                self.host or None, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{self.host!r} is no address of this machine: {error}", hint=FORMS) from error
        if not self.host:  # IPv6 first: such a socket takes IPv4 as well
            found.sort(key=lambda each: each[0] != socket.AF_INET6)
        failure: OSError | None = None
        for family, kind, protocol, _, where in found:
            try:
                made = socket.socket(family, kind, protocol)
                with on_error(made.close):
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6 and not self.host:
                        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                    made.bind(where)
                    made.listen(BACKLOG)
                return made
            except OSError as error:
                failure = failure or error
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise self._explain(error) from error
        assert failure is not None
        raise self._explain(failure) from failure

    def _explain(self, error: OSError) -> LamellaError:
        if error.errno == errno.EADDRINUSE:
            hint = f"choose another port, or see who has it: ss -lntp 'sport = :{self.port}'"
            return BusyError(f"another process serves on {self} already", hint=hint)
        if error.errno in (errno.EACCES, errno.EPERM):
            return PermissionDeniedError(
                f"serving on {self} is not permitted",
                hint="ports below 1024 are root's: choose a higher one, as 9110",
            )
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return UsageError(f"{self.host} is no address of this machine", hint="`ip address` lists them")
        return explain(error, "serve on", str(self))

    # -- Unix ------------------------------------------------------------------------------------

    def _listen_unix(self) -> socket.socket:
        self._remove_stale()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with on_error(made.close):
            try:
                made.bind(self.path)
                os.chmod(self.path, 0o660)
                made.listen(BACKLOG)
            except OSError as error:
                raise explain(error, "create the socket", self.path) from error
        return made

    def _remove_stale(self) -> None:
        """Remove a socket that a process left which has ended."""
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise UsageError(f"{self.path} exists, and is no socket", hint="choose another path")
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, "look at", self.path) from error
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                with suppress(FileNotFoundError):
                    os.unlink(self.path)
                return
            except OSError as error:
                raise explain(error, "connect to", self.path) from error
        raise BusyError(f"another process serves on {self} already", hint="stop it, or choose another path")

    def forget(self) -> None:
        """Remove the file of a Unix socket that is closed."""
        if self.path:
            with suppress(OSError):
                os.unlink(self.path)
