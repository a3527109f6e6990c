# SPDX-License-Identifier: Apache-2.0
"""How the daemon words its log records: for people, as JSON, or for systemd's journal."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("text", "json", "journal")

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Levels, and syslog's numbers for them (sd-daemon(3)); below them 7, debug."""


def default_format(journal: str, descriptor: int = 2) -> str:
    """``journal`` if *descriptor* leads to *journal*, the value of ``JOURNAL_STREAM``; else ``text``."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return "text"
    return "journal" if journal == f"{found.st_dev}:{found.st_ino}" else "text"


class _Lines(logging.Formatter):
    """Each record on one line, whose text *plain* has freed of secrets and of what steers a terminal."""

    def __init__(self, plain: Callable[[str], str]) -> None:
        super().__init__()
        self._plain = plain

    def _message(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += ": " + self.formatException(record.exc_info)
        return self._plain(text)


class JsonLines(_Lines):
    """One JSON object for each record: time (RFC 3339), level, logger, process, thread, message."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "thread": record.threadName,
            "message": self._message(record),
        }
        return json.dumps(fields, ensure_ascii=False)


class JournalLines(_Lines):
    """The priority in angle brackets, which the journal takes off, and the message; it adds the rest."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return f"<{priority}>{record.name}: {self._message(record)}"


def formatter(name: str, plain: Callable[[str], str]) -> logging.Formatter | None:
    """The formatter of ``--log-format``; None for ``text``, which is what commands print."""
    if name == "json":
        return JsonLines(plain)
    return JournalLines(plain) if name == "journal" else None
