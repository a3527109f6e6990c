# SPDX-License-Identifier: Apache-2.0
"""A root of its own for each test, and the folder with LVM's profiles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command here may ever reach the machine's own store."""
    monkeypatch.setenv("LAMELLA_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("LAMELLA_DEVICES", raising=False)


@pytest.fixture
def lvm_folder() -> Path:
    return Path(os.environ["LVM_SYSTEM_DIR"])
