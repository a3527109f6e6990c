# SPDX-License-Identifier: Apache-2.0
"""A thread that tries again what cannot be done yet, such as deleting a device that somebody has open."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lamella.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST, LONGEST = 0.1, 5.0
"""Seconds between two tries: the first ones follow quickly, as most devices are closed soon."""


class Collector(Closing):
    """Calls *collect* after :meth:`wake`, again and again until it returns True."""

    def __init__(self, collect: Callable[[], bool]) -> None:
        self._collect = collect
        self._changed = threading.Condition()
        self._wanted = self._ended = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something to collect."""
        with self._changed:
            self._wanted = True
            if self._thread is None and not self._ended:
                self._thread = threading.Thread(target=self._run, name="lamella-collector", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._ended)
                self._wanted = False
            pause = SHORTEST
            while not self._ended and not self._collect():
                with self._changed:
                    self._changed.wait_for(lambda: self._ended, pause)
                pause = min(2 * pause, LONGEST)
            if self._ended:
                return

    def close(self) -> None:
        """End the thread. Closing twice is harmless."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
