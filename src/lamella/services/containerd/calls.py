# SPDX-License-Identifier: Apache-2.0
"""What all calls of a service have in common: errors become answers, and each is logged and waited for."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from lamella import logs
from lamella.printable import printable
from lamella.services.containerd.codes import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Observe = Callable[[str, float, str], None]
    """Told of each call: its method, how many seconds it took, and the name of the code of its answer."""

log = logs.logger(__name__)


class Calls:
    """The calls that are in progress. *observe* is told of each when it has ended."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._changed = threading.Condition()
        self._running = 0

    def wait(self, seconds: float) -> bool:
        """Wait until no call is in progress, and say whether that came within *seconds*."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, seconds)

    @contextmanager
    def call(self, method: str, context: grpc.ServicerContext, about: str) -> Iterator[None]:
        """One call: an error becomes its answer; and the call is logged, observed and waited for."""
        begun = time.monotonic()
        code = grpc.StatusCode.CANCELLED  # of a list that the client does not read to its end
        with self._changed:
            self._running += 1
        try:
            yield
            code = grpc.StatusCode.OK
        except Exception as error:
            code, details = answer(error)
            context.abort(code, details)
        finally:
            seconds = time.monotonic() - begun
            log.debug("%s %s: %s in %.1f ms", method, printable(about[:200]), code.name, seconds * 1000)
            self._observe(method, seconds, code.name)
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
