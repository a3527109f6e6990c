# SPDX-License-Identifier: Apache-2.0
"""Tests in this folder run inside the guest (`make test-guest`), where a real kernel has device-mapper."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    inside = os.environ.get("LAMELLA_IN_GUEST") == "1"
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.fspath).parents:
            item.add_marker(pytest.mark.guest)
            if not inside:
                item.add_marker(pytest.mark.skip(reason="runs inside the guest: make test-guest"))
