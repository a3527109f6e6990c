# SPDX-License-Identifier: Apache-2.0
"""Links ``/dev/VG/LV`` made and removed: what LVM2 2.03.16 was seen to do and say, with udev and without."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.errors import LamellaError
from lamella.lvm.activation import device_changes, links
from lamella.lvm.activation.links import ABSENT, STALE, WRONG, mend_link
from lamella.lvm.format.group_reader import read_group
from tests.support.fake_kernel import fake_kernel

if TYPE_CHECKING:
    from lamella.devicemapper.device import DeviceInfo
    from lamella.lvm.format.model import VolumeGroup

TEXT = Path(__file__).with_name("thin.vg").read_text()
pytestmark = pytest.mark.usefixtures("no_system")


@pytest.fixture(params=[True, False], ids=["udev", "no udev"])
def udev(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(links, "udev_runs", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def group() -> VolumeGroup:
    return read_group(TEXT)


def _info(name: str) -> DeviceInfo:
    with fake_kernel() as kernel:
        kernel.add(name, "", [])
        return kernel.client.info(name)


def _mend(group: VolumeGroup, name: str, *, active: bool) -> list[str]:
    said: list[str] = []
    info = _info(f"{group.name}-{name}") if active else None
    mend_link(group, group.lvs[name], info, said.append)
    return said


def test_links_of_active_volumes(group: VolumeGroup, udev: bool) -> None:
    path = device_changes.DEV / group.name / "t1"
    assert _mend(group, "t1", active=True) == [ABSENT.format(path)] * udev
    assert os.readlink(path) == f"/dev/mapper/{group.name}-t1"
    path.unlink()
    path.symlink_to("/dev/null")
    assert _mend(group, "t1", active=True) == [WRONG.format(path)] * udev
    assert os.readlink(path) == f"/dev/mapper/{group.name}-t1"


def test_links_of_inactive_volumes(group: VolumeGroup, udev: bool) -> None:
    folder = device_changes.DEV / group.name
    folder.mkdir()
    for name in ("t1", "t2"):
        (folder / name).symlink_to("/dev/null")
    assert _mend(group, "t1", active=False) == [STALE.format(folder / "t1")] * udev
    assert os.listdir(folder) == ["t2"]
    assert _mend(group, "t2", active=False) == [STALE.format(folder / "t2")] * udev
    assert not folder.exists()
    assert _mend(group, "t2", active=False) == []


def test_hidden_volumes_and_pools_with_thin_volumes_get_none(group: VolumeGroup) -> None:
    hidden = next(name for name, lv in group.lvs.items() if not group.is_visible(lv))
    for name in (hidden, "pool"):
        assert _mend(group, name, active=True) == []
    assert not (device_changes.DEV / group.name).exists()


@pytest.mark.parametrize("active", [True, False])
def test_what_is_no_link_stays(group: VolumeGroup, active: bool) -> None:
    path = device_changes.DEV / group.name / "t1"
    path.parent.mkdir()
    path.write_text("kept")
    with pytest.raises(LamellaError) as caught:
        _mend(group, "t1", active=active)
    assert caught.value.message == (
        f"Symbolic link /dev/mapper/{group.name}-t1 not created: file exists"
        if active
        else f"{path} not symbolic link - not removing"
    )
    assert path.read_text() == "kept"
