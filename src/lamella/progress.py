# SPDX-License-Identifier: Apache-2.0
"""How long work tells whoever waits for it how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    Chunk = TypeVar("Chunk", bytes, memoryview, bytes | memoryview)

BYTES = "bytes"
"""The unit of most tasks."""


class Progress(Protocol):
    """One task at a time: started, advanced, and done, or given up where the work raises an error."""

    def start(self, what: str, total: int | None, *, unit: str = BYTES, had: int = 0) -> None:
        """A task called *what* begins: "SUBJECT", or "SUBJECT: STAGE" for one of several with that subject.

        *total* is in *unit* ("bytes", or a noun in the plural such as "file systems"), and the sum of all
        that :meth:`advance` will get; None where unknown. *had* of it were finished before the task began.
        """

    def advance(self, amount: int) -> None:
        """*amount* more of the total is finished."""

    def waiting(self, why: str) -> None:
        """Nothing advances at present, because of *why*: "waiting 30 s for HOST (status 429)"."""

    def done(self) -> None:
        """The task is finished."""


class _Quiet:
    def start(self, what: str, total: int | None, *, unit: str = BYTES, had: int = 0) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def waiting(self, why: str) -> None:
        pass

    def done(self) -> None:
        pass


QUIET: Progress = _Quiet()
"""Reports nothing."""


class Upward:
    """Reports a position that grows, as differences: for work whose position is asked for, not told."""

    def __init__(self, progress: Progress, position: Callable[[], int]) -> None:
        self._progress = progress
        self._position = position
        self._seen = 0

    def report(self, _: object = None) -> None:
        """Report how far the position has come since the last time."""
        position = self._position()
        self._progress.advance(position - self._seen)
        self._seen = position


class CountedStream:
    """A stream that reports what is read from it."""

    def __init__(self, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        self._stream = stream
        self._advance = advance

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._advance(len(data))
        return data


def counted(chunks: Iterable[Chunk], advance: Callable[[int], None]) -> Iterator[Chunk]:
    """The pieces of a file as they are, each reported to *advance* once it has been dealt with."""
    for chunk in chunks:
        yield chunk
        advance(len(chunk))
