# SPDX-License-Identifier: Apache-2.0
"""What is put right before and after a pool is opened, against a device-mapper in memory."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lamella.devicemapper.table import Thin, Zero
from lamella.driver import reconcile
from lamella.driver.device_names import device_name, pool_name
from lamella.driver.reconcile import sweep, wake
from lamella.driver.state import Device, State
from lamella.errors import BusyError
from lamella.thin.kernel import active_pool
from lamella.thin.kernel.guard import INTERNAL
from tests.lvm.activation.kernel_in_memory import MAJOR, FakeKernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.kernel_devices import KernelDevices

KNOWN, UNKNOWN = "1" * 64, "2" * 64


class Kernel(FakeKernel):
    """With a list, and names under a folder that stands for ``/dev/mapper``."""

    def list(self) -> list[tuple[str, int, int]]:
        return [(device.name, MAJOR, device.minor) for device in self.devices.values()]

    def put(self, name: str, *, thin: int = 0, uuid: str = "") -> None:
        self.create_with_table(name, [Thin(0, 8, pool=f"{MAJOR}:0", device_id=thin)], uuid or f"u-{name}")

    def create_with_table(self, name: str, table: Any, uuid: str = "", **_: Any) -> Any:
        self.create(name, uuid or f"u-{name}")
        self.load(name, table)
        return self.resume(name)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mapper"
    folder.mkdir()
    monkeypatch.setattr(reconcile, "DEV_MAPPER", folder)
    monkeypatch.setattr(reconcile, "make_name", lambda name, *_: (folder / name).touch())
    monkeypatch.setattr(reconcile, "drop_name", lambda name: (folder / name).unlink(missing_ok=True))
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with contextlib.closing(State.create(tmp_path / "state.db")) as made:
        with made.transaction():
            made.put_device(Device("base", 1, 4096, 0, initialized=True))
            made.put_device(Device(KNOWN, 2, 4096, 1))
        yield made


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """With the store's pool, and a device of somebody else's."""
    made = Kernel()
    made.create_with_table(pool_name(tmp_path), [Zero(0, 8)])
    made.create_with_table("vg-lv", [Zero(0, 8)])
    return made


def devices(kernel: Kernel, root: Path) -> KernelDevices:
    pool = SimpleNamespace(
        dm_name=pool_name(root), target=SimpleNamespace(data="7:0", metadata="7:1"), info=None
    )
    return cast("KernelDevices", SimpleNamespace(dm=kernel, root=root, pool=pool))


def woken(kernel: Kernel, root: Path, *, alone: bool = True) -> list[str]:
    kernel.calls.clear()
    wake(cast("DeviceMapper", kernel), root, pool_name(root), alone=alone)
    return [
        call.replace(str(device_name(root, KNOWN)), "X").replace(pool_name(root), "P")
        for call in kernel.calls
    ]


def test_wake(kernel: Kernel, tmp_path: Path) -> None:
    name = device_name(tmp_path, KNOWN)
    table = [Thin(0, 16, pool=f"{MAJOR}:0", device_id=2)]
    kernel.put(name, thin=2)
    assert woken(kernel, tmp_path) == []
    kernel.load(name, table)
    assert woken(kernel, tmp_path) == ["clear X"]
    kernel.load(name, table)
    kernel.suspend(name)
    kernel.suspend(pool_name(tmp_path))
    kernel.suspend("vg-lv")
    assert woken(kernel, tmp_path, alone=False) == ["resume P"]
    assert woken(kernel, tmp_path) == ["resume X"]
    assert kernel.devices[f"u-{name}"].live[0].length == 16
    assert woken(kernel, tmp_path) == []
    assert kernel.devices["u-vg-lv"].suspended  # not ours
    kernel.remove(name)
    kernel.create(name, f"u-{name}")
    assert woken(kernel, tmp_path) == ["remove X"]
    kernel.create(name, f"u-{name}")
    kernel.load(name, table)
    assert woken(kernel, tmp_path) == ["remove X"]


def test_a_suspended_pool_of_lvms_is_not_ours_to_resume(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_pool, "SUSPEND_TIMEOUT", 0)
    kernel.suspend("vg-lv")
    with pytest.raises(BusyError, match="vg-lv is suspended") as caught:
        wake(cast("DeviceMapper", kernel), tmp_path, "vg-lv", alone=True)
    assert "dmsetup resume vg-lv" in str(caught.value.hint)
    assert kernel.devices["u-vg-lv"].suspended


def test_a_command_of_lvms_is_waited_for(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.suspend("vg-lv")
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            kernel.resume("vg-lv")

    monkeypatch.setattr("time.sleep", sleep)
    wake(cast("DeviceMapper", kernel), tmp_path, "vg-lv", alone=True)
    assert len(waited) == 3


def test_sweep(
    kernel: Kernel, tmp_path: Path, state: State, names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unknown, base = (device_name(tmp_path, each) for each in (KNOWN, UNKNOWN, "base"))
    other = device_name(tmp_path, "device-9")
    kernel.put(known, thin=2)
    kernel.put(unknown, thin=3)
    kernel.put(base, thin=7)  # another device than the base
    kernel.put(other, thin=9, uuid=f"{INTERNAL}x")
    for name in (unknown, base, device_name(tmp_path, "3" * 64), "vg-lv", "vg-gone"):
        (names / name).touch()
    assert sweep(devices(kernel, tmp_path), state) == []
    assert {device.name for device in kernel.devices.values()} == {
        pool_name(tmp_path),
        "vg-lv",
        known,
        other,
    }
    assert {path.name for path in names.iterdir()} == {known, "vg-lv", "vg-gone"}
    kernel.put(unknown, thin=3)
    kernel.devices[f"u-{unknown}"].mounted = True
    monkeypatch.setattr(reconcile.holders, "holders", lambda *_: [])
    [warning] = sweep(devices(kernel, tmp_path), state)
    assert warning.startswith(f"device {unknown} is active though state.db has no such device, and in use: ")
    assert kernel.find(unknown) is not None


def test_a_pool_file_on_a_second_loop_device(
    kernel: Kernel, tmp_path: Path, state: State, names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "data").touch()
    found = [SimpleNamespace(path="/dev/null"), SimpleNamespace(path="/dev/zero")]
    monkeypatch.setattr("lamella.block.loop.find", lambda path: found)
    pool = devices(kernel, tmp_path)
    pool.pool.target.data = "7:3"  # the minor number of /dev/null
    [warning] = sweep(pool, state)
    assert f"{tmp_path}/pool/data is attached to /dev/zero as well" in warning
    assert "losetup -d /dev/zero" in warning
