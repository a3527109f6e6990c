# SPDX-License-Identifier: Apache-2.0
"""A value that a thread of its own reads, so that who asks for it never waits for what is read."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from lamella import logs

if TYPE_CHECKING:
    from collections.abc import Callable

log = logs.logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What was read last. Times are of ``time.monotonic``."""

    value: T | None = None
    """None until a read has succeeded; a failure keeps the last one."""
    begun: float = 0.0
    """When the read of *value* began: it is as old as that."""
    duration: float = 0.0
    """Seconds that it took."""
    error: Exception | None = None
    """Of the last read, if that failed."""
    reads: int = 0
    """How many reads have ended."""

    def age(self) -> float:
        """Seconds since the value was true."""
        return time.monotonic() - self.begun


class Kept(Generic[T]):
    """What *read* gives, at most *fresh* seconds old where it can be had.

    It is only read when somebody asks. *rest*: for how many times as long as a read took there is no other
    one, so that what is expensive takes a bounded share of the time. *failed* is told of each error.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        *,
        fresh: float,
        rest: float = 0.0,
        failed: Callable[[Exception], object] = lambda error: None,
    ) -> None:
        self.name = name
        self._read = read
        self._fresh = fresh
        self._rest = rest
        self._failed = failed
        self._changed = threading.Condition()
        self._last: Reading[T] = Reading()
        self._next = 0.0
        self._begun: float | None = None
        self._wanted = self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, and a first read."""
        self._stopped, self._wanted = False, True
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self, patience: float) -> None:
        """End the thread; a read that is in progress is waited for *patience* seconds, then left alone."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(patience)

    def get(self, patience: float) -> Reading[T]:
        """The last reading; one that is not fresh is replaced, if that takes at most *patience* seconds."""
        end = time.monotonic() + patience
        with self._changed:
            before = self._last.reads
            if time.monotonic() < self._next or self._stopped:
                return self._last
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._last.reads > before or self._stopped, max(end - time.monotonic(), 0)
            )
            return self._last

    def reading_for(self) -> float:
        """Seconds that a read has been in progress; 0 without one."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._stopped)
                if self._stopped:
                    return
            self._begun = begun = time.monotonic()
            error: Exception | None = None
            value: T | None = None
            try:
                value = self._read()
            except Exception as caught:
                log.info("%s: %s: %s", self.name, type(caught).__name__, caught)
                error = caught
                self._failed(caught)
            ended = time.monotonic()
            with self._changed:
                last = self._last
                if error is None:
                    self._last = Reading(value, begun, ended - begun, None, last.reads + 1)
                else:
                    self._last = Reading(last.value, last.begun, last.duration, error, last.reads + 1)
                self._next = ended + max(self._fresh, self._rest * (ended - begun))
                self._wanted = False
                self._begun = None
                self._changed.notify_all()
