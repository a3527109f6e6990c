# SPDX-License-Identifier: Apache-2.0
"""The pool's backends, by the names that ``lamella setup`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella import logs
from lamella.driver.loop_lvm.backend import LoopLvm
from lamella.driver.options import DIRECT, LOOP
from lamella.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.driver.backend import PoolBackend

log = logs.logger(__name__)


def _direct_lvm(root: Path) -> PoolBackend:
    from lamella.driver.direct_lvm.backend import DirectLvm  # brings all of lamella.lvm

    return DirectLvm(root)


MODES: dict[str, Callable[[Path], PoolBackend]] = {LOOP: LoopLvm, DIRECT: _direct_lvm}


def check_mode(mode: str) -> None:
    """Raise :class:`UsageError` for an unknown mode."""
    if mode not in MODES:
        raise UsageError(f"there is no mode {mode!r} to hold a pool", hint=f"known: {', '.join(MODES)}")


def backend(mode: str, root: Path) -> PoolBackend:
    """The backend of the store in *root*. Raises :class:`UsageError` for an unknown mode."""
    check_mode(mode)
    log.info("store %s: mode %s", root, mode)
    return MODES[mode](root)
