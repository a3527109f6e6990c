# SPDX-License-Identifier: Apache-2.0
"""What is asked of the operating system for open files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella.block.system import write_all

if TYPE_CHECKING:
    import pytest


def test_all_is_written_however_little_the_system_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, bytes]] = []

    def write(descriptor: int, data: memoryview) -> int:
        written.append((descriptor, bytes(data[:3])))
        return min(3, len(data))

    monkeypatch.setattr(os, "write", write)
    write_all(7, b"12345678")
    assert written == [(7, b"123"), (7, b"456"), (7, b"78")]
