# SPDX-License-Identifier: Apache-2.0
"""How long a server may go without sending anything worth while: one deadline over retries, waits and reads.

A timeout of a socket begins again with every byte. This one begins again only with a good number of them,
and while it runs, whoever waits is told what for.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from lamella.closing import Closing
from lamella.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PATIENCE = 120.0
"""Seconds without progress after which a request or a download is given up."""
LEAST = 16 << 10
"""Bytes that count as progress: a server that sends fewer in all that time is as good as dead."""

_current = threading.local()


def current() -> Patience | None:
    """The one that this thread's requests are under."""
    found: Patience | None = getattr(_current, "patience", None)
    return found


class Patience(Closing):
    """A deadline *seconds* after the last progress; a context manager, for the requests of one thread.

    When it has passed, the connections that the requests use are shut down, so whatever waits for them
    fails, and :attr:`expired` is set. *say* is told what is being waited for; *clock* is for tests.
    """

    def __init__(
        self,
        seconds: float = PATIENCE,
        *,
        say: Callable[[str], object] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self.say = say
        self.expired = False
        self._clock = clock
        self._since = clock()
        self._received = 0
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._outer: Patience | None = None

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._since + self.seconds - self._clock()

    def received(self, count: int) -> None:
        """*count* bytes have arrived."""
        self._received += count
        if self._received >= LEAST:
            self.restart()

    def restart(self) -> None:
        """There was progress."""
        self._received = 0
        self._since = self._clock()

    def error(self, shown: str) -> NetworkError:
        """The error for a server that has made no progress with *shown* (a URL fit to be shown)."""
        return NetworkError(
            f"{shown}: no progress for {self.seconds:.0f} seconds, given up",
            hint="the server or the network is slow or stuck; try again later: finished downloads are kept",
        )

    def watch(self, connection: socket.socket) -> None:
        """Shut *connection* down as well when the deadline has passed."""
        with self._lock:
            self._sockets.append(connection)
        if self.expired:
            self._expire()

    def __enter__(self) -> Patience:
        self._outer = current()
        _current.patience = self
        self._arm()
        return self

    def close(self) -> None:
        """Stop watching. Closing twice does nothing."""
        with self._lock:
            timer, self._timer = self._timer, None
            self._sockets.clear()
        if timer is not None:
            timer.cancel()
            _current.patience = self._outer

    def _arm(self) -> None:
        with self._lock:
            self._timer = threading.Timer(max(0.01, self.left), self._look)
            self._timer.daemon = True
            self._timer.start()

    def _look(self) -> None:
        if self._timer is None:
            return
        if self.left > 0:
            self._arm()
        else:
            self._expire()

    def _expire(self) -> None:
        self.expired = True
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Watched:
    """A connection whose socket the present :class:`Patience` can shut down, from another thread too.

    That works on a duplicate: the socket itself may be closed, and its number used again, at any time.
    """

    _twin: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]  # of urllib3's class
        self._twin = made.dup()
        self._watch()
        return made

    def request(self, *args: Any, **named: Any) -> None:
        self._watch()
        super().request(*args, **named)  # type: ignore[misc]  # of urllib3's class

    def close(self) -> None:
        super().close()  # type: ignore[misc]  # of urllib3's class
        if self._twin is not None:
            self._twin.close()
            self._twin = None

    def _watch(self) -> None:
        patience = current()
        if patience is not None and self._twin is not None:
            patience.watch(self._twin)


class _Connection(_Watched, HTTPConnection):
    pass


class _SecureConnection(_Watched, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


POOL_CLASSES: dict[str, type] = {"http": _Pool, "https": _SecurePool}
"""For ``PoolManager.pool_classes_by_scheme``."""
