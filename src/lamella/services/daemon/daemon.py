# SPDX-License-Identifier: Apache-2.0
"""The daemon's life: services start, the service manager is told, signals end it, services stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Protocol

from lamella import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from lamella.services.daemon.notify import Notifier

log = logs.logger(__name__)

SIGNAL_DELAY = 0.1
"""Seconds after which a signal is noticed at the latest."""


class Service(Protocol):
    """Something that the daemon hosts."""

    name: str

    def start(self) -> None:
        """Begin to serve. Raises :class:`lamella.errors.LamellaError`."""

    def stop(self) -> None:
        """Take nothing new, and return when what is in progress has ended, in bounded time."""


class Daemon:
    """Hosts *services* until a signal comes.

    *answers* is called for the watchdog, and returns when the store has answered; *hurry* is called at the
    second signal, while the services stop; *ready* once all have started.
    """

    def __init__(
        self,
        services: Sequence[Service],
        notifier: Notifier,
        *,
        answers: Callable[[], object],
        hurry: Callable[[], object],
        ready: Callable[[], object] = lambda: None,
    ) -> None:
        self._services = services
        self._notifier = notifier
        self._answers = answers
        self._hurry = hurry
        self._ready = ready
        self._asked = False
        self._hurried = threading.Event()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Start all services and serve until SIGTERM, SIGINT or SIGHUP; then stop them."""
        handlers = {
            number: signal.signal(number, self._signalled)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        started: list[Service] = []
        try:
            for service in self._services:
                service.start()
                started.append(service)
                log.info("%s is served", service.name)
            self._tell_ready(started)
            # The kernel may give a signal to another thread, which does not wake this one: only here
            # Python runs the handlers.
            while not self._asked:
                time.sleep(SIGNAL_DELAY)
        finally:
            self._notifier.tell(STOPPING=1, STATUS="stopping")
            log.info("stopping")
            threading.Thread(target=self._watch_for_hurry, name="lamella-hurry", daemon=True).start()
            try:
                self._stop(started)
            finally:
                self._stopped.set()
                self._hurried.set()
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    def _tell_ready(self, started: Sequence[Service]) -> None:
        names = ", ".join(service.name for service in started)
        self._notifier.tell(READY=1, MAINPID=os.getpid(), STATUS=f"serving: {names}")
        log.info("ready, process %d", os.getpid())
        if self._notifier.watchdog is not None:
            threading.Thread(target=self._watch, name="lamella-watchdog", daemon=True).start()
        self._ready()

    def _stop(self, started: list[Service]) -> None:
        """Stop all, the last one first, also where one fails."""
        try:
            while started:
                service = started.pop()
                service.stop()
                log.info("%s is served no more", service.name)
        finally:
            if started:
                self._stop(started)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            self._hurried.set()
        self._asked = True  # no lock: this may run while the thread has any

    def _watch_for_hurry(self) -> None:
        self._hurried.wait()
        if not self._stopped.is_set():
            log.info("stopping at once")
            self._hurry()

    def _watch(self) -> None:
        """Tell the watchdog twice in its time that the process is well, which it is while the store answers.

        Where it does not answer, this thread waits for it, and the manager ends the process.
        """
        assert self._notifier.watchdog is not None
        while not self._stopped.wait(self._notifier.watchdog / 2):
            try:
                self._answers()
            except Exception as error:
                log.info("the store does not answer the watchdog: %s", error)
                continue
            self._notifier.tell(WATCHDOG=1)
