# SPDX-License-Identifier: Apache-2.0
"""A machine whose LVM2 uses a devices file: the store's disks are entered, so that LVM2 finds its group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.store import Store
from tests.lvm.differential.disks import Disks
from tests.lvm.differential.programs import real, real_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.user_engine


@pytest.fixture
def disks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disks]:
    made = Disks(tmp_path_factory.mktemp("disks"), 3)
    conf = made.etc / "lvm.conf"
    kept = conf.read_text().partition(" filter=")[0] + " }\n"  # it has no effect beside a devices file
    conf.write_text(kept.replace("use_devicesfile=0", "use_devicesfile=1"))
    (made.etc / "devices").mkdir()
    for name, value in made.around.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


def _listed(disks: Disks) -> dict[str, str]:
    """PVIDs by device."""
    text = (disks.etc / "devices" / "system.devices").read_text()
    words = [
        dict(word.split("=", 1) for word in line.split()) for line in text.splitlines() if "IDTYPE" in line
    ]
    return {each["DEVNAME"]: each["PVID"] for each in words}


def test_the_disks_of_a_store_are_entered(disks: Disks, tmp_path: Path) -> None:
    a, b, c = disks.devices
    listed = disks.etc / "devices" / "system.devices"
    listed.write_text(f"VERSION=1.1.7\nIDTYPE=loop_file IDNAME={disks.files[2]} DEVNAME={c} PVID=.\n")
    root = tmp_path / "root"
    options = [f"dm.directlvm_device={a}", "dm.basesize=64M"]

    Store.setup(root, mode="direct-lvm", storage_options=options, engine="user").close()
    assert list(_listed(disks)) == [c, a]
    assert _listed(disks)[c] == "."
    assert "VERSION=1.1.8" in listed.read_text()
    if real_version():
        said = real(["pvs", "--noheadings", "-o", "pv_name,vg_name,pv_device_id"], disks.around)
        assert said.out.split() == [a, "docker", str(disks.files[0])], (said, listed.read_text())
        assert "PVID" not in said.err
    Store.grow(root, disks=[b], data="+64M", engine="user")
    pvids = _listed(disks)
    assert list(pvids) == [c, a, b]
    assert len(pvids[b]) == len(pvids[a]) == 32
    Store.open(root, engine="user").teardown(force=True)
    assert _listed(disks) == {c: ".", a: ".", b: "."}  # as after pvremove, which leaves the entries


def test_without_a_devices_file_none_is_made(disks: Disks, tmp_path: Path) -> None:
    """It would hide every other disk."""
    options = [f"dm.directlvm_device={disks.devices[0]}", "dm.basesize=64M"]
    Store.setup(tmp_path / "root", mode="direct-lvm", storage_options=options, engine="user").close()
    assert not (disks.etc / "devices" / "system.devices").exists()
    Store.open(tmp_path / "root").teardown(force=True)
