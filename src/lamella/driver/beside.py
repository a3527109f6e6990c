# SPDX-License-Identifier: Apache-2.0
"""Something done in a thread beside this one: the kernel waits in it while we go on."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class Beside(Generic[Result]):
    """*work* in a thread of its own, begun at once."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="lamella-beside")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            self._error = error

    def result(self) -> Result:
        """Wait for its end; what it gave, or its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]
