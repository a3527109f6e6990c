# SPDX-License-Identifier: Apache-2.0
"""What a failed request is answered with, and what is logged of it: not every one of a flood."""

from __future__ import annotations

import errno
import os
import threading
import time
import traceback

from lamella import logs
from lamella.errors import LamellaError, NoSpaceError, ReadOnlyError

log = logs.logger(__name__)

_INTERVAL = 60.0
"""Seconds in which an error of the same kind, of the same file, is logged once."""


class Refused(Exception):
    """A request is answered with an errno, and there is nothing to log. Never leaves this package."""

    def __init__(self, number: int) -> None:
        super().__init__(_word(number))
        self.number = number


def number_of(error: BaseException) -> int:
    """The errno that stands for *error*. An error of the system below is no more than EIO to who uses the
    file: its number would speak of another file."""
    if isinstance(error, NoSpaceError):
        return errno.ENOSPC
    if isinstance(error, ReadOnlyError):
        return errno.EROFS
    return errno.EIO


class Failures:
    """Turns the errors of one file into errnos, and logs them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._seen: dict[tuple[type[BaseException], int], tuple[float, int]] = {}
        """By kind: when it was logged last, and how often it came since."""

    def answer(self, error: BaseException) -> int:
        """The errno of *error*, which is logged if its kind was not just now."""
        number = number_of(error)
        kind = (type(error), number)
        now = time.monotonic()
        with self._lock:
            last, suppressed = self._seen.get(kind, (-_INTERVAL, 0))
            wanted = now - last >= _INTERVAL
            self._seen[kind] = (now, 0) if wanted else (last, suppressed + 1)
        if wanted:
            what = error.message if isinstance(error, LamellaError) else "".join(
                traceback.format_exception(error)
            )  # fmt: skip
            more = f" ({suppressed} like it since the last one)" if suppressed else ""
            log.info("%s: a request is answered with %s: %s%s", self._name, _word(number), what, more)
        return number


def _word(number: int) -> str:
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
