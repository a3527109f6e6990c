# SPDX-License-Identifier: Apache-2.0
"""Lamella: thin-provisioned, copy-on-write block storage for container images and containers.

For programs: :class:`lamella.Store` is everything that the command line does; :class:`lamella.Pool`
and :class:`lamella.Volume` are the thin pool below it. They are loaded when they are first used.
"""

from __future__ import annotations

from lamella._version import __version__

TYPE_CHECKING = False  # typing's, without importing it: this is loaded before the program heeds signals
if TYPE_CHECKING:
    from lamella.store.store import Store
    from lamella.thin.engine.pool import Pool
    from lamella.thin.engine.volume import Volume

__all__ = ["Pool", "Store", "Volume", "__version__"]

_PLACES = {
    "Pool": "lamella.thin.engine.pool",
    "Store": "lamella.store.store",
    "Volume": "lamella.thin.engine.volume",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'lamella' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
