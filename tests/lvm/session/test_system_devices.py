# SPDX-License-Identifier: Apache-2.0
"""A devices file with numbers that are none, which lvmdevices(8) does not write: they count as missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.lvm.session.system_devices import SystemDevices

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("number", "read"), [("5", 5), ("²", 0), ("9" * 5000, 0), ("", 0)])
def test_numbers(tmp_path: Path, number: str, read: int) -> None:
    path = tmp_path / "system.devices"
    path.write_text(
        f"VERSION=1.1.{number}\nIDTYPE=devname IDNAME=/dev/x DEVNAME=/dev/x PVID=p PART={number}\n", "utf-8"
    )
    found = SystemDevices.read(path)
    assert found.count == read
    assert [entry.part for entry in found.entries] == [read]
