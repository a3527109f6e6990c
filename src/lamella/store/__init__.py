# SPDX-License-Identifier: Apache-2.0
"""Layer 6: the store. Images and containers on one thin pool, as one object: :class:`Store`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella.store.results import ContainerSummary, ImageSummary, Info, StoreCheck, Usage
    from lamella.store.store import Store

__all__ = ["ContainerSummary", "ImageSummary", "Info", "Store", "StoreCheck", "Usage"]


def __getattr__(name: str) -> object:
    # Loaded on first use: completion imports only default_root, and starts in a third of the time.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{'store' if name == 'Store' else 'results'}"), name)
    return found
