# SPDX-License-Identifier: Apache-2.0
"""A disk that fails under direct requests is an error with its name, and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.errors import DeviceIOError

if TYPE_CHECKING:
    from pathlib import Path


def _fail(*_: object) -> int:
    raise OSError(5, "Input/output error")


def test_direct_requests_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(64 << 10))
    with FileDevice(path) as device:
        device.direct = True  # the requests are split and bounced as with O_DIRECT
        monkeypatch.setattr(os, "preadv", _fail)
        with pytest.raises(DeviceIOError) as caught:
            device.read(0, 4096)
        assert str(path) in caught.value.message
        monkeypatch.setattr(os, "pwritev", _fail)
        with pytest.raises(DeviceIOError):
            device.write(0, bytes(4096))
