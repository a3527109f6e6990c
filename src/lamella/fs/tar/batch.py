# SPDX-License-Identifier: Apache-2.0
"""A writer of many small records, which reach the stream below in batches."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from lamella.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

BATCH: Final = 1 << 18
"""Bytes after which a batch is written."""


class BatchWriter(Closing):
    """Gathers what is put and gives it to *write*. Close it, or use it as a context manager.

    When the ``with`` block ends by an exception, it is not closed, and nothing more is written.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._parts: list[bytes] = []
        self._waiting = 0
        self._closed = False

    @abstractmethod
    def _end(self) -> None:
        """Put what ends the stream, and flush."""

    def close(self) -> None:
        """Write what is left, and the end; the stream below stays open."""
        if not self._closed:
            self._closed = True
            self._end()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def _put(self, data: bytes) -> None:
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._write(b"".join(self._parts))
            self._parts.clear()
            self._waiting = 0
