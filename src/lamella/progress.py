# SPDX-License-Identifier: Apache-2.0
"""How long work tells whoever waits for it how far it has come."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One task at a time: started, advanced in bytes or items, and done."""

    def start(self, what: str, total: int | None) -> None:
        """A task called *what* begins; *total* is None where unknown."""

    def advance(self, amount: int) -> None:
        """*amount* more of the total is finished."""

    def done(self) -> None:
        """The task is finished."""


class _Quiet:
    def start(self, what: str, total: int | None) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def done(self) -> None:
        pass


QUIET: Progress = _Quiet()
"""Reports nothing."""
