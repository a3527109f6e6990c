# SPDX-License-Identifier: Apache-2.0
"""Which engine opens a pool, and what the engines without device nodes answer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from lamella.driver import engines, options
from lamella.driver.device_set import DeviceSet
from lamella.driver.loop_lvm.backend import LoopLvm
from lamella.driver.state import BASE, State
from lamella.driver.user_engine import InactivePoolReader, UserEngine
from lamella.errors import ReadOnlyError, UsageError
from tests.support.stores import SMALL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS = options.parse(list(SMALL), "loop-lvm")


class NoDevices:
    """Device-mapper without a device."""

    closed = 0

    def find(self, name: str) -> None:
        return None

    def close(self) -> None:
        NoDevices.closed += 1


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with contextlib.closing(State.create(tmp_path / "state.db")) as made:
        DeviceSet.create(made, LoopLvm(tmp_path), OPTIONS).close()
        yield made


def test_the_user_engine(tmp_path: Path, state: State) -> None:
    with contextlib.closing(DeviceSet.open(state, LoopLvm(tmp_path), OPTIONS)) as devices:
        assert type(devices.engine) is UserEngine
        assert devices.engine.description() == "user engine"
        assert not devices.in_kernel
        assert not devices.engine.is_suspended()
        for call in (devices.activate_pool, lambda: devices.activate(BASE), lambda: devices.deactivate(BASE)):
            with pytest.raises(UsageError, match="has no device nodes"):
                call()
        with pytest.raises(UsageError, match="has no device nodes"):
            devices.engine.resize_active(devices.get(BASE), 1 << 30)


def test_a_pool_that_is_not_active_is_read_without_activating_it(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamella.devicemapper.client.DeviceMapper", NoDevices)
    monkeypatch.setattr(NoDevices, "closed", 0)
    backend = LoopLvm(tmp_path)
    backend.engine = "kernel"
    left = tmp_path / "run" / "temporary" / "16777215"
    left.parent.mkdir(parents=True)
    left.touch()
    engine = engines.open_pool(state, backend, OPTIONS, read_only=True)
    with contextlib.closing(DeviceSet(state, backend, OPTIONS, engine)) as devices:
        assert type(engine) is InactivePoolReader
        assert NoDevices.closed == 1
        assert engine.description() == "kernel engine, the pool is not active"
        assert not devices.in_kernel
        assert engine.temporary_ids() == {0xFFFFFF}
        assert devices.unknown_devices() == ([], [])
        devices.verify_base()
        with devices.volume(BASE) as volume, pytest.raises(ReadOnlyError):
            volume.write(0, b"changed")
