# SPDX-License-Identifier: Apache-2.0
"""Mutual exclusion between processes of Lamella that use the same active pool."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

INTERNAL = "LAMELLA-"
"""Begins the UUID of a device that is active only while a process of Lamella has it open."""


class Guard:
    """Entered around steps that must not be left half done; this one assumes a single process."""

    def holding(self) -> AbstractContextManager[object]:
        """While the pool's metadata is held, of which there can be one holder."""
        return nullcontext()

    def suspending(self, name: str) -> AbstractContextManager[object]:
        """While the device called *name* is suspended."""
        return nullcontext()
