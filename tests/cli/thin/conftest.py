# SPDX-License-Identifier: Apache-2.0
"""Metadata made by the kernel, for the thin tools as commands."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.thin.kernel_made import KernelMade

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def made(fixture_dir: Callable[[str], Path]) -> KernelMade:
    return KernelMade.read(fixture_dir("thin-a.tar.zst") / "thin-a")


@pytest.fixture
def part(fixture_dir: Callable[[str], Path], tmp_path: Path) -> Callable[[str], str]:
    """``part("damaged/zeroed")``: the path of a copy of that metadata of thin-a."""

    def copy(name: str) -> str:
        target = tmp_path / f"{name.replace('/', '-')}.bin"
        shutil.copyfile(fixture_dir("thin-a.tar.zst") / "thin-a" / name / "meta.bin", target)
        return str(target)

    return copy
