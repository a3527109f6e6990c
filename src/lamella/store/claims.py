# SPDX-License-Identifier: Apache-2.0
"""What threads that share a store tell each other: who makes a layer, and which layers somebody needs."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Claims:
    """The claims of one open store's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str, threading.RLock] = {}
        self._waiting: Counter[str] = Counter()
        self._pins: Counter[str] = Counter()

    @contextmanager
    def claimed(self, name: str) -> Iterator[None]:
        """Only one thread at a time is in a block with *name*; the others wait."""
        with self._lock:
            owner = self._owners.setdefault(name, threading.RLock())
            self._waiting[name] += 1
        try:
            with owner:
                yield
        finally:
            with self._lock:
                self._waiting[name] -= 1
                if not self._waiting[name]:
                    del self._waiting[name], self._owners[name]

    @contextmanager
    def pinned(self, chains: Iterable[str]) -> Iterator[None]:
        """Nobody removes the layers *chains* as unused while the block runs, those to come included."""
        held = list(chains)
        with self._lock:
            self._pins.update(held)
        try:
            yield
        finally:
            with self._lock:
                self._pins.subtract(held)
                for chain in held:
                    if self._pins[chain] <= 0:
                        del self._pins[chain]

    def is_pinned(self, chain: str) -> bool:
        """Whether somebody needs the layer."""
        return chain in self._pins
