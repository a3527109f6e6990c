# SPDX-License-Identifier: Apache-2.0
"""One standard-library logger for each module, without the time that importing :mod:`logging` takes.

``log = logs.logger(__name__)`` stands for ``logging.getLogger(__name__)``. As long as nobody has imported
:mod:`logging`, nobody can have asked for records, and none are made; from then on each call reaches the real
logger, so that ``logging.getLogger("lamella")`` in a program that uses Lamella works as with any library.

Decisions are logged at INFO, what is asked of the kernel, of programs, of registries and of SQLite at DEBUG.
There are no warnings: those go to the caller. No secret is ever given to a logger.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

_DEBUG, _INFO = 10, 20
_CALLER = 3
"""Frames between :mod:`logging` and the function whose name and line a record shows."""


class Logger:
    """The logger of one module. Messages are %-formatted with their arguments, if they are wanted."""

    __slots__ = ("_found", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: logging.Logger | None = None

    def info(self, message: str, *arguments: object) -> None:
        """Log a decision."""
        self._log(_INFO, message, arguments)

    def debug(self, message: str, *arguments: object) -> None:
        """Log a request to the system or to another program."""
        self._log(_DEBUG, message, arguments)

    @property
    def debugging(self) -> bool:
        """Whether debug records are wanted: for those whose arguments take time to make."""
        found = self._logger()
        return found is not None and found.isEnabledFor(_DEBUG)

    def _log(self, level: int, message: str, arguments: tuple[object, ...]) -> None:
        found = self._logger()
        if found is not None and found.isEnabledFor(level):
            found.log(level, message, *arguments, stacklevel=_CALLER)

    def _logger(self) -> logging.Logger | None:
        if self._found is None and "logging" in sys.modules:
            import logging  # waits until another thread has finished importing it

            self._found = logging.getLogger(self.name)
        return self._found


def logger(name: str) -> Logger:
    """The logger of the module called *name*."""
    return Logger(name)
