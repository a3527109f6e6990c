# SPDX-License-Identifier: Apache-2.0
"""Where log records of a command go: standard error or a file, from options and from ``LAMELLA_LOG``.

``LAMELLA_LOG`` is ``LEVEL``, ``LOGGER=LEVEL`` or several of these with commas between them, and then
``:FILE`` if the records are to be appended to a file. ``docs/reference/logging.md`` describes it to users.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lamella import logs
from lamella._version import __version__
from lamella.block.system import explain
from lamella.cli.process import program
from lamella.errors import UsageError
from lamella.interruptible import make_lock
from lamella.printable import printable

if TYPE_CHECKING:
    from typing import TextIO

log = logs.logger(__name__)

ENVIRONMENT = "LAMELLA_LOG"
ROOT = "lamella"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 1,
}
_FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s: %(message)s"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


SCOPE: ContextVar[object | None] = ContextVar("SCOPE", default=None)
"""What a command in the daemon sets, so that what it configures shows its own records and no others."""


def configure(
    *,
    verbose: bool = False,
    debug: bool = False,
    debug_file: bool = False,
    formatter: logging.Formatter | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send records where ``LAMELLA_LOG`` says; with *verbose* or *debug*, to standard error as well.

    *debug_file* raises the level of the file that ``LAMELLA_LOG`` names to debug; without a file it does
    nothing. A later call replaces what an earlier one has set. *formatter* words what goes to standard error,
    which *stream* is if it is given. Raises :class:`UsageError` for a value of
    ``LAMELLA_LOG`` that is not understood, and others where the file cannot be opened.
    """
    levels, path = _parse(os.environ.get(ENVIRONMENT, ""))
    handlers: list[logging.Handler] = []
    if levels and path:
        handlers.append(_handler(_file(path), {**levels, ROOT: logging.DEBUG} if debug_file else levels))
    wanted = {} if path else levels
    if verbose or debug:
        least = logging.DEBUG if debug else logging.INFO
        wanted = {name: min(level, least) for name, level in ({ROOT: least} | wanted).items()}
    if wanted:
        handlers.append(_handler(_StandardError(stream), wanted, formatter))
    _install(handlers)
    log.info("Lamella %s: %s", __version__, os.path.basename(program()))


def end_of_command() -> None:
    """Take back what this command of the daemon has configured."""
    _install([])


def share() -> None:
    """Let no interruption of a command leave logging's own lock held, which it takes outside of a block."""
    logging._lock = make_lock()  # type: ignore[attr-defined]


_lock = threading.Lock()
_scopes: dict[logging.Handler, object | None] = {}
"""The handlers that :func:`configure` has made, and which command each belongs to."""


def _install(handlers: list[logging.Handler]) -> None:
    """Have *handlers* in place of those of this command, beside those of others."""
    logger, scope = logging.getLogger(ROOT), SCOPE.get()
    if not handlers and scope is not None and scope not in _scopes.values():
        return
    with _lock:
        for old in [each for each, owner in _scopes.items() if owner is scope]:
            logger.removeHandler(old)
            del _scopes[old]
            old.close()
        for handler in handlers:
            _scopes[handler] = scope
            if scope is not None:
                handler.addFilter(lambda _: SCOPE.get() is scope)
            logger.addHandler(handler)
        logger.setLevel(min((handler.level for handler in _scopes), default=logging.NOTSET))
    logging.raiseExceptions = False  # a log that cannot be written, as on a full disk, stops no command


def _parse(text: str) -> tuple[dict[str, int], str]:
    """The level of each logger, with that of all others under :data:`ROOT`, and the file's path or ""."""
    words, _, path = text.partition(":")
    levels = {ROOT: LEVELS["off"]} if words else {}
    for word in words.split(",") if words else ():
        name, equals, level = (part.strip() for part in word.rpartition("="))
        if level.lower() not in LEVELS or (equals and not name):
            raise UsageError(
                f"{ENVIRONMENT}={text}: {word!r} is not a log level",
                hint=f"give LEVEL or LOGGER=LEVEL, where LEVEL is one of: {', '.join(LEVELS)}",
            )
        full = name if not name or name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}"
        levels[full or ROOT] = LEVELS[level.lower()]
    if path and not levels:
        raise UsageError(f"{ENVIRONMENT}={text}: there is no level", hint=f"for example: debug:{path}")
    return levels, path


def _file(path: str) -> logging.Handler:
    try:
        # A log says which images and containers there are: it is for its owner only.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain(error, "open the log file", path) from error
    return _FileHandler(os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace"))


def _handler(
    handler: logging.Handler, levels: dict[str, int], formatter: logging.Formatter | None = None
) -> logging.Handler:
    handler.setFormatter(formatter or _Formatter(_FORMAT, "%Y-%m-%d %H:%M:%S"))
    handler.setLevel(min(levels.values()))
    handler.addFilter(lambda record: record.levelno >= _level(levels, record.name))
    return handler


def _level(levels: dict[str, int], name: str) -> int:
    """The level of the logger *name*: its own, or that of the nearest one above it."""
    while name not in levels:
        name = name.rpartition(".")[0] or ROOT
    return levels[name]


class _StandardError(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time
    """Writes to *always*, or else to what is standard error at that moment."""

    def __init__(self, always: TextIO | None) -> None:
        super().__init__(always)
        self._always = always

    def createLock(self) -> None:
        self.lock = make_lock()  # type: ignore[assignment]  # commands share the daemon's

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._always or sys.stderr
        super().emit(record)


class _FileHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time
    def createLock(self) -> None:
        self.lock = make_lock()  # type: ignore[assignment]

    def close(self) -> None:
        self.stream.close()
        super().close()


class _Formatter(logging.Formatter):
    """One line for each record. A record steers no terminal, and no URL in it shows a password."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return plain(super().formatMessage(record))


def plain(text: str) -> str:
    """*text* on one line, in which nothing steers a terminal and no URL shows a password."""
    return _CREDENTIALS.sub("***@", printable(text))
