# SPDX-License-Identifier: Apache-2.0
"""The parsers that are fuzzed: each module here has a list TARGETS."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.fuzz.target import Target


def targets() -> dict[str, Target]:
    """All targets by name."""
    modules = sorted(found.name for found in pkgutil.iter_modules(__path__))
    found = [target for name in modules for target in importlib.import_module(f"{__name__}.{name}").TARGETS]
    return {target.name: target for target in found}
