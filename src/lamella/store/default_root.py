# SPDX-License-Identifier: Apache-2.0
"""The default place of a store; a module of its own, so that completion can import it quickly."""

from __future__ import annotations

import os
from pathlib import Path

from lamella.errors import UsageError

ENVIRONMENT = "LAMELLA_ROOT"


def default_root() -> Path:
    """``$LAMELLA_ROOT``; else ``/var/lib/lamella`` for root, else the user's data folder."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/lamella")
    from platformdirs import user_data_path

    try:
        return user_data_path("lamella", appauthor=False)
    except RuntimeError as error:  # a user without a home directory
        raise UsageError(
            "there is no home directory to keep the store in",
            hint="name a folder with --root or LAMELLA_ROOT",
        ) from error
