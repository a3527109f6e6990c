# SPDX-License-Identifier: Apache-2.0
"""Objects that are context managers because they have something to close."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self


class Closing(ABC):
    """Closed when its ``with`` block ends, however that ends."""

    @abstractmethod
    def close(self) -> None:
        """Release what it holds. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Finishing(Closing):
    """As :class:`Closing`, but before that finished, unless the ``with`` block ends by an exception."""

    @abstractmethod
    def finish(self) -> None:
        """Complete what was begun."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self.close()


@contextmanager
def on_error(close: Callable[[], object]) -> Iterator[None]:
    """Call *close* if the block raises, and let the error go on."""
    try:
        yield
    except BaseException:
        close()
        raise
