# SPDX-License-Identifier: Apache-2.0
"""Lamella's own dependencies and the tests', as wheels for the guest's Python."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from scripts.guest.cache import made_once, recipe

PROJECT = Path(__file__).resolve().parents[2]
TESTING = ("pytest", "hypothesis", "pytest-timeout", "pytest-xdist")


def packages(python: str) -> Path:
    """A folder of packages for Python *python* ("3.11")."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *TESTING]

    def install(target: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--target", str(target), "--python-version", python, "--implementation", "cp",
             "--only-binary", ":all:", *wanted],
            check=True,
        )  # fmt: skip

    return made_once(f"packages-{python}", recipe(python, *wanted), install)
