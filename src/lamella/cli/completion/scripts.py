# SPDX-License-Identifier: Apache-2.0
"""The completion scripts, which are files beside this module."""

from __future__ import annotations

from pathlib import Path

SCRIPTS = {"bash": "lamella.bash", "zsh": "_lamella", "fish": "lamella.fish"}
"""Per shell the file beside this module that holds its script."""


def script(shell: str) -> str:
    """The completion script for *shell*, a key of :data:`SCRIPTS`."""
    return Path(__file__).with_name(SCRIPTS[shell]).read_text("utf-8")
